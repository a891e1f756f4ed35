"""One SAM server, asked over HTTP; every way in which that can go wrong becomes one of a few exceptions."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar

import pydantic

from maskmill import ImageError, StopRun, __version__
from maskmill_plugins._shared.http.waiting import retry_after
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

from .troubles import LONGEST, Away, Faulty, UnknownImage

if TYPE_CHECKING:
    import httpx

A = TypeVar("A", bound=ResponseModel)
#: Seconds to get a connection; a machine that is there answers in milliseconds.
CONNECT = 4.0
#: Seconds in which some more of an upload has to get through.
WRITE = 60.0
#: Seconds for an answer that takes no work.
PROMPT = 15.0
#: Seconds beyond the server's own deadline that its answer is waited for.
SLACK = 10.0
#: Ids remembered as known to the server, so that it is not asked again.
REMEMBERED = 1000

#: Kinds of problem that may have to do with what is asked: tried again, but not for ever.
DOUBTFUL = frozenset({"internal-error", "out-of-memory", "deadline-exceeded", "upload-timeout"})


class Server:
    """One server.

    Args:
        url: base URL, without a slash at its end.
        http: sends the requests; has the token.
        token: made unreadable in whatever the server says.
        timeout: seconds for one answer, None for the server's own deadline.
    """

    def __init__(self, url: str, http: httpx.Client, token: str | None = None, timeout: float | None = None) -> None:
        self.url = url
        self._http = http
        self._token = token
        self._timeout = timeout
        self._longest = timeout
        self._known: OrderedDict[str, None] = OrderedDict()

    def model(self) -> ModelInfo:
        """What computes there, and what it takes.

        Raises:
            Away, Faulty: no answer, or none that can be used.
            StopRun: it refuses this client, or is no SAM server.
        """
        info = self._read(ModelInfo, self._send("GET", "/v1/model", timeout=PROMPT))
        self._longest = self._timeout or info.limits.deadline_seconds
        return info

    def remembers(self, image: str) -> bool:
        """Whether it held the image of this id when it was asked last."""
        return image in self._known

    def knows(self, image: str) -> bool:
        """Whether it holds the image of this id.

        Raises:
            Away: no answer.
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
            Away, Faulty: no answer, or none that can be used; also if another hash arrived.
        """
        headers = {"Content-Type": "application/octet-stream"}
        info = self._read(ImageInfo, self._send("POST", "/v1/images", content=data, headers=headers))
        if info.id != image:
            raise Faulty(f"{self.url}: the image was changed on its way: {image} was sent, {info.id} arrived")
        self._remember(image)
        return info

    def masks(self, image: str, request: MasksRequest) -> MasksReply:
        """Ask for masks.

        Raises:
            UnknownImage: it has to be sent first.
            ImageError: the server refuses, or failed at it; in its words.
            Away, Faulty: no answer, or none that can be used.
        """
        body = request.model_copy(update={"timeout": self._timeout}).model_dump_json(exclude_none=True).encode()
        headers = {"Content-Type": "application/json"}
        return self._read(MasksReply, self._send("POST", f"/v1/images/{image}/masks", content=body, headers=headers))

    def forget(self, image: str | None = None) -> None:
        """No longer take it for granted that the server has this image, or any (None)."""
        if image is None:
            self._known.clear()
        else:
            self._known.pop(image, None)

    def _remember(self, image: str) -> None:
        self._known[image] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _send(self, method: str, path: str, timeout: float | None = None, **given: Any) -> httpx.Response:
        """Send a request once; an answer of 2xx, or an exception that says what to do.

        Args:
            method: of HTTP.
            path: below the base URL.
            timeout: seconds, for what the server answers without any work; else as long as it may take.
            given: the rest, for httpx.
        """
        import httpx

        read = timeout or (self._longest + SLACK if self._longest else None)
        limits = httpx.Timeout(connect=CONNECT, write=WRITE, read=read, pool=CONNECT)
        try:
            response = self._http.request(method, self.url + path, timeout=limits, **given)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Away(self._not_reached(error)) from None
        except httpx.TimeoutException as error:
            seconds = WRITE if isinstance(error, httpx.WriteTimeout) else read or 0
            text = f"{self.url} did not answer within {seconds:g} s"
            if timeout:  # what takes no work is answered at once by a server that is well
                raise Away(text) from None
            raise Faulty(text) from None
        except httpx.TransportError as error:
            raise Away(f"{self.url}: the connection broke ({_text(error)})", lost=True) from None
        except httpx.DecodingError:
            raise Faulty(f"{self.url} sent an answer that cannot be unpacked") from None
        if response.is_success:
            return response
        raise self._refusal(response, method)

    def _refusal(self, response: httpx.Response, method: str) -> Exception:
        """The exception for an answer other than 2xx."""
        problem = _problem(response)
        status, kind = response.status_code, problem.kind if problem else ""
        text = self._in_words(response, problem)
        if kind == "unknown-image" or (status == 404 and method == "HEAD"):
            return UnknownImage(text)
        if status in (401, 403):
            return StopRun(text)
        if status == 429:
            return Away(text, retry_after(response.headers), busy=True)
        if kind in DOUBTFUL or status in (408, 500, 504):
            return Faulty(text)
        if status in (502, 503):  # loading, draining, or a proxy whose server is gone
            return Away(text, retry_after(response.headers))
        if kind in ("", "not-found", "method-not-allowed") and status != 413:  # which proxies say, too
            return StopRun(f"{text}; is that the address of `maskmill serve`, of a version like {__version__}?")
        return ImageError(text)

    def _in_words(self, response: httpx.Response, problem: ProblemModel | None) -> str:
        """What the server says is wrong."""
        said = f"HTTP {response.status_code} {response.reason_phrase}".strip()
        if problem is not None:
            said = problem.detail or problem.title or said
        if response.status_code == 401:
            said += f"; it takes the token that it was started with, from `token:` or {TOKEN_VARIABLE}"
        return self._clean(f"{self.url}: {said}")

    def _clean(self, text: str) -> str:
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
        return text.replace(self._token, "***") if self._token else text

    def _not_reached(self, error: Exception) -> str:
        import httpx

        if isinstance(error, httpx.ConnectTimeout):
            return f"{self.url}: no answer within {CONNECT:g} s (wrong address, machine off, or a firewall?)"
        return f"{self.url}: {_text(error)}"

    def _read(self, kind: type[A], response: httpx.Response) -> A:
        try:
            return kind.model_validate_json(response.content)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            text = f"{self.url} answers {response.request.method} {response.request.url.path} with something else"
            what = f"{place}: {first['msg']}" if place else first["msg"]
            raise Faulty(self._clean(f"{text} than version 1 of the interface has ({what})")) from None


def _problem(response: httpx.Response) -> ProblemModel | None:
    """The problem that the body describes; None if it is not in the words of one of our servers."""
    try:
        problem = ProblemModel.model_validate_json(response.content)
    except pydantic.ValidationError:
        return None
    return problem if problem.type.startswith(URN) else None


def _text(error: Exception) -> str:
    """The system's reason, which httpx wraps."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        inner = inner.__cause__ or inner.__context__
    return str(error) or type(error).__name__
