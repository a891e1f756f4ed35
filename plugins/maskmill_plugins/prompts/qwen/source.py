"""The stage: options, checks, what is kept open, what a run will cost."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, SecretStr

from maskmill import NO_EFFECT, Image, ImageRef, PipelineError, Problem, Prompt, PromptSource
from maskmill.plugins.stage import Network, digest, run_folder
from maskmill_plugins._shared.http.reach import reach

from .asking.conversation import Conversation
from .asking.question_plan import USUAL_GRID, Terms, asks_of, known_family
from .asking.questions import VERSION as WORDING
from .calls.answer_store import Answers, answers_folder
from .calls.client import Caller, client_for
from .calls.rate_limits import Limits
from .calls.servers import DEFAULT_REGION, Provider, Server, server_for
from .coordinates.families import DEFAULT_MODEL
from .cost.budget import Budget, Purse, spent_in
from .cost.forecast import Foreseen, foreseen, many_calls
from .cost.token_estimate import Habits

Text = Annotated[str, Field(min_length=1)]
#: Versions of the SDKs that cannot be told to post once.
TOO_OLD: Mapping[Provider, tuple[str, ...]] = {"dashscope": ("0.", "1."), "openai": ("0.",)}
#: What a model's answers usually take is learned from so many of the latest answers.
RECENT = 500


class Qwen(PromptSource):
    """Asks a Qwen model where the things are that you name."""

    requires: ClassVar[tuple[str, ...]] = ("tenacity",)
    extra: ClassVar[str] = "qwen"
    waits: ClassVar[bool] = True
    network: ClassVar[Network] = "internet"

    find: Annotated[list[Text], Field(min_length=1)] | Annotated[dict[Text, Text], Field(min_length=1)] | Text = Field(
        description="what to look for: class names, class names with a description each, or one sentence"
    )
    as_: Literal["boxes", "points"] = Field("boxes", alias="as", description="what to ask for: a box or a point each")
    one_class_per_call: bool = Field(
        True,
        description="ask for each class by itself, as the models' makers advise; false: for all at once",
    )
    model: Text = Field(DEFAULT_MODEL, description="its name at the server")
    provider: Provider = Field(
        "dashscope", description="dashscope: Alibaba's own interface; openai: any server with OpenAI's, such as Ollama"
    )
    region: Text | None = Field(
        None,
        description=f"of Alibaba's endpoint, which the key belongs to; {DEFAULT_REGION} when left out;"
        " WORKSPACE.REGION for the newer endpoints",
        json_schema_extra=NO_EFFECT,
    )
    base_url: Text | None = Field(
        None, description="address of the server, instead of a region's", json_schema_extra=NO_EFFECT
    )
    api_key: SecretStr | None = Field(
        None,
        description="${VARIABLE}; left out: DASHSCOPE_API_KEY from the environment, for Alibaba's own hosts only",
        json_schema_extra=NO_EFFECT,
    )
    blind: bool = Field(False, description="send no picture: a model of text alone guesses from its size")
    thinking: bool = Field(False, description="let the model think before it answers")
    coords: Literal["auto", "rel1000", "abs_sent", "abs_original"] = Field(
        "auto", description="what the model's coordinates mean; auto: by its name; `maskmill qwen calibrate` finds out"
    )
    prompt_template: Text | None = Field(None, description="the question's text, instead of the built-in one")
    max_tokens: int = Field(
        4096, ge=1, description="of one answer; a longer one is cut off, and read as far as it goes"
    )
    concurrency: int = Field(
        4, ge=1, le=64, description="calls under way at once, over the whole run", json_schema_extra=NO_EFFECT
    )
    rpm: int | None = Field(None, ge=1, description="calls a minute at most", json_schema_extra=NO_EFFECT)
    tpm: int | None = Field(None, ge=1, description="tokens a minute at most", json_schema_extra=NO_EFFECT)
    timeout: float = Field(
        120.0, gt=0, allow_inf_nan=False, description="seconds for one answer", json_schema_extra=NO_EFFECT
    )
    budget: Budget | None = Field(
        None,
        description="what this output may cost, over all its runs: calls, tokens, or cost with input_price and"
        " output_price of a million tokens",
        json_schema_extra=NO_EFFECT,
    )
    cache: bool | Path = Field(
        True,
        description="keep answers on disk: true: in this user's cache folder, or a folder; false: no",
        json_schema_extra=NO_EFFECT,
    )

    _open: _Open | None = PrivateAttr(None)
    _folder: Path | None = PrivateAttr(None)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def reaches(self) -> Network:
        """How far it reaches: by the address of its server."""
        try:
            return reach(self.server().url)
        except PipelineError:  # no key: an address of Alibaba's
            return "internet"

    def missing(self) -> list[Problem]:
        """The SDK of the provider, not too old, and what waits between two tries."""
        packages = (self.provider, *self.requires)
        found = [self._missing(name) for name in packages if importlib.util.find_spec(name) is None]
        if not found and (have := importlib.metadata.version(self.provider)).startswith(TOO_OLD[self.provider]):
            text = f"needs a newer package {self.provider!r} than {have}"
            found.append(Problem(text, hint=f'pip install -U "maskmill[{self.extra}]"'))
        return found

    def check(self) -> list[Problem]:
        """There must be a key, an address, a model whose coordinates are known, and a template that fits."""
        found: list[Problem] = []
        for attempt in (self.server, self.terms):
            try:
                attempt()
            except PipelineError as error:
                found += [problem for problem in error.problems if problem not in found]
        return found

    def kinds(self) -> frozenset[str]:
        """Boxes, or points."""
        return frozenset({"box" if self.as_ == "boxes" else "points"})

    def at_once(self) -> int:
        """As many images as calls."""
        return self.concurrency

    def fingerprint(self, ref: ImageRef) -> str:
        """The same for every image: the options, and the versions of questions and reading."""
        return self._digest_of_all

    @cached_property
    def _digest_of_all(self) -> str:
        return digest([self.digest(), WORDING])

    def server(self) -> Server:
        """Who is asked, with the key.

        Raises:
            PipelineError: there is no key, or no such address.
        """
        key = None if self.api_key is None else self.api_key.get_secret_value()
        return server_for(self.provider, self.base_url, self.region, key)

    def terms(self) -> Terms:
        """What is the same for all images.

        Raises:
            PipelineError: the model's coordinates are not known, or the template does not fit.
        """
        classes, asks = asks_of(self.find, self.as_, self.blind, self.one_class_per_call, self.prompt_template)
        family, coords = known_family(self.model, self.coords, self.blind)
        return Terms(
            server=self.server(),
            model=self.model,
            blind=self.blind,
            coords=coords,
            grid=USUAL_GRID if family is None else family.grid,
            multimodal=family is None or family.endpoint == "multimodal",
            wanted=self.as_,
            classes=classes,
            asks=asks,
            max_tokens=self.max_tokens,
            thinking=self.thinking,
        )

    def open(self) -> None:
        """Remember the run's folder; nothing else, since workers open it too and never ask."""
        self._folder = run_folder()

    def close(self) -> None:
        """Let go of connections and files."""
        with self._lock:
            if self._open is not None:
                self._open.close()
            self._open = None

    def prompts(self, image: Image) -> list[Prompt]:
        """What the model finds in an image.

        Raises:
            ImageError: it gives no answer about this image, or none that can be read.
            StopRun: it gives none at all: a bad key, a spent budget, a model that is gone.
        """
        return self._opened().conversation.prompts(image, self.note, lambda line: self.tell(f"{image.ref.key}: {line}"))

    def forecast(self, refs: Sequence[ImageRef], output: Path) -> list[str]:
        """Calls, answers that are there already, tokens and cost."""
        return self._foreseen(refs).lines(self.budget or Budget(), spent_in(output))

    def objection(self, refs: Sequence[ImageRef], output: Path) -> str:
        """Many calls without a budget."""
        classes = len(self.terms().asks)
        if (self.budget and self.budget.limits) or not many_calls(len(refs), classes, 0):
            return ""
        answered = self._foreseen(refs).answered if self._has_answers() else 0
        return many_calls(len(refs), classes, answered)

    def _foreseen(self, refs: Sequence[ImageRef]) -> Foreseen:
        answers = self._answers()
        try:
            return foreseen(refs, self.terms(), answers, self._habits(answers))
        finally:
            answers.close()

    def _has_answers(self) -> bool:
        answers = self._answers()
        try:
            return any(model == self.model for model, *_ in answers.models())
        finally:
            answers.close()

    def _answers(self) -> Answers:
        if self.cache is False:
            return Answers(None)
        return Answers(answers_folder(None if self.cache is True else self.cache))

    def _habits(self, answers: Answers) -> Habits:
        return Habits.of([reply for _, model, _, reply in answers.latest(RECENT) if model == self.model])

    def _opened(self) -> _Open:
        """What asking needs, made when the first question is asked: workers never ask."""
        with self._lock:
            if self._open is None:
                self._open = self._made()
            return self._open

    def _made(self) -> _Open:
        terms, answers = self.terms(), self._answers()
        limits = Limits(self.concurrency, self.rpm, self.tpm)
        purse = Purse(self.budget or Budget(), self._folder)
        caller = Caller(client_for(terms.server, self.timeout, self.concurrency), terms.server, limits, purse)
        return _Open(Conversation(terms, caller, answers, self._habits(answers)), caller, answers, purse)


@dataclass(frozen=True)
class _Open:
    """What is open while images are asked about."""

    conversation: Conversation
    caller: Caller
    answers: Answers
    purse: Purse

    def close(self) -> None:
        for part in (self.caller, self.answers, self.purse):
            part.close()
