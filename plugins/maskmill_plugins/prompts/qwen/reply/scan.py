"""A tolerant reader of JSON-like text: what models write instead of JSON, with prose around it.

One pass over the text, in time that grows with its length. Read are: JSON; Python's quotes, tuples
and words; quotes inside quotes; comments; full-width punctuation; missing and doubled braces;
missing quotes, commas and brackets; several values one after the other. Nothing is completed: a
number at which the text breaks off, and the list it stands in, are not there.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from .tokens import INSIDE, OUTSIDE

_CLOSES = {"]": "[", "}": "{", ")": "("}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
#: No answer nests deeper; what does is garbage.
DEEPEST = 64
#: Words between answers that are no prose: what is left of a fence whose marks are gone.
_RESIDUE = frozenset({"json", "python", "text", "plaintext"})


class Cut(list[Any]):
    """A list whose end is missing: there may have been more."""


@dataclass
class Value:
    """A value that stands by itself in the text.

    Attributes:
        data: lists, dicts, texts, finite floats, None for all other things.
        start: where it begins in the text.
        end: where it ends.
    """

    data: Any
    start: int
    end: int


@dataclass
class Scan:
    """What a text holds.

    Attributes:
        values: the lists and objects, outermost only.
        prose: there are words outside all values.
        truncated: the text ends inside a value.
    """

    values: list[Value] = field(default_factory=list)
    prose: bool = False
    truncated: bool = False


@dataclass
class _Open:
    """A list or object whose end is still to come.

    Attributes:
        bracket: how it began.
        start: where.
        data: what it holds so far.
        key: of an object: the name whose value comes next, or None.
        name: of an object: a text that becomes a name if a colon follows.
        last: of an object: the name of the value before.
        loose: of an object: numbers since then, the value before among them: a list without an opening bracket.
        others: objects that stood in its place: doubled braces, or braces missing between two.
    """

    bracket: str
    start: int
    data: Any
    key: str | None = None
    name: str | None = None
    last: str | None = None
    loose: list[Any] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)

    def add(self, value: Any) -> None:
        """Take a value; in an object, a text without a name is a name in waiting."""
        if isinstance(self.data, list):
            self.data.append(value)
            return
        self.key = self.key or self.name  # without a colon between them
        if self.key is not None:
            self.data[self.key] = value
            self.last, self.loose = self.key, [value]
            self.key = self.name = None
        elif isinstance(value, str):
            self.name = value
        elif isinstance(value, dict | list):
            self.others.append(value)
        else:
            self.loose.append(value)

    def named(self) -> bool:
        """A colon: the text before it is a name; whether there is one. A name that is there begins another object."""
        if self.name is None:
            return False
        if self.name in self.data:
            self.others.append(self.data)
            self.data = {}
        self.key, self.name = self.name, None
        return True

    def listed(self) -> bool:
        """A bracket closes a list that was never opened: its numbers are a value; whether there are any."""
        if self.last is None or len(self.loose) < 2:
            return False
        self.data[self.last] = self.loose
        self.last, self.loose = None, []
        return True

    def ended(self) -> Any:
        """The value, complete."""
        if not self.others:
            return self.data
        return [*self.others, self.data] if self.data else self.others

    def cut(self) -> Any:
        """What is complete of it where it breaks off; None: nothing."""
        if isinstance(self.data, dict):
            return self.ended() or None
        return Cut(self.data) if any(isinstance(one, dict | list | str) for one in self.data) else None


class _Scanner:
    def __init__(self) -> None:
        self.found = Scan()
        self._stack: list[_Open] = []
        self._at = 0

    @property
    def inside(self) -> bool:
        """Whether a value has begun."""
        return bool(self._stack)

    def token(self, kind: str, text: str, at: int) -> None:
        """Take the next token, which begins at `at`."""
        self._at = at + len(text)
        if kind == "open":
            self._opened(text, at)
        elif not self._stack:
            self.found.prose |= kind == "word" and text.lower() not in _RESIDUE
        elif kind == "close":
            self._closed(_CLOSES[text])
        elif kind == "fence":
            self._broken_off()
        elif kind == "mark":
            self._mark(text)
        elif kind == "string":
            self._stack[-1].add(_unescaped(text[1:-1]))
        elif kind == "number":
            number = float(text)
            self._stack[-1].add(number if math.isfinite(number) else None)
        elif kind == "word":
            empty = text in ("None", "null") or text[0].isdigit()
            self._stack[-1].add(None if empty else text)
        elif kind == "junk" and self._stack[-1].bracket != "{":
            self._stack[-1].add(None)

    def _opened(self, bracket: str, at: int) -> None:
        if len(self._stack) >= DEEPEST:
            self._add(self._stack.pop(0), cut=True)
        top = self._stack[-1] if self._stack else None
        if bracket == "{" and top is not None and top.bracket == "{" and top.key is None and top.data:
            self._closed("{")  # its closing brace is missing
        self._stack.append(_Open(bracket, at, {} if bracket == "{" else []))

    def _mark(self, text: str) -> None:
        top = self._stack[-1]
        if text in ",，":
            top.name = None
        elif top.bracket == "{":
            top.named()
        elif top.data and isinstance(top.data[-1], str):
            name = top.data.pop()
            if len(self._stack) > 1 and self._stack[-2].bracket == "{":
                self._closed(top.bracket)  # its closing bracket is missing
            else:
                self._opened("{", self._at)  # its opening brace is missing
            self._stack[-1].name = name
            self._stack[-1].named()

    def _closed(self, bracket: str) -> None:
        if bracket == "[" and self._stack[-1].bracket == "{" and self._stack[-1].listed():
            return
        if not any(one.bracket == bracket for one in self._stack):
            return  # one too many
        while True:
            ended = self._stack.pop()
            if self._stack:
                self._stack[-1].add(ended.ended())
            else:
                self._add(ended)
            if ended.bracket == bracket:
                return

    def _add(self, ended: _Open, cut: bool = False) -> None:
        data = ended.cut() if cut else ended.ended()
        if not cut or data is not None:
            self.found.values.append(Value(data, ended.start, self._at))

    def _broken_off(self) -> None:
        """Values end here that have no end of their own."""
        while len(self._stack) > 1:
            inner = self._stack.pop().cut()
            if inner is not None:
                self._stack[-1].add(inner)
        if self._stack:
            self._add(self._stack.pop(), cut=True)

    def end(self) -> Scan:
        """The text is over."""
        self.found.truncated = bool(self._stack)
        self._broken_off()
        return self.found


def scan(text: str) -> Scan:
    """Read a text; never fails.

    Args:
        text: anything.
    """
    scanner = _Scanner()
    at = 0
    while match := (INSIDE if scanner.inside else OUTSIDE).match(text, at):
        scanner.token(str(match.lastgroup), match.group(), at)
        at = match.end()
    return scanner.end()


def _unescaped(text: str) -> str:
    """JSON's escapes in words."""

    def replaced(match: re.Match[str]) -> str:
        code = match.group(1)
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)

    if "\\" not in text:
        return text
    found = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", replaced, text, flags=re.DOTALL)
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
