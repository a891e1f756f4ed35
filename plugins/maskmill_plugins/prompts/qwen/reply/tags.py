"""Answers that are not JSON: the tags of Qwen-VL, Qwen2-VL and Qwen2.5-VL; and thoughts, which are none.

Every function goes through the text once: a reply may be long, and garbage.
"""

from __future__ import annotations

import re

from .found import Reading

#: A number that stands by itself.
NUMBER = r"[-+]?(?:[0-9]+\.[0-9]*|\.?[0-9]+)(?:[eE][-+]?[0-9]+)?"
_NUMBER = re.compile(NUMBER)
_BETWEEN = re.compile(r"[\s\[\](),;，；]+")
_THOUGHT = re.compile(r"<(/?)think(?:ing)?(?:\s[^<>]{0,100})?>", re.IGNORECASE)
_TAG = re.compile(r"<(/?)(ref|box|point)>|<\|(object_ref|box|point)_(start|end)\|>")
_IN_TEXT = re.compile(r"""["']\s{0,9}<(?:box>|\|box_start)""")
_POINTS = re.compile(r"<points?\s([^<>]*)(?:>([^<]*)|\Z)")
_ATTRIBUTE = re.compile(r"""(?<!\w)(\w{1,20})\s{0,9}=\s{0,9}["']([^"'<>]*)["']""")
_X = re.compile(r"x[0-9]*")
_PLAIN = r"\s{0,9}(-?[0-9]+(?:\.[0-9]+)?)\s{0,9}"
_CORNERS = re.compile(rf"\({_PLAIN},{_PLAIN}\)\s{{0,9}},\s{{0,9}}\({_PLAIN},{_PLAIN}\)")
_TIGHT = re.compile(r"\([0-9]{1,4},[0-9]{1,4}\),\([0-9]{1,4},[0-9]{1,4}\)")
_NO_LABEL = re.compile(r"[(){}\[\]<>\n]")
_LABEL_AFTER = re.compile(r"[.,;:!?()\n。，；：！？]")


def without_thoughts(text: str) -> str:
    """The text less what the model thought: `<think>`, closed or not, or only closed."""
    kept: list[str] = []
    at, thinking = 0, False
    for tag in _THOUGHT.finditer(text):
        if tag[1]:
            if not thinking:
                kept.clear()  # its beginning was in the question: all before this was thought
            thinking = False
            at = tag.end()
        elif not thinking:
            kept.append(text[at : tag.start()])
            thinking = True
    if not thinking:
        kept.append(text[at:])
    return " ".join(kept)


def numbers_in(text: str) -> list[float]:
    """The numbers of a text that holds nothing else but brackets and commas; [] for all other texts."""
    parts = [part for part in _BETWEEN.split(text) if part]
    return [float(part) for part in parts] if all(map(_NUMBER.fullmatch, parts)) else []


def tags(text: str, reading: Reading) -> bool:
    """Read `<ref>..</ref><box>(..),(..)</box>` and `<|object_ref_start|>..<|box_start|>(..),(..)<|box_end|>`.

    Returns:
        Whether there was anything.
    """
    if _IN_TEXT.search(text):
        return False  # in a text of a JSON object, which knows more
    before = len(reading.found)
    label, kind, at = "", "", 0
    for tag in _TAG.finditer(text):
        closes = tag[1] == "/" or tag[4] == "end"
        if kind:
            label = _ended(kind, text[at : tag.start()], closes, label, reading)
        kind = "" if closes else (tag[2] or tag[3])
        at = tag.end()
    if kind:
        reading.truncated = True
        _ended(kind, text[at:], False, label, reading)
    return len(reading.found) > before


def _ended(kind: str, inside: str, closed: bool, label: str, reading: Reading) -> str:
    """Take what stands in a tag; the label for what follows."""
    if kind in ("ref", "object_ref"):
        return inside
    if not closed and not inside.rstrip().endswith((")", "]")):
        return label  # the last number may have lost its end
    numbers = numbers_in(inside)
    if len(numbers) == 2:
        reading.add_points([(numbers[0], numbers[1], 1)], [label])
    elif len(numbers) % 4 == 0:
        for start in range(0, len(numbers), 4):
            reading.add_box(numbers[start : start + 4], [label])
    else:
        reading.counts["no box"] += 1
    return label


def points_tags(text: str, reading: Reading) -> bool:
    """Read `<points x1=".." y1=".." alt="label">label</points>`.

    Returns:
        Whether there was anything.
    """
    before = len(reading.found)
    for tag in _POINTS.finditer(text):
        given = dict(_ATTRIBUTE.findall(tag[1]))
        names = [given.get("alt", ""), tag[2] or ""]
        reading.truncated |= tag[2] is None
        for x in filter(_X.fullmatch, given):
            pair = [numbers_in(given[x]), numbers_in(given.get("y" + x[1:], ""))]
            if len(pair[0]) == len(pair[1]) == 1:
                reading.add_points([(pair[0][0], pair[1][0], 1)], names)
    return len(reading.found) > before


def swallowed(text: str, reading: Reading) -> bool:
    """Read `label(x1,y1),(x2,y2)`, what is left of tags where a server swallowed their tokens.

    A reply that is nothing but that may have spaces in it; amid other words only the exact form counts.

    Returns:
        Whether there was anything.
    """
    matches = list(_CORNERS.finditer(text))
    ends = [0, *(match.end() for match in matches)]
    labels = [text[at : match.start()] for at, match in zip(ends, matches, strict=False)]
    whole = not text[ends[-1] :].strip() and not any(_NO_LABEL.search(label.strip()) for label in labels)
    before = len(reading.found)
    for match, label in zip(matches, labels, strict=True):
        attached = not label[-1:].isspace() or label[-1:] == "\n"
        if whole or (attached and _TIGHT.fullmatch(match[0])):
            reading.add_box([float(one) for one in match.groups()], [_LABEL_AFTER.split(label)[-1]])
    return len(reading.found) > before
