"""Request bodies: refused as soon as they are too large, too slow or too many; uploaded images read from them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..compute.image_store import StoredImage
from ..compute.service import ModelService
from ..errors import ApiError
from ..settings import Settings
from .problems import error_response

#: Bytes of a multipart request in addition to its file.
MULTIPART = 100_000
UPLOADS = frozenset({"/v1/images", "/v1/annotate/quick", "/upload"})
#: Files and other fields of one form, at most.
MOST_FILES, MOST_FIELDS = 2, 10  # a second file is a form field with a file name, which gets a message of its own


class BodyLimits:
    """ASGI middleware that counts the bytes of all requests while they arrive.

    Args:
        app: the application that reads the bodies.
        settings: the limits.
        admit: called with the method before anything is read; raises `ApiError` to refuse.
    """

    def __init__(self, app: ASGIApp, settings: Settings, admit: Callable[[str], None]) -> None:
        self._app = app
        self._admit = admit
        self._settings = settings
        self._receiving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; reading beyond a limit raises `ApiError`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(self._settings, scope, receive, self._reserve)
        try:
            self._admit(scope["method"])
            body.check_length()
            await self._app(scope, body.receive, send)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
        finally:
            self._receiving -= body.bytes

    def _reserve(self, count: int) -> None:
        if self._receiving + count > self._settings.receiving:
            raise ApiError("too-busy", "too much data is being uploaded at the moment", retry_after=2)
        self._receiving += count


class _Body:
    """The body of one request."""

    def __init__(self, settings: Settings, scope: Scope, receive: Receive, reserve: Callable[[int], None]) -> None:
        self.bytes = 0
        self._stall = settings.stall
        self._receive = receive
        self._reserve = reserve
        self._limit = settings.upload + MULTIPART if scope["path"] in UPLOADS else settings.request
        self._length = Headers(scope=scope).get("content-length")
        self._complete = False

    def check_length(self) -> None:
        """Refuse a body that is too large by its `Content-Length`, before reading it."""
        with suppress(ValueError):
            if self._length is not None and int(self._length) > self._limit:
                raise self._too_large()

    async def receive(self) -> Message:
        """The next message of the request."""
        if self._complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._stall)
        except TimeoutError:
            raise ApiError("upload-timeout", f"no data arrived for {self._stall:g} s") from None
        if message["type"] == "http.request":
            count = len(message.get("body", b""))
            if self.bytes + count > self._limit:
                raise self._too_large()
            self._reserve(count)
            self.bytes += count
            self._complete = not message.get("more_body", False)
        return message

    def _too_large(self) -> ApiError:
        # A body of unknown length may never end: close that connection.
        headers = {} if self._length else {"Connection": "close"}
        return ApiError("too-large", f"the request body may have at most {self._limit} bytes", headers=headers)


async def add_image(service: ModelService, request: Request) -> tuple[StoredImage, bool]:
    """Store the image in a request's body or form; returns it, and whether it is new.

    Raises:
        ApiError: it is too large, or not an image.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
            return await add_file_part(service, get_file_part(form))
    digest, data = hashlib.sha256(), bytearray()
    async for chunk in request.stream():
        digest.update(chunk)
        data += chunk
    return await service.images.add(bytes(data), digest.hexdigest())


def get_file_part(form: FormData) -> UploadFile:
    """The part `file` of a form.

    Raises:
        ApiError: there is none, or it is no file.
    """
    part = form.get("file")
    if isinstance(part, str):
        raise ApiError("invalid-request", "the part `file` has no file name, which makes it a form field; send a file")
    if part is None:
        raise ApiError("invalid-request", f"the multipart body has no file part named `file`{_list_parts(form)}")
    return part


def get_field(form: FormData, name: str) -> str:
    """A form field that is no file.

    Raises:
        ApiError: there is none, or it is a file.
    """
    part = form.get(name)
    if isinstance(part, UploadFile):
        text = f"the part `{name}` has a file name ({part.filename!r}), which makes it a file; send it as a form field"
        raise ApiError("invalid-request", text)
    if part is None:
        raise ApiError("invalid-request", f"the multipart body has no form field named `{name}`{_list_parts(form)}")
    return part


def _list_parts(form: FormData) -> str:
    names = ", ".join(f"`{name}`" for name in form)
    return f", only {names}" if names else ""


def require_multipart(request: Request) -> None:
    """Check that a body says that it is a form.

    Raises:
        ApiError: its Content-Type is missing or another.
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        found = f"has the Content-Type {kind!r}" if kind else "has no Content-Type"
        raise ApiError("invalid-request", f"the request {found}; send multipart/form-data, as curl does with -F")


async def add_file_part(service: ModelService, part: UploadFile) -> tuple[StoredImage, bool]:
    """Store the image in a multipart part; returns it, and whether it is new.

    Raises:
        ApiError: it is too large, or not an image.
    """
    data = await part.read()
    return await service.images.add(data, hashlib.sha256(data).hexdigest())
