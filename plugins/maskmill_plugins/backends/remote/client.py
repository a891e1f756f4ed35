"""The HTTP client of one SAM server; every failure becomes one of a few exceptions.

`ImageError` and `StopRun` go to the framework; the three exceptions of this module are handled by the pool
and the upload.
"""

from __future__ import annotations

import math
import ssl
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pydantic

from maskmill import ImageError, StopRun, __version__
from maskmill_plugins._shared.http.answers import SAM_SERVER, Outcome, classify, read_retry_after
from maskmill_plugins._shared.http.connections import explain_connection_error, find_cause
from maskmill_plugins._shared.http.secrets import mask_secret
from maskmill_plugins._shared.http.wire import (
    TOKEN_VARIABLE,
    URN,
    ImageInfo,
    MasksReply,
    MasksRequest,
    ModelInfo,
    ProblemModel,
    ResponseModel,
)

if TYPE_CHECKING:
    import httpx

A = TypeVar("A", bound=ResponseModel)
#: Seconds to get a connection; a running machine answers in milliseconds.
CONNECT = 4.0
#: Seconds in which an upload must make progress.
WRITE = 60.0
#: Seconds for an answer that needs no computation.
PROMPT = 15.0
#: Seconds to wait for an answer beyond the server's own deadline.
SLACK = 10.0
#: Idle connections are closed after these seconds, before the server closes them.
IDLE = 2.0
#: Ids of images remembered as known to the server.
REMEMBERED = 1000
#: Characters of a server's message that are shown.
LONGEST = 1000


class ServerUnavailable(Exception):  # noqa: N818 - a condition, not a mistake
    """The server cannot be queried now; another server may, or the same one later.

    Args:
        reason: why.
        wait: seconds after which the server asks to retry, None if it does not.
        busy: whether the server is running, but overloaded.
        lost: whether the connection broke after the request was sent: the request may be the cause.
        loading: whether the server is running, but does not have its model yet.
    """

    def __init__(
        self,
        reason: str,
        wait: float | None = None,
        *,
        busy: bool = False,
        lost: bool = False,
        loading: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        self.busy = busy
        self.lost = lost
        self.loading = loading


class BadReply(Exception):  # noqa: N818 - a condition, not a mistake
    """The server failed at this request, or its reply cannot be used; worth a few retries."""


class UnknownImage(Exception):  # noqa: N818 - a condition, not a mistake
    """The server does not have the image, or no longer."""


def open_http_client(token: str | None, ca: Path | None, through_proxies: bool) -> httpx.Client:
    """Return an HTTP client for all servers of a pipeline.

    Args:
        token: bearer token, None for none.
        ca: PEM file with the certificate authority; None for those of the system.
        through_proxies: whether to use the environment's proxies, which cannot reach a local network.

    Raises:
        OSError: `ca` cannot be read, or has no certificate.
    """
    import httpx

    return httpx.Client(
        headers={"Authorization": f"Bearer {token}"} if token else {},
        verify=ssl.create_default_context(cafile=str(ca)) if ca is not None else True,
        follow_redirects=False,  # the token must not be sent to another host
        trust_env=through_proxies,
        limits=httpx.Limits(keepalive_expiry=IDLE),
    )


class SamClient:
    """The client of one server.

    Args:
        url: base URL, without a trailing slash.
        http: sends the requests, with the token.
        token: masked in the server's messages.
        timeout: seconds for one whole answer, None for the server's own deadline.
        through_proxies: whether the environment's proxies are used.
    """

    def __init__(
        self,
        url: str,
        http: httpx.Client,
        token: str | None = None,
        timeout: float | None = None,
        through_proxies: bool = False,
    ) -> None:
        self.url = url
        self._http = http
        self._token = token
        self._timeout = timeout
        self._through_proxies = through_proxies
        self._longest = timeout
        self._known: OrderedDict[str, None] = OrderedDict()

    def get_model(self) -> ModelInfo:
        """Return the server's model, and its limits.

        Raises:
            ServerUnavailable, BadReply: there is no answer, or no usable one.
            StopRun: the server rejects this client, or is not a SAM server.
        """
        info = self._read(ModelInfo, self._send("GET", "/v1/model", timeout=PROMPT))
        self._longest = self._timeout or info.limits.deadline_seconds
        return info

    def remembers(self, image: str) -> bool:
        """Return whether the server had the image with this id when it was last queried."""
        return image in self._known

    def has_image(self, image: str) -> bool:
        """Query whether the server has the image with this id.

        Raises:
            ServerUnavailable: there is no answer.
        """
        try:
            self._send("HEAD", f"/v1/images/{image}", timeout=PROMPT)
        except UnknownImage:
            return False
        self._remember(image)
        return True

    def upload(self, image: str, data: bytes) -> ImageInfo:
        """Send an image file.

        Raises:
            ImageError: the server cannot read it.
            ServerUnavailable, BadReply: there is no answer, or no usable one, or the received bytes differ.
        """
        headers = {"Content-Type": "application/octet-stream"}
        info = self._read(ImageInfo, self._send("POST", "/v1/images", content=data, headers=headers))
        if info.id != image:
            raise BadReply(f"{self.url}: the image was changed in transit: {image} was sent, {info.id} was received")
        self._remember(image)
        return info

    def compute_masks(self, image: str, request: MasksRequest) -> MasksReply:
        """Request masks.

        Raises:
            UnknownImage: the image must be uploaded first.
            ImageError: the server rejects the request, or failed at it; with the server's message.
            ServerUnavailable, BadReply: there is no answer, or no usable one.
        """
        body = request.model_copy(update={"timeout": self._timeout}).model_dump_json(exclude_none=True).encode()
        headers = {"Content-Type": "application/json"}
        return self._read(MasksReply, self._send("POST", f"/v1/images/{image}/masks", content=body, headers=headers))

    def forget(self, image: str | None = None) -> None:
        """Forget that the server has this image, or any image (None)."""
        if image is None:
            self._known.clear()
        else:
            self._known.pop(image, None)

    def _remember(self, image: str) -> None:
        self._known[image] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _send(self, method: str, path: str, timeout: float | None = None, **options: Any) -> httpx.Response:
        """Send a request once; return a 2xx answer, or raise what follows from any other.

        Args:
            method: HTTP method.
            path: below the base URL.
            timeout: seconds, for requests without computation; None for the longest time that masks may take.
            options: of `httpx.Client.request`.
        """
        import httpx

        read = timeout or (self._longest + SLACK if self._longest else None)
        limits = httpx.Timeout(connect=CONNECT, write=WRITE, read=read, pool=CONNECT)
        try:
            with self._http.stream(method, self.url + path, timeout=limits, **options) as response:
                _read_body(response, read)
        except httpx.ConnectTimeout:
            text = f"{self.url}: no answer within {CONNECT:g} s (wrong address, machine off, or a firewall?)"
            raise ServerUnavailable(text) from None
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise self._explain_unreached(error) from None
        except httpx.TimeoutException as error:
            seconds = WRITE if isinstance(error, httpx.WriteTimeout) else read or 0
            text = f"{self.url} did not answer within {seconds:g} s"
            if timeout:  # a healthy server answers such a request at once
                raise ServerUnavailable(text) from None
            raise BadReply(text) from None
        except httpx.TransportError as error:
            raise ServerUnavailable(f"{self.url}: the connection broke ({find_cause(error)})", lost=True) from None
        except httpx.DecodingError:
            raise BadReply(f"{self.url} sent an answer that cannot be decompressed") from None
        if failure := self._check(response, method):
            raise failure
        return response

    def _explain_unreached(self, error: Exception) -> Exception:
        """Return the exception for a connection that could not be opened."""
        fault = explain_connection_error(error, self.url, sent=False, through_proxies=self._through_proxies)
        if fault.lasting:
            return StopRun(fault.text)
        if fault.advice.startswith("is the proxy"):
            return ServerUnavailable(f"{self.url}: {fault.text}; {fault.advice}")
        return ServerUnavailable(f"{self.url}: {find_cause(error)}")

    def _check(self, response: httpx.Response, method: str) -> Exception | None:
        """Return the exception that follows from an answer, None if it is usable."""
        problem = _read_problem(response)
        status, kind = response.status_code, problem.kind if problem else ""
        if status == 404 and method == "HEAD":  # has no body
            kind = "unknown-image"
        meaning = classify(SAM_SERVER, status, kind)
        if meaning.outcome is Outcome.USABLE:
            return None
        text = self._describe(response, problem)
        if meaning.outcome is Outcome.FAIL_IMAGE:
            return ImageError(text)
        if meaning.outcome is Outcome.STOP:
            if meaning.reason == "not a SAM server":
                text += f"; is this the address of `maskmill serve`, version {__version__} or compatible?"
            return StopRun(text)
        if meaning.reason == "unknown image":
            return UnknownImage(text)
        if meaning.reason == "server error":
            return BadReply(text)
        wait, reason = read_retry_after(response.headers), meaning.reason
        return ServerUnavailable(text, wait, busy=reason == "busy", loading=reason == "loading")

    def _describe(self, response: httpx.Response, problem: ProblemModel | None) -> str:
        """Return the server's message."""
        message = f"HTTP {response.status_code} {response.reason_phrase}".strip()
        if problem is not None:
            message = problem.detail or problem.title or message
        if response.status_code == 401:
            message += f"; set `token:` or {TOKEN_VARIABLE} to the token that the server was started with"
        return self._clean(f"{self.url}: {message}")

    def _clean(self, text: str) -> str:
        text = mask_secret(text, self._token)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."

    def _read(self, kind: type[A], response: httpx.Response) -> A:
        try:
            return kind.model_validate_json(response.content)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            text = f"{self.url}: the answer to {response.request.method} {response.request.url.path} does not match"
            what = f"{place}: {first['msg']}" if place else first["msg"]
            raise BadReply(self._clean(f"{text} version 1 of the interface ({what})")) from None


def _read_problem(response: httpx.Response) -> ProblemModel | None:
    """Return the problem document in the body, None if there is none of `maskmill serve`."""
    if response.is_success:
        return None
    try:
        problem = ProblemModel.model_validate_json(response.content)
    except pydantic.ValidationError:
        return None
    return problem if problem.type.startswith(URN) else None


def _read_body(response: httpx.Response, seconds: float | None) -> None:
    """Read the body within these seconds; the client's own timeout starts anew with each byte.

    Raises:
        httpx.ReadTimeout: it is not complete.
    """
    import httpx

    ends = math.inf if seconds is None else time.monotonic() + seconds
    inner = cast(httpx.SyncByteStream, response.stream)

    class Bounded(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for chunk in inner:
                if time.monotonic() > ends:
                    raise httpx.ReadTimeout("the answer is not complete", request=response.request)
                yield chunk

        def close(self) -> None:
            inner.close()

    response.stream = Bounded()
    response.read()
