"""Requests on their way in: refused as soon as they are too large, too slow or too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskmill_plugins._shared.http.wire import MOST_REQUEST

from ..settings import Settings
from .problems import ApiError

#: What a multipart request has beside the file.
MULTIPART = 100_000
UPLOADS = frozenset({"/v1/images", "/v1/annotate/quick", "/upload"})


class Receiving:
    """ASGI middleware that counts the bytes of every request while they come in.

    Args:
        app: what reads them.
        settings: how many it may be.
        door: asked with the method before anything is read; raises `ApiError` to refuse.
    """

    def __init__(self, app: ASGIApp, settings: Settings, door: Callable[[str], None]) -> None:
        self._app = app
        self._door = door
        self._settings = settings
        self._receiving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; reading too much of it raises `ApiError` where it is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(self, scope, receive)
        try:
            self._door(scope["method"])
            body.announced()
            await self._app(scope, body.receive, send)
        except ApiError as error:
            await error.response()(scope, receive, send)
        finally:
            self._receiving -= body.bytes

    def take(self, count: int) -> None:
        """Reckon with so many more bytes.

        Raises:
            ApiError: that is too much at once.
        """
        if self._receiving + count > self._settings.receiving:
            raise ApiError("too-busy", "too much is being uploaded at this moment", retry_after=2)
        self._receiving += count

    def limit(self, path: str) -> int:
        """Bytes that a request to this path may have."""
        return self._settings.upload + MULTIPART if path in UPLOADS else MOST_REQUEST

    @property
    def stall(self) -> float:
        """Seconds to wait for the next byte."""
        return self._settings.stall


class _Body:
    """The body of one request."""

    def __init__(self, gate: Receiving, scope: Scope, receive: Receive) -> None:
        self.bytes = 0
        self._gate = gate
        self._receive = receive
        self._limit = gate.limit(scope["path"])
        self._length = Headers(scope=scope).get("content-length")
        self._complete = False

    def announced(self) -> None:
        """Refuse what says by itself that it is too large, before any of it is read."""
        with suppress(ValueError):
            if self._length is not None and int(self._length) > self._limit:
                raise self._too_large()

    async def receive(self) -> Message:
        """The next message of the request."""
        if self._complete:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._gate.stall)
        except TimeoutError:
            raise ApiError("upload-timeout", f"no byte came for {self._gate.stall:g} s") from None
        if message["type"] == "http.request":
            count = len(message.get("body", b""))
            if self.bytes + count > self._limit:
                raise self._too_large()
            self._gate.take(count)
            self.bytes += count
            self._complete = not message.get("more_body", False)
        return message

    def _too_large(self) -> ApiError:
        # A body of unknown length may go on for ever: that connection is closed.
        headers = {} if self._length else {"Connection": "close"}
        return ApiError("too-large", f"a request here has at most {self._limit} bytes", headers=headers)
