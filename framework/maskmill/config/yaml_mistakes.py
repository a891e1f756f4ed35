"""Explains what is wrong with a text that is not YAML, for users who do not know YAML well.

PyYAML reports the token that stopped it; the usual cause is found here from the lines around it.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import replace

import yaml

from ..errors import PipelineError, Problem

_KEY = r"\s*(?:-\s+)*[A-Za-z_][\w.-]*"
_WIDE_COLON = re.compile(rf"({_KEY}\s*)：")
_NO_SPACE = re.compile(rf"({_KEY})(?<!package):(?=[^\s:/\\])")
_DRIVE = re.compile(r'"[A-Za-z]:\\(?![\\/])')
_WIDE_SPACES = "\u3000\u00a0"
_LINE_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
_CURLY = {"“": "”", "‘": "’", "＂": "＂", "「": "」"}
_BRACKETS = {"［": "[", "【": "[", "｛": "{"}
_INDICATORS = tuple(f"while scanning {what}" for what in ("an alias", "an anchor", "a tag", "a block scalar"))
_SECRET = re.compile(r"(?i)(key|token|secret|password|passwd|pwd|credential)s?[\"']?([\s:：=]|$)")
_SAME_COLUMN = "keys of one level, and entries of one list, must begin in the same column"


def decode_text(source: bytes, name: str) -> str:
    """The text of a file.

    Raises:
        PipelineError: it is not UTF-8; with the position and the probable encoding.
    """
    source = source.removeprefix(codecs.BOM_UTF8)
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PipelineError(_explain_encoding(source, name, error.start)) from None
    if (at := text.find("\0")) >= 0:
        raise PipelineError(Problem("this is not a text file: it contains a zero byte", name, *_position(text, at)))
    return text


def _explain_encoding(source: bytes, name: str, at: int) -> Problem:
    hint = "save the file as UTF-8 (in Notepad: Save as, Encoding: UTF-8)"
    if source.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Problem("the file is UTF-16, not UTF-8", name, hint=hint)
    before = source[:at].decode("utf-8")
    where = _position(before, len(before))
    if b"\0" in source:
        return Problem("this is not a text file", name)
    try:
        source.decode("gb18030")
    except UnicodeDecodeError:
        return Problem("the file is not UTF-8 here", name, *where, hint=hint)
    return Problem("the file is not UTF-8 here (is it GBK?)", name, *where, hint=hint)


def find_typo(text: str, style: str | None = None, in_flow: bool = False) -> tuple[str, str] | None:
    """(message, hint) if a text is valid YAML but almost certainly a mistake, else None.

    Args:
        text: a plain text as parsed, or a quoted one as written, with its quotes.
        style: PyYAML's scalar style: None for plain, else a quote, `|` or `>`.
        in_flow: whether it is inside [...] or {...}.
    """
    if style == '"' and _DRIVE.match(text):
        return _explain_backslash(text)
    if style is not None or not text:
        return None
    if match := _WIDE_COLON.match(text):
        return _explain_wide_colon(match[1])
    if text.strip(_WIDE_SPACES) != text:
        return "there is a full-width or non-breaking space before or after this text", "use a normal space"
    if _CURLY.get(text[0]) == text[-1] and len(text) > 1:
        return f"{text[0]} and {text[-1]} are not quotes in YAML", f'use straight quotes: "{text[1:-1]}"'
    if text[0] in _BRACKETS:
        return f"this begins with a full-width '{text[0]}'", f"use '{_BRACKETS[text[0]]}'"
    if in_flow and "，" in text:
        return "this contains a full-width comma: '，'", "use ',' between the entries, or put quotes around the text"
    return None


def explain_parser_error(error: yaml.YAMLError | RecursionError, text: str, name: str) -> Problem:
    """PyYAML's error as a problem: its usual cause if one is found, else PyYAML's own text."""
    if isinstance(error, RecursionError):
        return Problem("the file is nested too deeply", name)
    if isinstance(error, yaml.reader.ReaderError):
        where = _position(text, error.position)
        return Problem(f"the character U+{ord(text[error.position]):04X} is not allowed here", name, *where)
    assert isinstance(error, yaml.MarkedYAMLError), "PyYAML's parser raises no other errors"
    mark = error.problem_mark or error.context_mark
    assert mark is not None, "parser errors have a position"
    return redact(_Diagnosis(error, mark, text, name).find_cause(), text)


def redact(problem: Problem, text: str) -> Problem:
    """The problem without any part of a value that is a secret, judging by the name of its key.

    Which options really are secret is only known later, from the plugins' models. Names of environment
    variables are kept.

    Args:
        problem: its file is a file, or `--set KEY`.
        text: the text that was parsed.
    """
    line = _LINE_BREAK.split(text)[problem.line - 1] if problem.line else ""
    named = _SECRET.search(problem.file) if problem.file.startswith("--") else None
    if named is None and (named := _SECRET.search(line)) is not None:
        line = line[named.end() :]
    if named is None:
        return problem
    words = re.findall(r"\w{2,}", re.sub(r"\$\{\w*\}?", "", line))
    message, hint = problem.message, problem.hint
    if any(word in message for word in words):
        message = re.sub(r"'[^']{2,}'", "'...'", message)
    if any(word in hint for word in words):
        hint = "the text is not shown here, it may be a secret"
    return replace(problem, message=message, hint=hint)


class _Diagnosis:
    """Finds the usual cause of one parser error."""

    def __init__(self, error: yaml.MarkedYAMLError, mark: yaml.Mark, text: str, name: str) -> None:
        self._what = error.problem or ""
        self._context = error.context or ""
        self._mark = mark
        self._start = error.context_mark or mark
        self._text = text
        self._name = name
        self._lines = _LINE_BREAK.split(text)

    def find_cause(self) -> Problem:
        # Most specific first: a stray character or an open quote often also breaks the structure after it.
        for check in (
            self._check_characters,
            self._check_quotes,
            self._check_brackets,
            self._check_lines_above,
            self._check_structure,
        ):
            if (problem := check()) is not None:
                return problem
        context = f" ({self._context})" if self._context else ""
        return self._at(self._mark, f"this is not valid YAML: {self._what}{context}")

    def _at(self, mark: yaml.Mark, message: str, hint: str = "") -> Problem:
        return Problem(message, self._name, mark.line + 1, mark.column + 1, hint=hint)

    def _check_characters(self) -> Problem | None:
        """A character that is not allowed where it is."""
        rest = self._text[self._mark.index :].split("\n", 1)[0]
        if "'\\t'" in self._what or (rest.startswith("\t") and "token" in self._what):
            return self._at(self._mark, "there is a tab character here", "replace it with spaces")
        if "cannot start any token" in self._what:
            hint = f'put quotes around the text: "{rest.strip()}"' if '"' not in rest else "put quotes around the text"
            return self._at(self._mark, f"a text cannot begin with '{rest[:1]}'", hint)
        if self._context in _INDICATORS:
            rest = self._text[self._start.index :].split("\n", 1)[0].split(" #")[0].strip()
            hint = f'put quotes around the text: "{rest}"' if not set(rest) & set("\"',]}") else "put it in quotes"
            return self._at(self._start, f"a text cannot begin with '{rest[:1]}'", hint)
        if "another document" in self._what:
            return self._at(
                self._mark, "a second document begins here ('---')", "put each pipeline in a file of its own"
            )
        return None

    def _check_quotes(self) -> Problem | None:
        if "escape" in self._what:
            quoted = re.compile(r'"[^"\n]*"?').match(self._text, self._start.index)
            return self._at(self._start, *_explain_backslash(quoted[0] if quoted else ""))
        if self._context == "while scanning a quoted scalar":
            quote = self._text[self._start.index]
            hint = f"add {quote} at the end of the text"
            if quote == "'":
                hint += "; inside '...', a ' is written ''"
            return self._at(self._start, f"the quote {quote} that starts here is not closed", hint)
        return None

    def _check_brackets(self) -> Problem | None:
        if self._text[self._mark.index - 1 : self._mark.index + 1] == "${":
            variable = re.compile(r"\$\{[^}\s]*\}?").match(self._text, self._mark.index - 1)
            assert variable is not None, "it begins with ${"
            where = self._mark.line + 1, self._mark.column
            hint = f'put quotes around it: "{variable[0]}"'
            return Problem(f"{variable[0]} inside [...] or {{...}} needs quotes", self._name, *where, hint=hint)
        if self._context in ("while parsing a flow sequence", "while parsing a flow mapping"):
            opening, closing = "[]" if self._context.endswith("sequence") else "{}"
            same = self._start.line == self._mark.line
            opened = f"the '{opening}' " + ("before it" if same else f"in line {self._start.line + 1}")
            text = f"expected ',' or '{closing}' here, to continue or close {opened}"
            return self._at(self._mark, text, self._suggest_ascii())
        if "expected the node content" in self._what:
            sign = self._text[self._mark.index : self._mark.index + 1].strip("\0\r\n")
            if not sign:
                return self._at(self._mark, "a value is missing here", "is a '[' or '{' left open?")
            hint = f'if a text begins with it, put quotes around the text: "{sign}..."'
            return self._at(self._mark, f"unexpected '{sign}'", hint)
        return None

    def _suggest_ascii(self) -> str:
        between = self._text[self._start.index : self._mark.index]
        wide = next((character for character in between if character in "，：［］｛｝【】"), "")
        return f"'{wide}' is a full-width character; use the ASCII one" if wide else ""

    def _check_lines_above(self) -> Problem | None:
        """A full-width colon or `#`, or a missing space: the parser only stops one or more lines later."""
        for number in range(self._mark.line, max(self._mark.line - 3, -1), -1):
            line = self._lines[number] if number < len(self._lines) else ""
            if match := _WIDE_COLON.match(line):
                message, hint = _explain_wide_colon(match[1])
            elif match := re.match(r"\s*＃", line):
                message, hint = "this contains a full-width '＃'", "use the ASCII '#' for comments"
            elif match := _NO_SPACE.match(line):
                message = "there is no space after the ':'"
                hint = f"write `{match[1].strip()}: {line[match.end() :].strip()}`"
            else:
                continue
            return Problem(message, self._name, number + 1, match.end(), hint=hint)
        return None

    def _check_structure(self) -> Problem | None:
        """Wrong indentation, and lines that are not `key: value`."""
        line = self._lines[self._mark.line] if self._mark.line < len(self._lines) else ""
        if "mapping values" in self._what:
            if re.search(r":\s.*\S", line[: self._mark.column]):
                return self._at(self._mark, "there is a second ': ' in this line", "put quotes around the text")
            column = len(line) - len(line.lstrip()) + 1
            text = "this line is indented too far: the line above already has a value"
            return Problem(text, self._name, self._mark.line + 1, column, hint=_SAME_COLUMN)
        if "could not find expected ':'" in self._what:
            line = self._lines[self._start.line].strip()[:40]
            return self._at(self._start, f"expected `key: value`, got {line!r}")
        if "sequence entries" in self._what:
            text = "a list cannot begin on the line of its key"
            return self._at(self._mark, text, "start a new line before the '-'")
        if "expected <block end>" in self._what or "<document start>" in self._what:
            if "<scalar>" in self._what:
                text = "there is more text after the end of the value"
                return self._at(self._mark, text, "put quotes around the whole text")
            return self._at(self._mark, "the indentation does not match the lines above", _SAME_COLUMN)
        return None


def _explain_backslash(quoted: str) -> tuple[str, str]:
    text = quoted.strip('"')
    forward = text.replace("\\", "/")
    return (
        "inside double quotes, \\ starts an escape sequence",
        f"use single quotes: '{text}', or forward slashes: \"{forward}\"",
    )


def _explain_wide_colon(key: str) -> tuple[str, str]:
    return (
        "this contains a full-width colon: '：'",
        f"use ':' and a space: `{key.strip().lstrip('- ')}: ...`, or put quotes around the text",
    )


def _position(text: str, index: int) -> tuple[int, int]:
    """1-based (line, column) of a character."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
