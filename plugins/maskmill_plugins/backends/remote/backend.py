"""The backend `remote`: its options and checks, and the requests for masks."""

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
from maskmill_plugins._shared.http.addresses import classify_network
from maskmill_plugins._shared.http.connections import check_certificate, check_proxies
from maskmill_plugins._shared.http.wire import TOKEN_VARIABLE, MasksRequest, ModelInfo, Multimask, PromptModel

from .checks import check_servers, check_token, check_url
from .client import BadReply, SamClient, UnknownImage, open_http_client
from .pool import ServerPool
from .upload import Compress, upload_image

if TYPE_CHECKING:
    import httpx

Text = Annotated[str, Field(min_length=1)]
#: Times that an image is uploaded if the server drops it before computing its masks.
UPLOADS = 3
#: Fields of a prompt that a server needs; labels and scores are not sent.
SENT_FIELDS = ("points", "box", "text", "grid", "pick")


class Remote(Backend):
    """Gets the masks from a SAM server, `maskmill serve`, usually on another machine."""

    requires: ClassVar[tuple[str, ...]] = ("httpx",)
    extra: ClassVar[str] = "remote"
    network: ClassVar[Network] = "lan"

    url: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="address of the server, such as http://gpu-box:5000, or a list of them: the work is spread over"
        " those that answer; all must have the same model",
        json_schema_extra=NO_EFFECT,  # the model decides the masks, not the address
    )
    token: SecretStr | None = Field(
        None,
        description=f"token that the server was started with, as ${{VARIABLE}}; if left out: {TOKEN_VARIABLE} from the"
        " environment, if set",
        json_schema_extra=NO_EFFECT,
    )
    multimask: Multimask | None = Field(
        None, description="as in the backend `sam`, if the server's backend has it; if left out: the server's setting"
    )
    compress: Compress = Field(
        "none",
        description="none: send the image's own file; png: send its pixels without loss, if the server decodes files"
        " differently; jpeg: fewer bytes for large PNG or TIFF files, but masks that differ",
    )
    patience: float = Field(
        300.0,
        ge=0,
        allow_inf_nan=False,
        description="seconds to wait while no server answers, before the run stops (resumably)",
        json_schema_extra=NO_EFFECT,
    )
    timeout: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="seconds to wait for one answer; if left out: the server's own deadline",
        json_schema_extra=NO_EFFECT,
    )
    ca: Path | None = Field(
        None,
        description="certificate (PEM) of the authority that signed the server's, if the system does not have it",
        json_schema_extra=NO_EFFECT,
    )

    _http: Any = PrivateAttr(None)
    _pool: ServerPool | None = PrivateAttr(None)
    _model: ModelInfo | None = PrivateAttr(None)

    def list_urls(self) -> list[str]:
        """Return the addresses, each once, without a trailing slash."""
        given = [self.url] if isinstance(self.url, str) else self.url
        return list(dict.fromkeys(url.strip().rstrip("/") for url in given))

    def reaches(self) -> Network:
        """Return the network of the most distant server."""
        return max((classify_network(url) for url in self.list_urls()), key=("none", "lan", "internet").index)

    def check(self) -> list[Problem]:
        """Check the addresses, certificate and token, and that a usable server answers."""
        problems = [problem for url in self.list_urls() if (problem := check_url(url))]
        problems += check_certificate(self.ca) + check_token(self._read_token(), self.list_urls())
        if self._uses_proxies():
            problems += [problem for url in self.list_urls() for problem in check_proxies(url, "httpx")]
        if any(not problem.warning for problem in problems):
            return list(dict.fromkeys(problems))
        with self._open_http_client() as http:
            answers = self._make_pool(http).survey()
        found, self._model = check_servers(answers, self.multimask, self.compress)
        return problems + found

    def accepts(self) -> frozenset[str]:
        """Return the kinds of prompts that the server's backend takes.

        Raises:
            PipelineError: no server answers.
        """
        return frozenset(self._get_model().accepts)

    def model_id(self) -> str:
        """Return the id of the server's model; for `sam` the SHA-256 of the checkpoint.

        Raises:
            PipelineError: no server answers.
        """
        return self._get_model().model_id

    def input_side(self) -> int | None:
        """Return the longer side of the model's input in pixels, None if the server does not report it.

        Raises:
            PipelineError: no server answers.
        """
        return self._get_model().input_side

    def digest(self) -> str:
        """Return a digest of the options here and of the server's backend."""
        info = self._get_model()
        return digest([super().digest(), info.backend, info.digest])

    def open(self) -> None:
        """Open the connections; wait for a server if none answers.

        Raises:
            PipelineError: no server answers in time, or one rejects this client.
        """
        self._http = self._open_http_client()
        self._pool = self._make_pool(self._http)
        try:
            self._model = self._pool.get_model()
        except (StopRun, ImageError) as error:
            self.close()
            raise PipelineError(str(error)) from None

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()
        self._http = self._pool = None

    def speed_advice(self) -> str:
        """It waits for its server."""
        return "a faster server, more servers, or a smaller model there"

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """Return the server's masks, in its order, each with its prompt.

        Raises:
            ImageError: the server rejects the image or a prompt, or fails repeatedly; with the server's message.
            StopRun: no server answers for longer than `patience`, or one has another model than the run.
        """
        if self._pool is None:
            raise RuntimeError("open() must be called before masks()")
        most = self._get_model().limits.prompts
        found: list[Mask] = []
        for start in range(0, len(prompts), most):
            part = prompts[start : start + most]
            request = MasksRequest(prompts=_convert_prompts(part), multimask=self.multimask)
            found += self._pool.query(image.sha256, partial(self._request_masks, self._pool, image, part, request))
        return found

    def _request_masks(
        self, pool: ServerPool, image: Image, prompts: Sequence[Prompt], request: MasksRequest, server: SamClient
    ) -> list[Mask]:
        """Send one request for masks to a server, and the image before it if necessary."""
        for _ in range(UPLOADS):
            image_id = upload_image(image, self.compress, server, pool, self.tell)
            try:
                reply = server.compute_masks(image_id, request)
                if doubt := reply.find_doubt(image_id, prompts):
                    raise BadReply(f"{server.url}: {doubt}")
                return [mask.to_mask(prompts) for mask in reply.masks]
            except UnknownImage:  # the server needed the memory, or was restarted
                server.forget(image_id)
            except ValueError as error:
                raise BadReply(f"{server.url}: {error}") from None
        raise BadReply(f"{server.url} drops the image right after the upload; is its memory for images too small?")

    def _get_model(self) -> ModelInfo:
        """Return the servers' model, queried once."""
        if self._model is None:
            problems = [problem for problem in self.check() if not problem.warning]
            if problems or self._model is None:
                raise PipelineError(*problems)
        return self._model

    def _make_pool(self, http: httpx.Client) -> ServerPool:
        servers = [
            SamClient(url, http, self._read_token(), self.timeout, self._uses_proxies()) for url in self.list_urls()
        ]
        return ServerPool(servers, self.patience, self.tell)

    def _uses_proxies(self) -> bool:
        return self.reaches() == "internet"

    def _open_http_client(self) -> httpx.Client:
        return open_http_client(self._read_token(), self.ca, through_proxies=self._uses_proxies())

    def _read_token(self) -> str | None:
        given = self.token.get_secret_value() if self.token is not None else os.environ.get(TOKEN_VARIABLE, "")
        return None if given.strip() in ("", "none") else given.strip()


def _convert_prompts(prompts: Sequence[Prompt]) -> list[PromptModel]:
    """Convert prompts to the wire format, without what does not affect the masks."""
    try:
        plain = [prompt.to_json() for prompt in prompts]
        return [PromptModel(**{name: one[name] for name in SENT_FIELDS if name in one}) for one in plain]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ImageError(f"invalid prompt for a SAM server: {place}: {first['msg']}") from None


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Register `remote`."""
    register("remote", Remote)
