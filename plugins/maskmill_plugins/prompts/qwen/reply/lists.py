"""Lists of numbers without any key: which of them are answers, and which are prose.

A list is an answer if one of these holds:

- there is nothing but values in the reply;
- it is a list of lists of two to four numbers, wherever it stands: prose has no such thing, unless
  what was said last before it is a word for a size or an example;
- it stands on a line of its own, a bullet or a code block's marks aside;
- it ends a line that says before it that it is a box or a point ("The bounding box is [..]"), or
  that has only a name before it, with a colon or bold ("car: [..]"), and the same exception holds;
- it is four numbers, and the model was asked for a box without being shown a picture.

Numbers outside brackets are never an answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .keys import is_bare
from .scan import Value

_WORD = re.compile(
    r"(?P<says>\b(?:bb?ox(?:es)?(?:_?2d)?|bounding|rectangles?|coordinates?|points?|located)\b|坐标|框|位置|位于|点)"
    r"|(?P<other>\bsizes?\b|resolution|dimension|\bimage is\b|reference|source|example|尺寸|大小|分辨率|例如)"
)
_OFF = re.compile(r"background|negative|背景|负")
_ON = re.compile(r"foreground|positive|前景|正")
_BULLET = re.compile(r"(?:[\s\-*•#>`]|[0-9]{1,3}[.)]\s)*(?:json)?\s*")
_NAMED = re.compile(r"([^:：\[\]{}]{1,40}?)(?:[\s*\"]*[:：][\s*]*|\*\*\s*)")
#: May follow it on its line.
_END = " \t\r.,;，。；`*)"
#: Characters of a line that are looked at, before a list and after it.
_LINE = 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where a list stands in a reply.

    Attributes:
        answer: it is one.
        name: what the line calls it, or "".
        off: the words before it say that its points lie off the object.
    """

    answer: bool
    name: str
    off: bool


def place_of(value: Value, since: int, text: str, prose: bool, box: bool) -> Place:
    """Where a bare list stands.

    Args:
        value: the list.
        since: where the value before it ends.
        text: the reply.
        prose: whether there are words outside all values.
        box: four numbers are an answer wherever they stand.
    """
    before = text[max(since, value.start - _LINE) : value.start]
    line = _BULLET.sub("", before.rpartition("\n")[2], count=1)
    ends = not text[value.end : value.end + _LINE].partition("\n")[0].strip(_END)
    named = _NAMED.fullmatch(line) if ends else None
    said = [match.lastgroup for match in _WORD.finditer(line.lower())][-1:]
    if not value.data:
        answer = not prose or (ends and (not line or not text[value.end :].strip(_END + "\n")))
    elif not prose or (box and len(value.data) == 4):
        answer = True
    elif said == ["other"]:
        answer = False
    else:
        answer = _nested(value) or (ends and (not line or bool(said) or named is not None))
    off = bool(_OFF.search(before.lower()))
    name = named[1] if named and not said and not off and not _ON.search(line.lower()) else ""
    return Place(answer, name, off)


def _nested(value: Value) -> bool:
    return is_bare(value.data) and all(isinstance(one, list) and len(one) in (2, 3, 4) for one in value.data)
