"""Every request is numbered, counted, timed and logged; unexpected exceptions become HTTP 500."""

from __future__ import annotations

import itertools
import json
import logging
import sys
import time
from typing import Any, Literal

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..metrics import Metrics
from .problems import error_response

LogFormat = Literal["text", "json"]
#: Polled every few seconds by monitoring: not logged.
UNLOGGED = frozenset({"/healthz", "/readyz", "/metrics"})
#: Status counted for a client that disconnected before the response.
DISCONNECTED = 499
_FIELDS = ("request", "client", "method", "path", "status", "bytes", "seconds")
_log = logging.getLogger("maskmill.server")


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, message, and the request's fields."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Formats a record for people: time, request number, message."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, followed by the traceback if there is one."""
        name = getattr(record, "request", "-")
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        text = f"{self.formatTime(record, '%H:%M:%S')} {name:>6} {level}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def configure_logging(format_: LogFormat, quiet: bool = False) -> None:
    """Send the server's log and the web server's warnings to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if format_ == "json" else TextFormatter())
    for name, level in (
        ("maskmill", logging.WARNING if quiet else logging.INFO),
        ("uvicorn", logging.WARNING),
        ("python_multipart", logging.ERROR),
    ):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


class RequestLog:
    """The outermost ASGI middleware.

    Attributes:
        in_flight: requests not yet answered.

    Args:
        app: the application that answers.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.in_flight = 0
        self._app = app
        self._metrics = metrics
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _LoggedRequest(scope, send, f"#{next(self._numbers)}")
        self.in_flight += 1
        try:
            await self._app(scope, receive, request.send)
        except ClientDisconnect:
            request.status = DISCONNECTED
        except Exception as error:
            _log.error("%s %s", scope["method"], scope["path"], exc_info=error, extra=request.fields())
            if not request.status:
                await error_response(error)(scope, receive, request.send)
        finally:
            self.in_flight -= 1
            request.finish(self._metrics)


class _LoggedRequest:
    """One request and its response's status and size."""

    def __init__(self, scope: Scope, send: Send, name: str) -> None:
        self.status = 0
        self._scope = scope
        self._send = send
        self._sent = 0
        self._started = time.perf_counter()
        self._name = name
        scope.setdefault("state", {})["name"] = name
        if scope["path"] not in UNLOGGED:
            _log.info("received %s %s from %s", scope["method"], scope["path"], self._client(), extra=self.fields())

    async def send(self, message: Message) -> None:
        """Pass a message of the response on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            length = next((value for name, value in message["headers"] if name.lower() == b"content-length"), b"?")
            if self._scope["path"] not in UNLOGGED:
                _log.info("sending %d, %s bytes", self.status, length.decode(), extra=self.fields())
        else:
            self._sent += len(message.get("body", b""))
        await self._send(message)

    def finish(self, metrics: Metrics) -> None:
        """Count and log the finished request."""
        seconds = time.perf_counter() - self._started
        route = getattr(self._scope.get("route"), "path", "other")
        method = self._scope["method"] if route != "other" else "any"
        status = self.status or DISCONNECTED
        metrics.requests.labels(method, route, str(status)).inc()
        metrics.request_seconds.labels(route).observe(seconds)
        if self._scope["path"] not in UNLOGGED:
            fields = {**self.fields(), "status": status, "bytes": self._sent, "seconds": round(seconds, 4)}
            _log.info("complete %d in %.3f s", status, seconds, extra=fields)

    def fields(self) -> dict[str, Any]:
        """The request's fields of a JSON log line."""
        scope = self._scope
        return {"request": self._name, "client": self._client(), "method": scope["method"], "path": scope["path"]}

    def _client(self) -> str:
        client = self._scope.get("client")
        return client[0] if client else "?"
