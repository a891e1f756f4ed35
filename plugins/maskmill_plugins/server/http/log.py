"""The server's log: a line a step for people, or JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
from typing import Literal

LogFormat = Literal["text", "json"]
log = logging.getLogger("maskmill.server")
_FIELDS = ("request", "client", "method", "path", "status", "bytes", "seconds")


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, message, and what the line is about."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Lines(logging.Formatter):
    """Time, the request's name, what happens."""

    def format(self, record: logging.LogRecord) -> str:
        """For people."""
        name = getattr(record, "request", "-")
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        text = f"{self.formatTime(record, '%H:%M:%S')} {name:>6} {level}{record.getMessage()}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def set_up(format_: LogFormat, quiet: bool = False) -> None:
    """Send the server's log, and warnings of the web server, to the standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if format_ == "json" else Lines())
    for name, level in (
        ("maskmill", logging.WARNING if quiet else logging.INFO),
        ("uvicorn", logging.WARNING),
        ("python_multipart", logging.ERROR),
    ):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
