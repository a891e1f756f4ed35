"""Every request: named, counted, timed, logged; what nobody expected becomes an answer too."""

from __future__ import annotations

import itertools
import time
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .log import log
from .metrics import Metrics
from .problems import unexpected

#: Asked every few seconds by machines: not worth a line each.
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
#: Counted for a caller that went away before its answer.
GONE = 499


class Observing:
    """ASGI middleware around all others.

    Attributes:
        in_flight: requests that are not answered yet.

    Args:
        app: what answers.
        metrics: what is counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.in_flight = 0
        self._app = app
        self._metrics = metrics
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and watch it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen(scope, send, f"#{next(self._numbers)}")
        self.in_flight += 1
        try:
            await self._app(scope, receive, seen.send)
        except ClientDisconnect:
            seen.status = GONE
        except Exception as error:
            log.error("%s %s", scope["method"], scope["path"], exc_info=error, extra=seen.about())
            if not seen.status:
                await unexpected(error)(scope, receive, seen.send)
        finally:
            self.in_flight -= 1
            seen.over(self._metrics)


class _Seen:
    """One request."""

    def __init__(self, scope: Scope, send: Send, name: str) -> None:
        self.status = 0
        self._scope = scope
        self._send = send
        self._sent = 0
        self._started = time.perf_counter()
        self._name = name
        scope.setdefault("state", {})["name"] = name
        if scope["path"] not in QUIET:
            log.info("received %s %s from %s", scope["method"], scope["path"], self._client(), extra=self.about())

    async def send(self, message: Message) -> None:
        """Pass an answer on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            length = next((value for name, value in message["headers"] if name.lower() == b"content-length"), b"?")
            if self._scope["path"] not in QUIET:
                log.info("sending %d, %s bytes", self.status, length.decode(), extra=self.about())
        else:
            self._sent += len(message.get("body", b""))
        await self._send(message)

    def over(self, metrics: Metrics) -> None:
        """Count it."""
        seconds = time.perf_counter() - self._started
        route = getattr(self._scope.get("route"), "path", "other")
        method = self._scope["method"] if route != "other" else "any"
        metrics.requests.labels(method, route, str(self.status or GONE)).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        if self._scope["path"] not in QUIET:
            done = {"status": self.status or GONE, "bytes": self._sent, "seconds": round(seconds, 4)}
            log.info("complete %d in %.3f s", self.status or GONE, seconds, extra={**self.about(), **done})

    def about(self) -> dict[str, Any]:
        """What a log line in JSON says of it."""
        scope = self._scope
        return {"request": self._name, "client": self._client(), "method": scope["method"], "path": scope["path"]}

    def _client(self) -> str:
        client = self._scope.get("client")
        return client[0] if client else "?"
