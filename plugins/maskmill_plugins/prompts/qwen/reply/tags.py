"""Parses the tags of Qwen-VL, Qwen2-VL and Qwen2.5-VL, and removes thinking.

Every function reads the text once, since a reply may be long garbage.
"""

from __future__ import annotations

import re

from .parsed_reply import ParsedReply

#: A number.
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
_UNFINISHED = re.compile(r"\([0-9.]{1,9}(?:,[0-9.]{0,9})?(?:\),?(?:\([0-9.,]{0,20})?)?\Z")
_NO_LABEL = re.compile(r"[(){}\[\]<>\n]")
_LABEL_AFTER = re.compile(r"[.,;:!?()\n。，；：！？]")


def remove_thinking(text: str) -> str:
    """Return the text without the model's thinking: `<think>`, closed or not, or only closed."""
    kept: list[str] = []
    at, thinking = 0, False
    for tag in _THOUGHT.finditer(text):
        if tag[1]:
            if not thinking:
                kept.clear()  # the opening tag was in the question: all text before this is thinking
            thinking = False
            at = tag.end()
        elif not thinking:
            kept.append(text[at : tag.start()])
            thinking = True
    if not thinking:
        kept.append(text[at:])
    return " ".join(kept)


def read_numbers(text: str) -> list[float]:
    """Return the numbers of a text with only numbers, brackets and commas; [] for any other text."""
    parts = [part for part in _BETWEEN.split(text) if part]
    return [float(part) for part in parts] if all(map(_NUMBER.fullmatch, parts)) else []


def parse_tags(text: str, parsed: ParsedReply) -> bool:
    """Parse `<ref>..</ref><box>(..),(..)</box>` and `<|object_ref_start|>..<|box_start|>(..),(..)<|box_end|>`.

    Returns:
        Whether any object was found.
    """
    if _IN_TEXT.search(text):
        return False  # in a string of a JSON object, which has more information
    before = len(parsed.found)
    label, kind, at = "", "", 0
    for tag in _TAG.finditer(text):
        closes = tag[1] == "/" or tag[4] == "end"
        if kind:
            label = _add_tag(kind, text[at : tag.start()], closes, label, parsed)
        kind = "" if closes else (tag[2] or tag[3])
        at = tag.end()
    if kind:
        parsed.truncated = True
        _add_tag(kind, text[at:], False, label, parsed)
    return len(parsed.found) > before


def _add_tag(kind: str, inside: str, closed: bool, label: str, parsed: ParsedReply) -> str:
    """Add the content of a tag; return the label for the tags after it."""
    if kind in ("ref", "object_ref"):
        return inside
    if not closed and not inside.rstrip().endswith((")", "]")):
        return label  # the last number may be cut off
    numbers = read_numbers(inside)
    if len(numbers) == 2:
        parsed.add_points([(numbers[0], numbers[1], 1)], [label])
    elif len(numbers) % 4 == 0:
        for start in range(0, len(numbers), 4):
            parsed.add_box(numbers[start : start + 4], [label])
    else:
        parsed.counts["no box"] += 1
    return label


def parse_points_tags(text: str, parsed: ParsedReply) -> bool:
    """Parse `<points x1=".." y1=".." alt="label">label</points>`.

    Returns:
        Whether any object was found.
    """
    before = len(parsed.found)
    for tag in _POINTS.finditer(text):
        attributes = dict(_ATTRIBUTE.findall(tag[1]))
        names = [attributes.get("alt", ""), tag[2] or ""]
        parsed.truncated |= tag[2] is None
        for x in filter(_X.fullmatch, attributes):
            pair = [read_numbers(attributes[x]), read_numbers(attributes.get("y" + x[1:], ""))]
            if len(pair[0]) == len(pair[1]) == 1:
                parsed.add_points([(pair[0][0], pair[1][0], 1)], names)
    return len(parsed.found) > before


def parse_bare_tags(text: str, parsed: ParsedReply) -> bool:
    """Parse `label(x1,y1),(x2,y2)`, the remains of tags whose special tokens the server removed.

    Spaces are accepted if there is no other text in the reply; otherwise only the exact form counts.

    Returns:
        Whether any object was found.
    """
    matches = list(_CORNERS.finditer(text))
    ends = [0, *(match.end() for match in matches)]
    labels = [text[at : match.start()] for at, match in zip(ends, matches, strict=False)]
    whole = not text[ends[-1] :].strip() and not any(_NO_LABEL.search(label.strip()) for label in labels)
    before = len(parsed.found)
    parsed.truncated |= bool(matches) and _UNFINISHED.search(text[ends[-1] :][-200:]) is not None
    for match, label in zip(matches, labels, strict=True):
        attached = not label[-1:].isspace() or label[-1:] == "\n"
        if whole or (attached and _TIGHT.fullmatch(match[0])):
            parsed.add_box([float(one) for one in match.groups()], [_LABEL_AFTER.split(label)[-1]])
    return len(parsed.found) > before
