"""Replies that are nothing but an answer in a few forms without JSON: one line of numbers, a click, a wrapper."""

from __future__ import annotations

import re

from .parsed_reply import ParsedReply, Wanted

_NUMBER = r"([-+]?[0-9]{1,9}(?:\.[0-9]{1,9})?)"
_SEPARATOR = r"(?:\s*[,，;]\s*|\s+)"
_FOUR = re.compile(rf"[(（]?\s*{_NUMBER}{_SEPARATOR}{_NUMBER}{_SEPARATOR}{_NUMBER}{_SEPARATOR}{_NUMBER}\s*[)）]?")
_NAMED_FOUR = re.compile(
    r"\W{0,3}"
    + r"\s*[,;]?\s*".join(rf"(?:{names})\s*[=:]\s*{_NUMBER}" for names in ("x1", "y1", "x2", "y2"))
    + r"\W{0,3}"
)
_TWO = re.compile(rf"[(（]\s*{_NUMBER}\s*[,，]\s*{_NUMBER}\s*[)）]|{_NUMBER}\s*,\s*{_NUMBER}")
#: A call that clicks: `Click(x, y)`, `pyautogui.click(x=1, y=2)`, `click(start_box='(1,2)')`.
_CLICK = re.compile(
    r"(?<![a-z])(?:(?:left|right|double|single)_?)?(?:click|tap|long_?press)\((?:\w{1,12}\s?=\s?)?[\s\"'\[(]{0,4}"
    rf"(?:<\|?\w{{1,12}}\|?>)?\(?(?:x\s?=\s?)?{_NUMBER}(?:\s?,\s?|\s)(?:y\s?=\s?)?{_NUMBER}"
    r"\)?(?:<[/|]{1,2}?\w{1,12}\|?>)?[\s\"'\])]{0,4}\)",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"<(/?)answer>", re.IGNORECASE)
_FENCE = re.compile(r"```\w*")


def unwrap_answer(text: str) -> str:
    """Return what stands in `<answer>..</answer>`, each on lines of its own; the text itself without that tag."""
    parts: list[str] = []
    begun: int | None = None
    for tag in _ANSWER.finditer(text):
        if not tag[1]:
            begun = tag.end()
        elif begun is not None:
            parts.append(text[begun : tag.start()])
            begun = None
    if begun is not None:
        parts.append(text[begun:])
    return "\n".join(parts) if any(part.strip() for part in parts) else text


def parse_whole_text(text: str, wanted: Wanted, parsed: ParsedReply) -> bool:
    """Parse a reply that is one line of four numbers, one pair where points were asked for, or calls that click.

    Returns:
        Whether any object was found.
    """
    line = _FENCE.sub(" ", text[:300]).strip(" \t\r\n`*.。") if len(text) <= 300 else ""
    before = len(parsed.found)
    if wanted == "boxes":
        match = _FOUR.fullmatch(line) or _NAMED_FOUR.fullmatch(line)
        if match is not None:
            parsed.add_box([float(one) for one in match.groups()], certain=match.re is _NAMED_FOUR)
    elif (pair := _TWO.fullmatch(line)) is not None:
        x, y = (float(one) for one in pair.groups() if one is not None)
        parsed.add_points([(x, y, 1)])
    else:
        for click in _CLICK.finditer(text):
            parsed.add_points([(float(click[1]), float(click[2]), 1)])
    return len(parsed.found) > before
