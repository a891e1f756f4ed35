"""The standard error under `--log-json`: whatever writes to it, only JSON lines come out."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
from collections.abc import Sequence
from typing import IO

#: Ends the copying; nobody else writes it.
_END = b"\0end of the events\n"
#: Seconds in which what was written last is passed on.
_PATIENCE = 5.0


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether `--log-json` is among the options of a command line, be it valid or not."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--log-json" in options


class JsonStderr:
    """Puts a pipe in the place of the standard error's descriptor, which worker processes inherit.

    A thread passes on what comes out: events as they are, every other line (a warning of a library, what a plugin
    prints) as the text of a "message". Does nothing where `sys.stderr` is not the process's own.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        with contextlib.suppress(OSError, AttributeError, ValueError):
            if sys.stderr.fileno() == 2:
                self._begin()

    def _begin(self) -> None:
        sys.stderr.flush()
        self._target = os.dup(2)
        read, write = os.pipe()
        os.dup2(write, 2)
        os.close(write)
        self._thread = threading.Thread(target=self._copy, args=(os.fdopen(read, "rb"),), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Put the standard error back, after everything that was written has been passed on."""
        if self._thread is None:
            return
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
            os.write(2, _END)
        self._thread.join(_PATIENCE)
        os.dup2(self._target, 2)
        self._thread = None

    def _copy(self, source: IO[bytes]) -> None:
        with source:
            for line in source:
                text, end, _ = line.partition(_END)
                if text.strip():
                    with contextlib.suppress(OSError):  # nobody reads it any more; the run goes on
                        self._write(to_event(text))
                if end:
                    return

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._target, data) :]


def to_event(line: bytes) -> bytes:
    """A line of the standard error as an event; one that is an event already stays as it is."""
    from ..run.events import format_event

    encoding = sys.stderr.encoding or "utf-8"
    with contextlib.suppress(ValueError):
        if line.startswith(b'{"time": ') and isinstance(json.loads(line.decode(encoding)), dict):
            return line.rstrip(b"\r\n") + b"\n"
    text = line.decode(encoding, errors="replace").rstrip()
    return format_event("message", encoding, {"text": text}).encode(encoding, errors="replace")
