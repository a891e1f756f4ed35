"""Tables of Markdown whose head names the columns: a name, and a box or its four sides."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .json_keys import LABEL_KEYS, classify_key, find_corners, has_size, normalize_key, read_number
from .parsed_reply import ParsedReply, is_number
from .tags import read_numbers

_RULE = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*")
_SIDES = re.compile(
    r"\(?\s*(?:x_?min|x1|left)\s*,\s*(?:y_?min|y1|top)\s*,\s*(?:x_?max|x2|right)\s*,\s*(?:y_?max|y2|bottom)"
)
#: Longer lines are no rows.
_LONGEST = 1000


def parse_tables(text: str, parsed: ParsedReply) -> bool:
    """Parse all tables of a reply.

    Returns:
        Whether any object was found.
    """
    before = len(parsed.found)
    head: list[str] | None = None
    last = ""
    for line in text.splitlines():
        if len(line) > _LONGEST or "|" not in line:
            head, last = None, ""
        elif head is None and last and _RULE.fullmatch(line):
            head = _split_row(last)
        elif head is not None:
            _add_row(head, _split_row(line), parsed)
        else:
            last = line
    return len(parsed.found) > before


def _split_row(line: str) -> list[str]:
    return [cell.strip(" \t*`") for cell in line.strip().strip("|").split("|")]


def _add_row(head: Sequence[str], row: Sequence[str], parsed: ParsedReply) -> None:
    """Add the object of a row, if the head says where its name and its box are."""
    if len(row) != len(head):
        return
    cells = dict(zip(map(_read_head, head), row, strict=True))
    names = [cells[key] for key in cells if key in LABEL_KEYS][:1]
    keyed = {key: read_number(value) for key, value in cells.items()}
    corners = find_corners(keyed)
    if corners is not None:
        parsed.add_box(corners, names, certain=True)
    elif has_size(keyed) or any(classify_key(key) in ("sized box", "reordered box") for key in head if key):
        parsed.counts["width and height"] += 1
    else:
        for title, cell in zip(head, row, strict=True):
            numbers = read_numbers(cell)
            is_box = classify_key(title.split("(")[0].strip()) in ("box", "place") or _SIDES.search(title.lower())
            if is_box and len(numbers) == 4 and all(map(is_number, numbers)):
                parsed.add_box(numbers, names)


def _read_head(title: str) -> str:
    """Return the key of a column: `Object Name (English)` and `X min` are `objectname` and `xmin`."""
    return normalize_key(title.split("(", maxsplit=1)[0])
