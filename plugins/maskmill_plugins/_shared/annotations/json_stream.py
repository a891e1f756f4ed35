"""A JSON file read item by item: its top level is never held in memory as a whole."""

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
#: An error followed by this many characters is real, and not caused by the end of the text read so far.
CERTAIN = 100
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class JsonStream:
    """The members of the object, or the items of the list, in a JSON file.

    Args:
        path: the file, UTF-8 with or without a byte order mark.

    Attributes:
        lists: keys of the members that are lists, also of empty ones, as far as they were read.

    Raises (during iteration):
        PipelineError: the file cannot be read or is not JSON; with line and column.
    """

    def __init__(self, path: Path) -> None:
        self.lists: set[str] = set()
        self._path = path
        self._text = ""
        self._at = 0
        self._before = (1, 1)
        self._file: IO[str] | None = None

    def members(self) -> Iterator[tuple[str, int, Any]]:
        """(key, -1, value) of each member, or (key, index, item) of each item if the member is a list.

        The items of a file that is a list have the key "".
        """
        for key in self._iterate_keys():
            if self._peek() == "[":
                self.lists.add(key)
                yield from self._iterate_list(key)
            else:
                yield key, -1, self._read_value()

    def keys(self) -> Iterator[str]:
        """The keys of the top level, each before its value is read; only "" if the file is a list."""
        for key in self._iterate_keys():
            yield key
            if self._peek() == "[":
                for _ in self._iterate_list(key):
                    pass
            else:
                self._read_value()

    def _iterate_keys(self) -> Iterator[str]:
        """Yield each key, positioned at its value, which the caller must read."""
        with report_unreadable(self._path), self._path.open(encoding="utf-8-sig", newline="") as self._file:
            first = self._peek()
            if first == "[":
                yield ""
            elif first == "{":
                yield from self._iterate_object()
            else:
                raise self._make_error("expected a JSON object, starting with {", self._at)
            if self._peek():
                raise self._make_error("expected the end of the file", self._at)

    def _iterate_object(self) -> Iterator[str]:
        self._at += 1
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            if self._peek() != '"':
                raise self._make_error("expected a name in double quotes", self._at)
            key = str(self._read_value())
            self._expect(":")
            yield key
            if self._peek() == "}":
                self._at += 1
                return
            self._expect(",")

    def _iterate_list(self, key: str) -> Iterator[tuple[str, int, Any]]:
        self._at += 1
        if self._peek() == "]":
            self._at += 1
            return
        number = 0
        while True:
            self._peek()
            yield key, number, self._read_value()
            number += 1
            if self._peek() == "]":
                self._at += 1
                return
            self._expect(",")

    def _peek(self) -> str:
        """Skip whitespace and return the next character, "" at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None, "it also matches the empty text"
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more():
                return ""

    def _expect(self, sign: str) -> None:
        if self._peek() != sign:
            raise self._make_error(f"expected {sign!r}", self._at)
        self._at += 1

    def _read_value(self) -> Any:
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                certain = len(self._text) - error.pos > CERTAIN and not error.msg.startswith("Unterminated")
                if certain or not self._read_more():
                    raise self._make_error(error.msg, error.pos) from None
            except RecursionError:
                raise self._make_error("nested too deeply", self._at) from None
            except ValueError:  # Python's limit for the digits of an integer
                raise self._make_error("a number with thousands of digits", self._at) from None
            else:
                if end < len(self._text) or not self._read_more():
                    self._at = end
                    return value

    def _read_more(self) -> bool:
        """Read more, doubling the size for a long item; False at the end of the file."""
        assert self._file is not None, "open during iteration"
        text = self._file.read(max(CHUNK, len(self._text) - self._at))
        if not text:
            return False
        self._before = self._locate(self._at)
        self._text = self._text[self._at :] + text
        self._at = 0
        return True

    def _locate(self, at: int) -> tuple[int, int]:
        """Line and column of a position in the text held in memory."""
        line, column = self._before
        lines = self._text.count("\n", 0, at)
        return line + lines, column + at if not lines else at - self._text.rfind("\n", 0, at)

    def _make_error(self, message: str, at: int) -> PipelineError:
        line, column = self._locate(at)
        cut = at >= len(self._text.rstrip()) or message.startswith(("Unterminated", "Invalid \\u"))
        ends = " (the file ends here; it may be cut off)" if cut and not self._read_more() else ""
        return PipelineError(Problem(f"not JSON: {message}{ends}", str(self._path), line, column))
