"""What the keys of a reply's JSON mean: the names that Qwen's generations and their users' prompts give them.

Keys are compared folded: in lower case, without `_`, `-` and spaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from .found import is_number

BOX_KEYS = frozenset({"bbox2d", "bbox", "box2d", "box", "boundingbox", "bboxes", "boxes", "bboxes2d", "boundingboxes"})
BOX_KEYS |= {"rect", "rectangle", "边界框", "包围框", "检测框", "框"}
POINT_KEYS = frozenset({"point2d", "point", "points", "points2d", "keypoint", "keypoints", "center", "点", "坐标点"})
#: Of either.
PLACE_KEYS = frozenset({"coordinate", "coordinates", "coords", "position", "location", "坐标", "位置"})
#: The best first.
NAME_KEYS: tuple[str, ...] = ("label", "nameen", "name", "namezh", "category", "class", "classname", "labelname")
NAME_KEYS += ("objectname", "object", "标签", "类别", "名称", "物体")
#: Where there is no name.
OTHER_NAME_KEYS = ("alt", "action", "type", "description", "textcontent")
LABEL_KEYS = frozenset(NAME_KEYS + OTHER_NAME_KEYS)
#: Whatever stands there is no coordinates; thoughts are among them.
OTHER_KEYS = frozenset({"bbox3d", "size", "imagesize", "resolution", "dimensions", "shape", "color", "colour", "rgb"})
OTHER_KEYS |= {"rgba", "score", "scores", "confidence", "id", "ids", "index", "indices", "count", "counts"}
OTHER_KEYS |= {"think", "thinking", "thought", "thoughts", "reasoning", "reasoningcontent", "analysis", "思考"}
#: Of points that lie on the object, and off it.
SIDES = dict.fromkeys(("foreground", "positive", "foregroundpoints", "positivepoints", "前景点", "前景"), 1)
SIDES |= dict.fromkeys(("background", "negative", "backgroundpoints", "negativepoints", "背景点", "背景"), 0)

#: Of what holds objects, and says nothing about them; other keys do: `{"car": [{"bbox_2d": [..]}]}`.
CONTAINER_KEYS = frozenset({"objects", "results", "result", "detections", "items", "data", "annotations", "answer"})
CONTAINER_KEYS |= {"output", "response", "predictions", "arguments", "image", "instances", "content", "json"}

_SIZES = frozenset({"width", "height", "w", "h"})
_FOUR = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_TWO = ("topleft", "bottomright")
_DROPPED = re.compile(r"[\s_\"'-]+")


def folded(key: str) -> str:
    """A key as the tables here have it."""
    return _DROPPED.sub("", key.lower())


def names_of(keyed: Mapping[str, Any]) -> list[str]:
    """What an object is called, the best name first."""
    return _texts(keyed, NAME_KEYS) or _texts(keyed, OTHER_NAME_KEYS)


def _texts(keyed: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    values = (keyed.get(key) for key in keys)
    lists = (value if isinstance(value, list) else [value] for value in values)
    return [text for texts in lists for text in texts if isinstance(text, str)]


def corners_of(keyed: Mapping[str, Any]) -> list[Any] | None:
    """The four sides of an object that has a key for each, or for each of two corners."""
    for names in _FOUR:
        sides = [keyed.get(name) for name in names]
        if all(map(is_number, sides)):
            return sides
    corners = [spot for name in _TWO for spot in pairs(keyed.get(name))]
    return [number for x, y, _ in corners for number in (x, y)] if len(corners) == 2 else None


def pairs(value: Any) -> list[tuple[float, float, int]]:
    """Pairs x, y, or triples x, y, label (0 or 1), of one or of many; [] if it is anything else."""
    if isinstance(value, dict):
        value = _pair_of(value)
    if not isinstance(value, list) or not value:
        return []
    if all(map(is_number, value)):
        value = [value]
    each = [_pair_of(one) if isinstance(one, dict) else one for one in value]
    fitting = [one for one in each if _is_pair(one)]
    if len(fitting) < len(each):
        return []
    return [(one[0], one[1], int(one[2]) if len(one) == 3 else 1) for one in fitting]


def _pair_of(value: Mapping[str, Any]) -> list[Any] | None:
    """The x and y of an object; None if they are a corner of a box that has a width."""
    keyed = {folded(key): one for key, one in value.items()}
    return None if _SIZES & set(keyed) else [keyed.get("x"), keyed.get("y")]


def _is_pair(value: Any) -> TypeGuard[list[float]]:
    if not (isinstance(value, list) and len(value) in (2, 3) and all(map(is_number, value))):
        return False
    return len(value) == 2 or value[2] in (0, 1)


def is_bare(data: list[Any]) -> bool:
    """Whether a list holds numbers, or lists of them, or nothing."""
    return all(is_number(one) or (isinstance(one, list) and one and is_bare(one)) for one in data)
