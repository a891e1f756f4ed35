"""A tolerant parser for JSON-like text, with prose around it.

One pass over the text, in linear time. Accepted are: JSON; Python's quotes, tuples and constants; quotes
inside quotes; comments; full-width punctuation; missing and doubled braces; missing quotes, commas and
brackets; several values one after the other. Nothing is completed: a number at which the text is cut off,
and the list around it, are dropped.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from .tags import NUMBER

#: What may follow a quote that ends a string; other quotes in a string belong to it.
_END = r"""\s*+(?:[,:}\])"'/#，：]|\Z)"""


def _match_quoted(quote: str) -> str:
    """Return a pattern for strings: clean ones; short ones with quotes inside; ones without a proper end.

    A quote right after a letter or digit does not start a string: it is an apostrophe, or inches. A quote
    after a bracket, comma or colon is not part of a string: the string's closing quote is missing.
    """
    sign = rf"[^{quote}\\\n]"
    inner = rf"(?<![\[{{,:])(?<![\[{{,:]\s){quote}(?!{_END})"
    return (
        rf"(?<!\w){quote}(?:{sign}|\\.)*+{quote}(?={_END})"
        rf"|(?<!\w){quote}(?:{sign}|\\.|{inner}){{0,150}}+{quote}(?={_END})"
        rf"|(?<!\w){quote}(?:[^{quote}\\\n\[\]{{}}:]|\\.)*+{quote}"
    )


_FENCE = r"(?P<fence> ```[ \t]*[a-zA-Z0-9]* )"
#: Tokens in values, named by kind. No branch retries what it has read, except in short strings, so that the
#: time grows linearly; one of them matches at every position.
_INSIDE = re.compile(
    rf"""
    (?P<space>   \s++ )
  | (?P<comment> (?<!:)//[^\n]* | /\*.{{0,200}}?\*/ | (?<=[\s,\[{{])\#[^\n]* )
  | {_FENCE}
  | (?P<string>  {_match_quoted('"')} | {_match_quoted("'")} | “[^“”\n]{{0,300}}+” )
  | (?P<number>  (?<![\w.])(?!-?0[0-9]){NUMBER}(?![\w.]) )
  | (?P<open>    [\[{{(] )
  | (?P<close>   [\]}})] )
  | (?P<mark>    [,:，：] )
  | (?P<word>    \w++ )
  | (?P<quiet>   ["'“”`\\;；、….] )
  | (?P<junk>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
#: Tokens between values, where quotes have no meaning and parentheses are punctuation.
_OUTSIDE = re.compile(
    rf"""
    (?P<comment> (?<!\S)//[^\n]* )
  | {_FENCE}
  | (?P<open>    [\[{{] )
  | (?P<word>    \w++ )
  | (?P<quiet>   [^\w\[{{`/]++ | . )
    """,
    re.VERBOSE | re.DOTALL,
)

_CLOSES = {"]": "[", "}": "{", ")": "("}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
#: Maximum nesting depth; deeper text is garbage.
MAX_DEPTH = 64
#: Words that are not prose: remains of a code fence without its marks.
_RESIDUE = frozenset({"json", "python", "text", "plaintext"})


class TruncatedList(list[Any]):
    """A list whose end is missing: it may have had more items."""


@dataclass
class Value:
    """A list or object in the text.

    Attributes:
        data: lists, dicts, strings, finite floats, None for anything else.
        start: where it begins in the text.
        end: where it ends.
    """

    data: Any
    start: int
    end: int


@dataclass
class ScannedText:
    """The content of a text.

    Attributes:
        values: the lists and objects, outermost only.
        prose: whether there are words outside all values.
        truncated: whether the text, or a block of code in it, ends inside a value.
    """

    values: list[Value] = field(default_factory=list)
    prose: bool = False
    truncated: bool = False


@dataclass
class _OpenValue:
    """A list or object whose end has not been reached.

    Attributes:
        bracket: its opening bracket.
        start: position of the bracket.
        data: its content so far.
        key: in an object: the key whose value comes next, or None.
        name: in an object: a string that becomes a key if a colon follows.
        last: in an object: the previous key.
        loose: in an object: the previous value and the numbers after it: a list without an opening bracket.
        others: in an object: objects in its place, from doubled or missing braces.
        owed: in an object: lists in it that were ended without their bracket, which may still come.
    """

    bracket: str
    start: int
    data: Any
    key: str | None = None
    name: str | None = None
    last: str | None = None
    loose: list[Any] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)
    owed: int = 0

    def add(self, value: Any) -> None:
        """Add a value; in an object, a string without a key may become a key."""
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

    def take_key(self) -> None:
        """Use the string before a colon as a key, if there is one; a repeated key begins a new object."""
        if self.name is None:
            return
        if self.name in self.data:
            self.others.append(self.data)
            self.data = {}
        self.key, self.name = self.name, None

    def close_loose_list(self) -> bool:
        """Close a list without an opening bracket, making its numbers a value; return whether there are any."""
        if self.last is None or len(self.loose) < 2:
            return False
        self.data[self.last] = self.loose
        self.last, self.loose = None, []
        return True

    def drop_last_text(self) -> None:
        """Drop the last value if it is a text: it was cut off."""
        if isinstance(self.data, list):
            if self.data and isinstance(self.data[-1], str):
                self.data.pop()
        elif self.last is not None and isinstance(self.data.get(self.last), str):
            del self.data[self.last]

    def finish(self) -> Any:
        """Return the complete value."""
        if not self.others:
            return self.data
        return [*self.others, self.data] if self.data else self.others

    def truncate(self) -> Any:
        """Return the complete part of a value that was cut off; None if there is none."""
        if isinstance(self.data, dict):
            return self.finish() or None
        return TruncatedList(self.data) if any(isinstance(one, dict | list | str) for one in self.data) else None


class _Scanner:
    """Builds the values from the tokens.

    Attributes:
        torn: position of the last quote that begins a text and does not end it.
    """

    def __init__(self) -> None:
        self.scanned = ScannedText()
        self._stack: list[_OpenValue] = []
        self._at = 0
        self._last_kind = ""
        self.torn: int | None = None

    @property
    def inside(self) -> bool:
        """Whether a value is open."""
        return bool(self._stack)

    def take_token(self, kind: str, text: str, at: int) -> None:
        """Process the next token, which begins at `at`."""
        self._at = at + len(text)
        if kind == "quiet" and text in "\"'“" and self._last_kind in ("mark", "open"):
            self.torn = at
        if kind != "space":
            self._last_kind = kind
        if kind == "open":
            self._open(text, at)
        elif not self._stack:
            self.scanned.prose |= kind == "word" and text.lower() not in _RESIDUE
        elif kind == "close":
            self._close(_CLOSES[text])
        elif kind == "fence":
            self.scanned.truncated |= len(self._stack) > 1  # the end of one list alone may be forgotten
            self._truncate_open()
        elif kind == "mark":
            self._take_mark(text)
        elif kind == "string":
            self._stack[-1].add(_unescape(text[1:-1]))
        elif kind == "number":
            number = float(text)
            self._stack[-1].add(number if math.isfinite(number) else None)
        elif kind == "word":
            empty = text in ("None", "null") or text[0].isdigit()
            self._stack[-1].add(None if empty else text)
        elif kind == "junk" and self._stack[-1].bracket != "{":
            self._stack[-1].add(None)

    def _open(self, bracket: str, at: int) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self._add(self._stack.pop(0), cut=True)
        top = self._stack[-1] if self._stack else None
        if bracket == "{" and top is not None and top.bracket == "{" and top.key is None and top.data:
            self._close("{")  # its closing brace is missing
        self._stack.append(_OpenValue(bracket, at, {} if bracket == "{" else []))

    def _take_mark(self, text: str) -> None:
        top = self._stack[-1]
        if text in ",，":
            top.name = None
        elif top.bracket == "{":
            top.take_key()
        elif top.data and isinstance(top.data[-1], str):
            name = top.data.pop()
            if len(self._stack) > 1 and self._stack[-2].bracket == "{":
                self._close(top.bracket)  # its closing bracket is missing
                self._stack[-1].owed += top.bracket == "["
            else:
                self._open("{", self._at)  # its opening brace is missing
            self._stack[-1].name = name
            self._stack[-1].take_key()

    def _close(self, bracket: str) -> None:
        if bracket == "[" and self._stack[-1].bracket == "{" and self._stack[-1].close_loose_list():
            return
        if bracket == "[" and self._stack[-1].owed:
            self._stack[-1].owed -= 1
            return
        if not any(one.bracket == bracket for one in self._stack):
            return  # a surplus bracket
        while True:
            ended = self._stack.pop()
            if self._stack:
                self._stack[-1].add(ended.finish())
            else:
                self._add(ended)
            if ended.bracket == bracket:
                return

    def _add(self, ended: _OpenValue, cut: bool = False) -> None:
        data = ended.truncate() if cut else ended.finish()
        if not cut or data is not None:
            self.scanned.values.append(Value(data, ended.start, self._at))

    def _truncate_open(self) -> None:
        """End all open values here, at a fence or at the end of the text."""
        while len(self._stack) > 1:
            inner = self._stack.pop().truncate()
            if inner is not None:
                self._stack[-1].add(inner)
        if self._stack:
            self._add(self._stack.pop(), cut=True)

    def finish(self) -> ScannedText:
        """Return the content, at the end of the text."""
        self.scanned.truncated |= bool(self._stack)
        if self._stack and self._last_kind in ("word", "quiet"):
            self._stack[-1].drop_last_text()
        self._truncate_open()
        return self.scanned


def scan_text(text: str) -> ScannedText:
    """Find the values in a text; never fails.

    Args:
        text: anything.
    """
    scanner = _scan(text, len(text))
    torn = scanner.torn
    if scanner.inside and torn is not None and text[torn] not in text[torn + 1 :]:  # the text ends inside a string
        scanner = _scan(text, torn)
    return scanner.finish()


def _scan(text: str, end: int) -> _Scanner:
    scanner = _Scanner()
    at = 0
    while at < end and (match := (_INSIDE if scanner.inside else _OUTSIDE).match(text, at, end)):
        scanner.take_token(str(match.lastgroup), match.group(), at)
        at = match.end()
    return scanner


def _unescape(text: str) -> str:
    """Replace JSON's escape sequences."""

    def replace(match: re.Match[str]) -> str:
        code = match.group(1)
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)

    if "\\" not in text:
        return text
    found = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", replace, text, flags=re.DOTALL)
    return found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
