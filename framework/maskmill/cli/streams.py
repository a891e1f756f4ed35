"""Standard streams that are closed, or whose reader has gone: a command goes on and ends as it would otherwise."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, Any, TextIO

#: Descriptor -> its stream in `sys`, and how it is opened.
_STREAMS = {0: ("stdin", "r"), 1: ("stdout", "w"), 2: ("stderr", "w")}


def secure_streams() -> None:
    """Prepare this process's standard streams.

    - A closed one (`>&-`) is replaced by the null device; else the next file that is opened would take its
      number, and what is printed would be written into that file.
    - One whose reader goes away (`| head`) continues into the null device.
    - Characters that a console cannot show are escaped.
    """
    for number, (name, mode) in _STREAMS.items():
        stream = getattr(sys, name)
        if stream is None:
            with contextlib.suppress(OSError):
                stream = _open_null(number, mode)
                setattr(sys, name, stream)
                setattr(sys, f"__{name}__", stream)
        if mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        if mode == "w" and stream is not None and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _PatientStream(stream))


def flush_streams() -> None:
    """Write out what is buffered, so that Python has nothing left to complain about when it ends."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _open_null(number: int, mode: str) -> IO[str]:
    """The null device under a descriptor that is closed."""
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != number:
        os.dup2(opened, number)
        os.close(opened)
    return open(number, mode, encoding="utf-8", closefd=False)


class _PatientStream:
    """A standard stream that continues into the null device once its reader has gone; else the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._leave()
            return len(text)

    def flush(self) -> None:
        """Write out what is buffered."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._leave()

    def _leave(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())  # what is still buffered goes there, too
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
