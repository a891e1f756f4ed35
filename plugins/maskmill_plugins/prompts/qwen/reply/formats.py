"""What a reply says in words about its four numbers: width and height, or another order than x1, y1, x2, y2.

Such boxes are refused: maskmill reads corners, and guesses no other meaning.
"""

from __future__ import annotations

import re

_GAP = r"[\s\"'`*_(){}\[\]<>]{0,6}(?:,|，|;|、|\band\b|和)[\s\"'`*_(){}\[\]<>]{0,6}"
_WIDTH, _HEIGHT = r"(?:box[_ ])?(?:w|width|宽度?)\b", r"(?:the )?(?:box[_ ])?(?:h|height|高度?)(?![a-z])"
_BEFORE = r"(?:c|center[_ ]?|centre[_ ]?|left[_ ]?|top[_ ]?|top[_ ]?left[_ ]?|tl[_ ]?|box[_ ])?"
_AFTER = r"(?:[_ ]?(?:c|center|centre|min|left|top|tl|coordinate|[01]))?\b"
_X, _Y = rf"\b(?:{_BEFORE}x{_AFTER}|left\b)", rf"(?:{_BEFORE}y{_AFTER}|top\b)"
_SIZED = re.compile(
    rf"{_X}{_GAP}{_Y}{_GAP}{_WIDTH}{_GAP}{_HEIGHT}"
    r"|\b(?:c?xc?ywh|[lt]{2}wh)\b(?![\"']\s{0,3}[:：]\s{0,3}[\[{])"  # a key is of its own object only
    r"|\b(?:coco|yolo)(?:[- ]style)? (?:format|bbox|box(?:es)?|annotations?)\b"
    r"|\b(?:top[- ]left|upper[- ]left|cent(?:er|re))[^\n.\[\]{}]{0,40}\bwidth\b(?:,| and|/)[^\n.\[\]{}]{0,12}\bheight\b"
    r"|(?:左上角|中心)[^\n\[\]{}。]{0,20}宽度?[^\n\[\]{}。]{0,6}高",
    re.IGNORECASE,
)
_REORDERED = re.compile(
    rf"\byxyx\b|\by_?(?:1|min){_GAP}x_?(?:1|min){_GAP}y_?(?:2|max){_GAP}x_?(?:2|max)\b"
    rf"|\btop{_GAP}left{_GAP}bottom{_GAP}right\b|\bx_?(?:1|min){_GAP}x_?(?:2|max){_GAP}y_?(?:1|min)",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"(?:\bnot?|\binstead of|\brather than|\bunlike|不是|而非)(?: in)?(?: the)?[\s\[({\"'`]{0,4}\Z", re.IGNORECASE
)


def find_declared_format(text: str) -> str:
    """Return what four numbers are by the words of a reply, as a kind of dropped object; "" if they are corners.

    Args:
        text: the reply, without thinking.
    """
    for kind, pattern in (("width and height", _SIZED), ("another order", _REORDERED)):
        if any(not _DENIED.search(text, max(0, match.start() - 30), match.start()) for match in pattern.finditer(text)):
            return kind
    return ""
