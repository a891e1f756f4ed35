"""Decides which lists of numbers without a key are answers, and which are prose.

A list is an answer if one of these holds:

- there is nothing but values in the reply;
- it is a list of lists of two to four numbers, anywhere: this does not occur in prose, unless the last
  keyword before it is one for a size or an example;
- it is alone on its line, apart from a bullet or the marks of a code block;
- it ends a line that announces a box or a point ("The bounding box is [..]"), or that has only a name
  before it, with a colon or in bold ("car: [..]"), with the same exception;
- it is four numbers, and the model was asked for a box without an image.

Numbers outside brackets are never an answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .json_keys import is_bare
from .scan import Value

_WORD = re.compile(
    r"(?P<answer>\b(?:bb?ox(?:es)?(?:_?2d)?|bounding|rectangles?|coordinates?|points?|located)\b|坐标|框|位置|位于|点)"
    r"|(?P<other>\bsizes?\b|resolution|dimension|\bimage is\b|reference|source|example|尺寸|大小|分辨率|例如)"
)
_OFF = re.compile(r"background|negative|背景|负")
_ON = re.compile(r"foreground|positive|前景|正")
_BULLET = re.compile(r"(?:[\s\-*•#>`]|[0-9]{1,3}[.)]\s)*(?:json)?\s*")
_NAMED = re.compile(r"([^:：\[\]{}]{1,40}?)(?:[\s*\"]*[:：][\s*]*|\*\*\s*)")
#: What may follow the list on its line.
_END = " \t\r.,;，。；`*)"
#: Characters of a line that are examined, before a list and after it.
_LINE = 200


@dataclass(frozen=True, slots=True)
class ListContext:
    """The meaning of a list by the text around it.

    Attributes:
        is_answer: whether it is an answer.
        name: of the object, by the text on its line, or "".
        off_object: whether its points are off the object, by the text before it.
    """

    is_answer: bool
    name: str
    off_object: bool


def classify_list(value: Value, since: int, text: str, prose: bool, box: bool) -> ListContext:
    """Decide whether a list without a key is an answer.

    Args:
        value: the list.
        since: where the value before it ends.
        text: the reply.
        prose: whether there are words outside all values.
        box: whether four numbers are always an answer.
    """
    before = text[max(since, value.start - _LINE) : value.start]
    line = _BULLET.sub("", before.rpartition("\n")[2], count=1)
    ends = not text[value.end : value.end + _LINE].partition("\n")[0].strip(_END)
    named = _NAMED.fullmatch(line) if ends else None
    keyword = [match.lastgroup for match in _WORD.finditer(line.lower())][-1:]
    if not value.data:
        answer = not prose or (ends and (not line or not text[value.end :].strip(_END + "\n")))
    elif not prose or (box and len(value.data) == 4):
        answer = True
    elif keyword == ["other"]:
        answer = False
    else:
        answer = _is_nested(value) or (ends and (not line or bool(keyword) or named is not None))
    off = bool(_OFF.search(before.lower()))
    name = named[1] if named and not keyword and not off and not _ON.search(line.lower()) else ""
    return ListContext(answer, name, off)


def _is_nested(value: Value) -> bool:
    return is_bare(value.data) and all(isinstance(one, list) and len(one) in (2, 3, 4) for one in value.data)
