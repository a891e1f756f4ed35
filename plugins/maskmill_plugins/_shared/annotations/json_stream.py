"""A JSON file read item by item: its top level is never in memory as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.text_files import report_unreadable

#: Characters read at once.
CHUNK = 1 << 20
#: A mistake with so many characters after it is one, and not just the end of what was read.
CERTAIN = 100
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class JsonStream:
    """The members of the object (or the items of the list) that a JSON file is.

    Args:
        path: the file, UTF-8 with or without a byte order mark.

    Raises (while it is iterated):
        PipelineError: the file cannot be read or is no JSON; with line and column.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = ""
        self._at = 0
        self._before = (1, 1)
        self._file: IO[str] | None = None

    def members(self) -> Iterator[tuple[str, int, Any]]:
        """(key, -1, value) of each member; of one that is a list (key, number, item) for each item.

        A file that is a list itself has items of the key "".
        """
        for key in self._walk():
            if self._next() == "[":
                yield from self._items(key)
            else:
                yield key, -1, self._value()

    def keys(self) -> Iterator[str]:
        """The keys of the top level, each before its value is read; "" for a file that is a list."""
        for key in self._walk():
            yield key
            if self._next() == "[":
                for _ in self._items(key):
                    pass
            else:
                self._value()

    def _walk(self) -> Iterator[str]:
        """Each key, at its value."""
        with report_unreadable(self._path), self._path.open(encoding="utf-8-sig", newline="") as self._file:
            first = self._next()
            if first == "[":
                yield ""
            elif first == "{":
                yield from self._object()
            else:
                raise self._fault("expected a JSON object, which begins with {", self._at)
            if self._next():
                raise self._fault("expected the end of the file", self._at)

    def _object(self) -> Iterator[str]:
        self._at += 1
        if self._next() == "}":
            self._at += 1
            return
        while True:
            if self._next() != '"':
                raise self._fault("expected a name in double quotes", self._at)
            key = str(self._value())
            self._expect(":")
            yield key
            if self._next() == "}":
                self._at += 1
                return
            self._expect(",")

    def _items(self, key: str) -> Iterator[tuple[str, int, Any]]:
        self._at += 1
        if self._next() == "]":
            self._at += 1
            return
        number = 0
        while True:
            self._next()
            yield key, number, self._value()
            number += 1
            if self._next() == "]":
                self._at += 1
                return
            self._expect(",")

    def _next(self) -> str:
        """The next character that is no space, "" at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None, "it matches nothing at all, too"
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _expect(self, sign: str) -> None:
        if self._next() != sign:
            raise self._fault(f"expected {sign!r}", self._at)
        self._at += 1

    def _value(self) -> Any:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                certain = len(self._text) - error.pos > CERTAIN and not error.msg.startswith("Unterminated")
                if certain or not self._more():
                    raise self._fault(error.msg, error.pos) from None
            except RecursionError:
                raise self._fault("nested too deeply", self._at) from None
            except ValueError:  # Python's limit, against numbers that take minutes
                raise self._fault("a number of thousands of digits", self._at) from None
            else:
                if end < len(self._text) or not self._more():
                    self._at = end
                    return value

    def _more(self) -> bool:
        """Read on, twice as much each time for an item that is long; False at the end of the file."""
        assert self._file is not None, "it is open while it is read"
        text = self._file.read(max(CHUNK, len(self._text) - self._at))
        if not text:
            return False
        self._before = self._place(self._at)
        self._text = self._text[self._at :] + text
        self._at = 0
        return True

    def _place(self, at: int) -> tuple[int, int]:
        """Line and column of a position in the text that is held."""
        line, column = self._before
        lines = self._text.count("\n", 0, at)
        return line + lines, column + at if not lines else at - self._text.rfind("\n", 0, at)

    def _fault(self, message: str, at: int) -> PipelineError:
        line, column = self._place(at)
        cut = at >= len(self._text.rstrip()) or message.startswith(("Unterminated", "Invalid \\u"))
        ends = " (the file ends here: is it complete?)" if cut and not self._more() else ""
        return PipelineError(Problem(f"not JSON: {message}{ends}", str(self._path), line, column))
