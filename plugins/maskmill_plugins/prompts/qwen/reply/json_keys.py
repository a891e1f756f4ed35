"""The JSON keys that Qwen models use in replies, by meaning.

Keys are compared normalized: in lower case, without `_`, `-` and spaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from .parsed_reply import LabeledPoint, is_number

BOX_KEYS = frozenset({"bbox2d", "bbox", "box2d", "box", "boundingbox", "bboxes", "boxes", "bboxes2d", "boundingboxes"})
BOX_KEYS |= {"rect", "rectangle", "边界框", "包围框", "检测框", "框"}
POINT_KEYS = frozenset({"point2d", "point", "points", "points2d", "keypoint", "keypoints", "center", "点", "坐标点"})
#: Of boxes or points.
PLACE_KEYS = frozenset({"coordinate", "coordinates", "coords", "position", "location", "坐标", "位置"})
#: Best first.
NAME_KEYS: tuple[str, ...] = ("label", "nameen", "name", "namezh", "category", "class", "classname", "labelname")
NAME_KEYS += ("objectname", "object", "标签", "类别", "名称", "物体")
#: Used if there is no name.
OTHER_NAME_KEYS = ("alt", "action", "type", "description", "textcontent")
LABEL_KEYS = frozenset(NAME_KEYS + OTHER_NAME_KEYS)
#: Their values are never coordinates.
OTHER_KEYS = frozenset({"bbox3d", "size", "imagesize", "resolution", "dimensions", "shape", "color", "colour", "rgb"})
OTHER_KEYS |= {"rgba", "score", "scores", "confidence", "id", "ids", "index", "indices", "count", "counts"}
OTHER_KEYS |= {"think", "thinking", "thought", "thoughts", "reasoning", "reasoningcontent", "analysis", "思考"}
#: Of points on the object (1) and off it (0).
SIDES = dict.fromkeys(("foreground", "positive", "foregroundpoints", "positivepoints", "前景点", "前景"), 1)
SIDES |= dict.fromkeys(("background", "negative", "backgroundpoints", "negativepoints", "背景点", "背景"), 0)

#: Of containers that do not name their objects, as other keys do: `{"car": [{"bbox_2d": [..]}]}`.
CONTAINER_KEYS = frozenset({"objects", "results", "result", "detections", "items", "data", "annotations", "answer"})
CONTAINER_KEYS |= {"output", "response", "predictions", "arguments", "image", "instances", "content", "json"}

_SIZES = frozenset({"width", "height", "w", "h"})
_FOUR = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
_TWO = ("topleft", "bottomright")
_DROPPED = re.compile(r"[\s_\"'-]+")


def normalize_key(key: str) -> str:
    """Return a key as it is written in the tables here."""
    return _DROPPED.sub("", key.lower())


def find_names(keyed: Mapping[str, Any]) -> list[str]:
    """Return the names of an object, the best first."""
    return _collect_texts(keyed, NAME_KEYS) or _collect_texts(keyed, OTHER_NAME_KEYS)


def _collect_texts(keyed: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    values = (keyed.get(key) for key in keys)
    lists = (value if isinstance(value, list) else [value] for value in values)
    return [text for texts in lists for text in texts if isinstance(text, str)]


def find_corners(keyed: Mapping[str, Any]) -> list[Any] | None:
    """Return the four sides of an object with a key for each side, or for each of two corners."""
    for names in _FOUR:
        sides = [keyed.get(name) for name in names]
        if all(map(is_number, sides)):
            return sides
    corners = [point for name in _TWO for point in read_points(keyed.get(name))]
    return [number for x, y, _ in corners for number in (x, y)] if len(corners) == 2 else None


def read_points(value: Any) -> list[LabeledPoint]:
    """Return one or more points x, y or x, y, label (0 or 1); [] for anything else."""
    if isinstance(value, dict):
        value = _read_pair(value)
    if not isinstance(value, list) or not value:
        return []
    if all(map(is_number, value)):
        value = [value]
    each = [_read_pair(one) if isinstance(one, dict) else one for one in value]
    fitting = [one for one in each if _is_pair(one)]
    if len(fitting) < len(each):
        return []
    return [(one[0], one[1], int(one[2]) if len(one) == 3 else 1) for one in fitting]


def _read_pair(value: Mapping[str, Any]) -> list[Any] | None:
    """Return the x and y of an object; None if they are the corner of a box with a width."""
    keyed = {normalize_key(key): one for key, one in value.items()}
    return None if _SIZES & set(keyed) else [keyed.get("x"), keyed.get("y")]


def _is_pair(value: Any) -> TypeGuard[list[float]]:
    if not (isinstance(value, list) and len(value) in (2, 3) and all(map(is_number, value))):
        return False
    return len(value) == 2 or value[2] in (0, 1)


def is_bare(data: list[Any]) -> bool:
    """Return whether a list has only numbers or lists of them, or is empty."""
    return all(is_number(one) or (isinstance(one, list) and one and is_bare(one)) for one in data)
