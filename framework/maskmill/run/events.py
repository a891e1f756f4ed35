"""One JSON object a line on the standard error: what `--log-json` prints."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping
from typing import Any


def format_event(event: str, encoding: str | None, values: Mapping[str, Any]) -> str:
    """A line, with its end.

    Args:
        event: what happened; docs/pipelines.md lists the events.
        encoding: of the stream that gets it; characters that it may lack are escaped as JSON escapes them.
        values: the other members of the object.
    """
    content = {"time": round(time.time(), 3), "event": event, **values}
    is_unicode = (encoding or "").lower().replace("-", "") == "utf8"
    return json.dumps(content, ensure_ascii=not is_unicode, default=str) + "\n"


def write_event(event: str, **values: Any) -> None:
    """Write an event to the standard error; a closed one is no error."""
    with contextlib.suppress(OSError):
        sys.stderr.write(format_event(event, getattr(sys.stderr, "encoding", None), values))
        sys.stderr.flush()
