"""The prompt source `qwen`: its options and checks, its session, the forecast of its cost."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, SecretStr

from maskmill import NO_EFFECT, Image, ImageRef, PipelineError, Problem, Prompt, PromptSource
from maskmill.files import quote_command
from maskmill.plugins.stage import ONLY_IF_SET, Network, digest, run_folder
from maskmill_plugins._shared.http.addresses import classify_network
from maskmill_plugins._shared.http.connections import HttpPackage, check_certificate, check_proxies

from .asking.conversation import Conversation, Reporter
from .asking.question_plan import USUAL_GRID, QuestionPlan, make_schema, plan_questions, resolve_coordinates
from .asking.questions import LATEST, Wording
from .calls.answer_store import AnswerStore, find_answers_folder
from .calls.client import RetryingClient, create_client
from .calls.endpoint import DEFAULT_REGION, Endpoint, Provider, resolve_endpoint
from .calls.rate_limits import RateLimiter
from .coordinates.families import DEFAULT_MODEL
from .cost.budget import Budget, BudgetReservation, read_usage
from .cost.token_estimate import TokenStats
from .forecast import CostForecast, describe_many_calls, forecast_cost

Text = Annotated[str, Field(min_length=1)]
#: SDK versions whose retries cannot be switched off.
TOO_OLD: Mapping[Provider, tuple[str, ...]] = {"dashscope": ("0.", "1."), "openai": ("0.",)}
#: Latest answers whose tokens are averaged.
RECENT = 500


class Qwen(PromptSource):
    """Asks a Qwen model to locate the objects you name."""

    extra: ClassVar[str] = "qwen"
    waits: ClassVar[bool] = True
    always_answers: ClassVar[bool] = True
    network: ClassVar[Network] = "internet"

    find: Annotated[list[Text], Field(min_length=1)] | Annotated[dict[Text, Text], Field(min_length=1)] | Text = Field(
        description="what to look for: class names, class names with a description each, or one sentence"
    )
    as_: Literal["boxes", "points"] = Field(
        "boxes", alias="as", description="what to ask for: a box or a point for each object"
    )
    one_class_per_call: bool = Field(
        True,
        description="ask one question per class, as the Qwen team advises; false: one question for all classes",
    )
    model: Text = Field(DEFAULT_MODEL, description="name of the model on the server")
    provider: Provider = Field(
        "dashscope", description="dashscope: Alibaba's own API; openai: any server with OpenAI's API, such as Ollama"
    )
    region: Text | None = Field(
        None,
        description=f"Alibaba region of the key; {DEFAULT_REGION} if left out; WORKSPACE.REGION for the newer hosts",
        json_schema_extra=NO_EFFECT,
    )
    base_url: Text | None = Field(
        None, description="address of the server, instead of `region`", json_schema_extra=NO_EFFECT
    )
    api_key: SecretStr | None = Field(
        None,
        description="${VARIABLE}; if left out: DASHSCOPE_API_KEY from the environment, for Alibaba's own hosts only",
        json_schema_extra=NO_EFFECT,
    )
    blind: bool = Field(False, description="send no image: the model guesses from the image's size alone")
    thinking: bool = Field(False, description="let the model think before it answers")
    coords: Literal["auto", "rel1000", "abs_sent", "abs_original"] = Field(
        "auto",
        description="what the model's coordinates mean; auto: by its name; `maskmill qwen calibrate` finds it out",
    )
    prompt_template: Text | None = Field(None, description="text of the question, instead of the built-in one")
    wording: Wording = Field(
        LATEST,
        description="version of the built-in questions: 1, for which earlier results and stored answers stay valid, or"
        " 2, which states key, order and unit",
        json_schema_extra=ONLY_IF_SET,
    )
    max_pixels: int | None = Field(
        None,
        ge=4096,
        description="most pixels of an image as sent; if left out: 1,280 tokens, for most models 1,310,720 pixels",
        json_schema_extra=ONLY_IF_SET,
    )
    response_format: Literal["text", "json_schema"] = Field(
        "text",
        description="json_schema: let the server hold the answer to a JSON schema; for `provider: openai`, if the"
        " server supports it",
        json_schema_extra=ONLY_IF_SET,
    )
    max_tokens: int = Field(
        4096, ge=1, description="limit of one answer; a longer one is cut off, and its complete objects are used"
    )
    concurrency: int = Field(
        4, ge=1, le=64, description="calls at the same time, in the whole run", json_schema_extra=NO_EFFECT
    )
    rpm: int | None = Field(None, ge=1, description="maximum calls per minute", json_schema_extra=NO_EFFECT)
    tpm: int | None = Field(None, ge=1, description="maximum tokens per minute", json_schema_extra=NO_EFFECT)
    timeout: float = Field(
        120.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds to wait for one whole answer",
        json_schema_extra=NO_EFFECT,
    )
    ca: Path | None = Field(
        None,
        description="certificate (PEM) of the authority that signed the server's, if the system does not have it",
        json_schema_extra=NO_EFFECT,
    )
    budget: Budget | None = Field(
        None,
        description="limit for all runs into this output: calls, tokens, or cost with input_price and output_price per"
        " million tokens",
        json_schema_extra=NO_EFFECT,
    )
    cache: bool | Path = Field(
        True,
        description="store answers on disk; true: in the user's cache folder, or a folder; false: not at all",
        json_schema_extra=NO_EFFECT,
    )

    _session: _Session | None = PrivateAttr(None)
    _folder: Path | None = PrivateAttr(None)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def reaches(self) -> Network:
        """Return the network of the server's address."""
        try:
            return classify_network(self.resolve_endpoint().url)
        except PipelineError:  # no key: one of Alibaba's hosts
            return "internet"

    def missing(self) -> list[Problem]:
        """Return a problem if the provider's SDK is missing or too old."""
        if importlib.util.find_spec(self.provider) is None:
            return [self._missing(self.provider)]
        if (version := importlib.metadata.version(self.provider)).startswith(TOO_OLD[self.provider]):
            text = f"needs a newer version of the package {self.provider!r}, found {version}"
            return [Problem(text, hint=f'pip install -U "maskmill[{self.extra}]"')]
        return []

    def check(self) -> list[Problem]:
        """Check the key, the address, the way to it, the meaning of the model's coordinates, and the template."""
        found = check_certificate(self.ca)
        for build in (self.resolve_endpoint, self.build_plan):
            try:
                build()
            except PipelineError as error:
                found += [problem for problem in error.problems if problem not in found]
        if not found:
            package: HttpPackage = "httpx" if self.provider == "openai" else "requests"
            found = check_proxies(self.resolve_endpoint().url, package)
        return found

    def kinds(self) -> frozenset[str]:
        """Return box or points, by the option `as`."""
        return frozenset({"box" if self.as_ == "boxes" else "points"})

    def at_once(self) -> int:
        """Return as many images as calls at the same time."""
        return self.concurrency

    def fingerprint(self, ref: ImageRef) -> str:
        """Return a digest of the options and the version of the wordings, the same for every image."""
        return self._options_digest

    @cached_property
    def _options_digest(self) -> str:
        usual = self.model_copy(update={"wording": LATEST})  # the version is the second part
        return digest([usual.digest(), self._wording])

    @property
    def _wording(self) -> Wording:
        """The version of the question; the user's own and those without an image have one only."""
        return 1 if self.blind or self.prompt_template is not None else self.wording

    def resolve_endpoint(self) -> Endpoint:
        """Return the server to query, with its key.

        Raises:
            PipelineError: the key is missing, or the address is invalid.
        """
        key = None if self.api_key is None else self.api_key.get_secret_value()
        return resolve_endpoint(self.provider, self.base_url, self.region, key)

    def build_plan(self) -> QuestionPlan:
        """Return what is the same for all images.

        Raises:
            PipelineError: the meaning of the model's coordinates is not known, or the template is invalid.
        """
        calibration = self._calibration_command()
        family, coords = resolve_coordinates(self.model, self.coords, self.blind, calibration)
        classes, questions = plan_questions(
            self.find,
            self.as_,
            self.blind,
            self.one_class_per_call,
            self.prompt_template,
            self._wording,
            coords == "rel1000",
        )
        return QuestionPlan(
            endpoint=self.resolve_endpoint(),
            model=self.model,
            blind=self.blind,
            coords=coords,
            grid=USUAL_GRID if family is None else family.grid,
            multimodal=family is None or family.api == "multimodal",
            wanted=self.as_,
            classes=classes,
            questions=questions,
            max_tokens=self.max_tokens,
            thinking=self.thinking,
            wording=self._wording,
            max_pixels=self.max_pixels,
            schema=self._make_schema(classes),
            calibration=calibration,
        )

    def _calibration_command(self) -> str:
        """Return the command that finds out what this model's coordinates mean, on the same server."""
        parts = ["maskmill", "qwen", "calibrate", "--model", self.model]
        for option, value in {
            "--provider": self.provider if "provider" in self.model_fields_set else None,
            "--base-url": self.base_url,
            "--region": self.region,
            "--ca": self.ca,
            "--key-variable": "NAME_OF_THE_KEY_VARIABLE" if self.api_key is not None else None,
        }.items():
            parts += [] if value is None else [option, str(value)]
        return quote_command(parts)

    def _make_schema(self, classes: Mapping[str, str]) -> Mapping[str, Any] | None:
        """Return the schema of the option `response_format`.

        Raises:
            PipelineError: the questions asked have none.
        """
        if self.response_format == "text":
            return None
        if self.provider != "openai" or self.blind or self.prompt_template is not None:
            text = "`response_format: json_schema` needs `provider: openai` and a built-in question about an image"
            raise PipelineError(Problem(text, hint="leave out `response_format`"))
        return make_schema(self.as_, None if isinstance(self.find, str) else list(classes))

    def open(self) -> None:
        """Remember the run's folder; connections are opened with the first question, since workers never ask one."""
        self._folder = run_folder()

    def close(self) -> None:
        """Close connections and files."""
        with self._lock:
            if self._session is not None:
                self._session.close()
            self._session = None

    def prompts(self, image: Image) -> list[Prompt]:
        """Return what the model finds in an image.

        Raises:
            ImageError: there is no reply about this image, or no readable one.
            StopRun: there can be no reply about any image: invalid key, spent budget, unknown model.
        """
        report = Reporter(self.note, self.doubt, lambda line: self.tell(f"{image.ref.key}: {line}"))
        return self._get_session().conversation.find_prompts(image, report)

    def forecast(self, refs: Sequence[ImageRef], output: Path) -> list[str]:
        """Return lines on calls, stored answers, tokens and cost."""
        return self._forecast_cost(refs).format_lines(self.budget or Budget(), read_usage(output))

    def objection(self, refs: Sequence[ImageRef], output: Path) -> str:
        """Return a message if the run needs many calls and has no budget."""
        classes = len(self.build_plan().questions)
        if (self.budget and self.budget.has_limits) or not describe_many_calls(len(refs), classes, 0):
            return ""
        answered = self._forecast_cost(refs).answered if self._has_answers() else 0
        return describe_many_calls(len(refs), classes, answered)

    def _forecast_cost(self, refs: Sequence[ImageRef]) -> CostForecast:
        with closing(self._open_answers()) as answers:
            return forecast_cost(refs, self.build_plan(), answers, self._read_token_stats(answers))

    def _has_answers(self) -> bool:
        with closing(self._open_answers()) as answers:
            return any(model == self.model for model, *_ in answers.list_models())

    def _open_answers(self) -> AnswerStore:
        if self.cache is False:
            return AnswerStore(None)
        return AnswerStore(find_answers_folder(None if self.cache is True else self.cache))

    def _read_token_stats(self, answers: AnswerStore) -> TokenStats:
        latest = answers.list_latest(RECENT)
        return TokenStats.from_counts([reply.output_tokens for _, model, _, reply in latest if model == self.model])

    def _get_session(self) -> _Session:
        """Return the session, opened with the first question: workers never ask one."""
        with self._lock:
            if self._session is None:
                self._session = self._open_session()
            return self._session

    def _open_session(self) -> _Session:
        plan, answers = self.build_plan(), self._open_answers()
        limiter = RateLimiter(self.concurrency, self.rpm, self.tpm)
        reservation = BudgetReservation(self.budget or Budget(), self._folder)
        provider_client = create_client(plan.endpoint, self.timeout, self.concurrency, self.ca)
        client = RetryingClient(provider_client, plan.endpoint, limiter, reservation)
        conversation = Conversation(plan, client, answers, self._read_token_stats(answers))
        return _Session(conversation, client, answers, reservation)


@dataclass(frozen=True)
class _Session:
    """What is open while images are queried."""

    conversation: Conversation
    client: RetryingClient
    answers: AnswerStore
    reservation: BudgetReservation

    def close(self) -> None:
        for part in (self.client, self.answers, self.reservation):
            part.close()
