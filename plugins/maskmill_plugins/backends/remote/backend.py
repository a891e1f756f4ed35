"""The stage: options, checks, and an image's prompts on their way to a server and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, PrivateAttr, SecretStr, ValidationError

from maskmill import (
    NO_EFFECT,
    Backend,
    Image,
    ImageError,
    Mask,
    PipelineError,
    Problem,
    Prompt,
    StopRun,
    hookimpl,
)
from maskmill.plugins.stage import Network, digest
from maskmill_plugins._shared.http.reach import reach
from maskmill_plugins._shared.http.wire import TOKEN_VARIABLE, MasksRequest, ModelInfo, Multimask, PromptModel

from .client import Server
from .connection import ca_problems, connected, token_problems
from .forms import Compress, forms
from .messages import address_problem, judged
from .pool import Pool
from .troubles import Faulty, UnknownImage

if TYPE_CHECKING:
    import httpx

Text = Annotated[str, Field(min_length=1)]
#: Times that a server may lose one image between its upload and the question.
LOSSES = 3
#: Fields of a prompt that a server needs; labels and scores stay here.
DECIDING = ("points", "box", "text", "grid", "pick")


class Remote(Backend):
    """Has the masks computed by a SAM server, `maskmill serve`, on another machine: the same masks as there."""

    requires: ClassVar[tuple[str, ...]] = ("httpx",)
    extra: ClassVar[str] = "remote"
    network: ClassVar[Network] = "lan"

    url: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="address of the server, such as http://gpu-box:5000, or a list of them: the work is spread over"
        " those that answer; all must serve the same model",
        json_schema_extra=NO_EFFECT,  # what computes counts, by the server's own word, not where
    )
    token: SecretStr | None = Field(
        None,
        description=f"what the server was started with, as ${{VARIABLE}}; left out: {TOKEN_VARIABLE} from the"
        " environment, if it is set",
        json_schema_extra=NO_EFFECT,
    )
    multimask: Multimask | None = Field(
        None, description="as of the backend `sam`, where the server's backend has it; left out: as the server has it"
    )
    compress: Compress = Field(
        "none",
        description="none: the image's own file is sent; png: its pixels, without loss, which is what to take if the"
        " server decodes files otherwise; jpeg: fewer bytes of a large PNG or TIFF, and masks that differ",
    )
    patience: float = Field(
        300.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds to wait while no server answers, before the run stops; it can be taken up again",
        json_schema_extra=NO_EFFECT,
    )
    timeout: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="seconds for one answer; left out: as long as the server takes at most",
        json_schema_extra=NO_EFFECT,
    )
    ca: Path | None = Field(
        None,
        description="certificate (PEM) that the server's is signed with, where the system does not know it",
        json_schema_extra=NO_EFFECT,
    )

    _http: Any = PrivateAttr(None)
    _pool: Pool | None = PrivateAttr(None)
    _model: ModelInfo | None = PrivateAttr(None)

    def urls(self) -> list[str]:
        """The addresses, each once, without a slash at their ends."""
        given = [self.url] if isinstance(self.url, str) else self.url
        return list(dict.fromkeys(url.strip().rstrip("/") for url in given))

    def reaches(self) -> Network:
        """How far it is to the farthest server."""
        return max((reach(url) for url in self.urls()), key=("none", "lan", "internet").index)

    def check(self) -> list[Problem]:
        """The addresses must make sense, and a server be there that can be used."""
        problems = [problem for url in self.urls() if (problem := address_problem(url))]
        problems += ca_problems(self.ca) + token_problems(self._secret(), self.urls())
        if any(not problem.warning for problem in problems):
            return problems
        with self._connected() as http:
            answers = self._pool_over(http).survey()
        found, self._model = judged(answers, self.multimask, self.compress)
        return problems + found

    def accepts(self) -> frozenset[str]:
        """What the server's backend takes.

        Raises:
            PipelineError: no server says so.
        """
        return frozenset(self._asked().accepts)

    def model_id(self) -> str:
        """What computes, by the server's word; of `sam` the SHA-256 of the checkpoint.

        Raises:
            PipelineError: no server says so.
        """
        return self._asked().model_id

    def digest(self) -> str:
        """Of the options here, and of those that the server's backend was started with."""
        info = self._asked()
        return digest([super().digest(), info.backend, info.digest])

    def open(self) -> None:
        """Get ready to send; waits for a server if there is none just now.

        Raises:
            PipelineError: none answers in time, or one refuses this client.
        """
        self._http = self._connected()
        self._pool = self._pool_over(self._http)
        try:
            self._model = self._pool.model()
        except (StopRun, ImageError) as error:
            self.close()
            raise PipelineError(str(error)) from None

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()
        self._http = self._pool = None

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """The server's masks, in its order, each with its prompt of these.

        Raises:
            ImageError: the server refuses the image or a prompt, or fails at it again and again; in its words.
            StopRun: no server answers for longer than `patience`, or one has another model than the run began with.
        """
        if self._pool is None:
            raise RuntimeError("open() must come before the first image")
        most = self._asked().limits.prompts
        found: list[Mask] = []
        for start in range(0, len(prompts), most):
            part = prompts[start : start + most]
            request = MasksRequest(prompts=_sendable(part), multimask=self.multimask)
            found += self._pool.ask(image.sha256, partial(self._put, image, part, request))
        return found

    def _put(self, image: Image, prompts: Sequence[Prompt], request: MasksRequest, server: Server) -> list[Mask]:
        """One request for masks, and before it what makes the server know the image."""
        for _ in range(LOSSES):
            held = self._held(image, server)
            try:
                reply = server.masks(held, request)
                return [mask.to_mask(prompts) for mask in reply.masks]
            except UnknownImage:  # it made room, or is another process by now
                server.forget(held)
            except ValueError as error:
                raise Faulty(f"{server.url}: {error}") from None
        raise Faulty(f"{server.url} loses the image as soon as it has it; is its memory for images too small?")

    def _held(self, image: Image, server: Server) -> str:
        """The id under which the server has the image, sent to it if need be."""
        pool = self._pool
        assert pool is not None, "masks() has a pool"
        for form in forms(image, self.compress):
            if server.remembers(form.id):
                return form.id
            limits = pool.verify(server).limits  # between two images it may have been started anew
            if server.knows(form.id):
                return form.id
            data = form.data()
            if image.height * image.width > limits.image_pixels:
                raise ImageError(f"{server.url} takes images of {limits.image_pixels} pixels at most")
            if data is None or len(data) > limits.image_bytes:
                continue
            info = server.upload(form.id, data)
            if (info.height, info.width) != image.size:
                text = f"{server.url} reads the image as {info.width}×{info.height} pixels, here it has"
                raise ImageError(f"{text} {image.width}×{image.height}; `compress: png` sends the pixels themselves")
            self.tell(f"{image.ref.key}: {len(data)} bytes sent to {server.url}")
            return form.id
        raise ImageError(f"{server.url} takes images of {limits.image_bytes} bytes at most")

    def _asked(self) -> ModelInfo:
        """What the servers say; asked once."""
        if self._model is None:
            problems = [problem for problem in self.check() if not problem.warning]
            if problems or self._model is None:
                raise PipelineError(*problems)
        return self._model

    def _pool_over(self, http: httpx.Client) -> Pool:
        servers = [Server(url, http, self._secret(), self.timeout) for url in self.urls()]
        return Pool(servers, self.patience, self.tell)

    def _connected(self) -> httpx.Client:
        return connected(self._secret(), self.ca, through_proxies=self.reaches() == "internet")

    def _secret(self) -> str | None:
        given = self.token.get_secret_value() if self.token is not None else os.environ.get(TOKEN_VARIABLE, "")
        return None if given.strip() in ("", "none") else given.strip()


def _sendable(prompts: Sequence[Prompt]) -> list[PromptModel]:
    """What of the prompts decides the masks, as it travels."""
    try:
        plain = [prompt.to_json() for prompt in prompts]
        return [PromptModel(**{name: one[name] for name in DECIDING if name in one}) for one in plain]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ImageError(f"a prompt that no server takes: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `remote`."""
    register("remote", Remote)
