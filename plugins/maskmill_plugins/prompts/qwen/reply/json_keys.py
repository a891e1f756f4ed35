"""The JSON keys that Qwen models use in replies, by meaning.

Keys are compared normalized: in lower case, without `_`, `-` and spaces.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, TypeGuard

from .parsed_reply import LabeledPoint, is_number

BOX_KEYS = frozenset({"bbox2d", "bbox", "box2d", "box", "boundingbox", "bboxes", "boxes", "bboxes2d", "boundingboxes"})
BOX_KEYS |= {"rect", "rectangle", "边界框", "包围框", "检测框", "框"}
POINT_KEYS = frozenset({"point2d", "point", "points", "points2d", "keypoint", "keypoints", "点", "坐标点"})
#: Points in the middle: more numbers than two are not corners.
CENTER_KEYS = frozenset({"center", "centre", "centerpoint", "centroid", "中心点", "中心"})
#: Of boxes or points.
PLACE_KEYS = frozenset({"coordinate", "coordinates", "coords", "position", "location", "坐标", "位置"})
#: Best first.
NAME_KEYS: tuple[str, ...] = ("label", "nameen", "labelen", "name", "names", "namezh", "labelzh", "category", "class")
NAME_KEYS += ("classname", "categoryname", "labelname", "objectname", "object", "标签", "类别", "名称", "物体")
#: Used if there is no name.
OTHER_NAME_KEYS: tuple[str, ...] = (
    "alt",
    "action",
    "objecttype",
    "type",
    "description",
    "textcontent",
    "text",
    "caption",
    "phrase",
)
OTHER_NAME_KEYS += ("title", "tag", "entity", "item", "subject", "target", "ref")
LABEL_KEYS = frozenset(NAME_KEYS + OTHER_NAME_KEYS)
#: Their values are never coordinates.
OTHER_KEYS = frozenset({"bbox3d", "think", "thinking", "thought", "thoughts", "reasoning", "reasoningcontent"})
OTHER_KEYS |= {"area", "areas", "total", "time", "version", "scale", "range", "weights", "visibility", "num"}
OTHER_KEYS |= {"analysis", "思考", "数量", "大小", "尺寸", "分辨率", "置信度", "颜色"}
#: Of points on the object (1) and off it (0).
SIDES = dict.fromkeys(("foreground", "positive", "foregroundpoints", "positivepoints", "前景点", "前景"), 1)
SIDES |= dict.fromkeys(("background", "negative", "backgroundpoints", "negativepoints", "背景点", "背景"), 0)

#: Of containers that do not name their objects, as other keys do: `{"car": [{"bbox_2d": [..]}]}`.
CONTAINER_KEYS = frozenset({"objects", "results", "result", "detections", "items", "data", "annotations", "answer"})
CONTAINER_KEYS |= {"output", "response", "predictions", "arguments", "image", "instances", "content", "json"}
CONTAINER_KEYS |= {"answers", "finalanswer", "detectedobjects", "targets", "entities", "found", "locations", "list"}
CONTAINER_KEYS |= {"目标", "结果", "检测结果", "物体列表"}

Kind = Literal["box", "sized box", "reordered box", "point", "place", "side", "container", "other", "unknown"]
_PLAIN = r"(?:object|obj|detected|detection|predicted|pred|target|final|absolute|abs|relative|rel|normalized|normalised"
_PLAIN += (
    r"|norm|pixels?|px|the|2d|visible|tight|xyxy|ltrb|x1y1x2y2|coordinates?|coords?|corners|list|array|values?|pos"
)
_PLAIN += r"|1000|0to1000)*"
#: A word for a box, with words around it that say nothing about which box: `bounding_box_2d`, `bbox_coordinates`.
_BOX = re.compile(
    rf"{_PLAIN}(?:bb?ox(?:es)?|bounding|bounding(?:box(?:es)?|rect(?:angle)?s?)|rect(?:angle)?s?|rois?|regions?"
    rf"|regionofinterest|xyxy|ltrb|x1y1x2y2|xminyminxmaxymax|bounds?|extents?|边界框坐标|框坐标|区域){_PLAIN}"
)
_SIZED = re.compile(r"xywh|c?xc?ywh|cxcy|ltwh|tlwh|xyw|wh$|width|height|宽|高|(?:coco|yolo)(?:bb?ox|box|format)?$")
_REORDERED = re.compile(r"yxyx|y1x1|yminxmin|tlbr|trbl|x1x2y1y2|xxyy|xminxmax")
#: The last words of keys whose values are never coordinates.
_OTHER_WORDS = frozenset(
    [
        "count",
        "counts",
        "size",
        "sizes",
        "resolution",
        "dimension",
        "dimensions",
        "shape",
        "score",
        "scores",
        "confidence",
    ]
)
_OTHER_WORDS |= frozenset(
    [
        "confidences",
        "conf",
        "prob",
        "probability",
        "color",
        "colour",
        "rgb",
        "rgba",
        "id",
        "ids",
        "index",
        "indices",
        "idx",
    ]
)
_OTHER_WORDS |= frozenset({"timestamp", "3d"})
#: Words for the whole picture, of whose parts no object is: `image_region`.
_PICTURE_WORDS = frozenset(
    [
        "image",
        "img",
        "picture",
        "photo",
        "canvas",
        "frame",
        "screen",
        "crop",
        "cropped",
        "source",
        "original",
        "input",
        "page",
    ]
)
_PICTURE_WORDS |= {"viewport", "full", "whole", "search", "view"}
_PART_WORDS = frozenset(
    ["region", "area", "box", "bbox", "rect", "bounds", "bound", "boundary", "border", "roi", "extent", "window"]
)
_KEY_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+[dD]?|[^\W\d_a-zA-Z]+")

SIZE_KEYS = frozenset({"width", "height", "w", "h", "size", "dimensions", "宽", "高", "宽度", "高度"})
_CORNER_KEYS = frozenset({"x", "y", "x0", "y0", "x1", "y1", "xmin", "ymin", "left", "top", "topleft", "cx", "cy"})
_CORNER_KEYS |= {"xcenter", "ycenter", "centerx", "centery", "xc", "yc", "minx", "miny"} | CENTER_KEYS | PLACE_KEYS
_LANGUAGES = ("en", "enus", "english", "英文", "zh", "zhcn", "cn", "chinese", "中文", "ja", "de", "fr", "es", "ko")
_FOUR: tuple[tuple[str, str, str, str], ...] = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
)
_FOUR += (("x0", "y0", "x1", "y1"), ("minx", "miny", "maxx", "maxy"), ("xtl", "ytl", "xbr", "ybr"))
_CORNERS: tuple[tuple[str, str], ...] = (
    ("topleft", "bottomright"),
    ("lefttop", "rightbottom"),
    ("upperleft", "lowerright"),
    ("tl", "br"),
)
_CORNERS += (("topleftcorner", "bottomrightcorner"), ("左上角", "右下角"), ("左上", "右下"))
_NUMBER = re.compile(r"[-+]?[0-9]{1,9}(?:\.[0-9]{1,9})?")
_DROPPED = re.compile(r"[\s_\"'-]+")


def normalize_key(key: str) -> str:
    """Return a key as it is written in the tables here."""
    return _DROPPED.sub("", key.lower())


@functools.lru_cache(1024)
def classify_key(key: str) -> Kind:
    """Return what the value of a key is, if it is a list of numbers, by the key's words."""
    name = normalize_key(key)
    tables: tuple[tuple[Kind, Collection[str]], ...] = (
        ("box", BOX_KEYS),
        ("point", POINT_KEYS | CENTER_KEYS),
        ("place", PLACE_KEYS),
        ("side", SIDES),
        ("container", CONTAINER_KEYS),
        ("other", OTHER_KEYS),
    )
    for kind, table in tables:
        if name in table:
            return kind
    words = [word.lower() for word in _KEY_WORD.findall(key[:200])]
    if _REORDERED.search(name):
        return "reordered box"
    if len(words) > 1 and set(words) & _PICTURE_WORDS and set(words) & _PART_WORDS:
        return "other"
    if _SIZED.search(name):
        return "sized box"
    if words and (words[-1] in _OTHER_WORDS or words[0] in ("num", "total")):
        return "other"
    return "box" if len(name) < 60 and _BOX.fullmatch(name) else "unknown"


def find_names(keyed: Mapping[str, Any]) -> list[str]:
    """Return the names of an object, the best first."""
    return _collect_texts(keyed, NAME_KEYS) or _collect_texts(keyed, OTHER_NAME_KEYS)


def find_name_lists(keyed: Mapping[str, Any]) -> list[list[str]]:
    """Return the lists of names of an object: they may belong to its boxes, one each."""
    values = (keyed.get(key) for key in (*NAME_KEYS, "labels", "categories", "classes"))
    return [value for value in values if isinstance(value, list) and value and all(isinstance(v, str) for v in value)]


def _collect_texts(keyed: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    values = (_list_texts(keyed.get(key)) for key in keys)
    return [text for texts in values for text in texts]


def _list_texts(value: Any) -> list[str]:
    """Return a name, a list of names, or a name in several languages, English first."""
    if isinstance(value, dict):
        named = {normalize_key(key): text for key, text in value.items()}
        if not set(named) <= set(_LANGUAGES):
            return []
        value = [named[language] for language in _LANGUAGES if language in named]
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def find_corners(keyed: Mapping[str, Any]) -> list[Any] | None:
    """Return the four sides of an object with a key for each side, or for each of two corners."""
    for names in _FOUR:
        sides = [read_number(keyed.get(name)) for name in names]
        if all(map(is_number, sides)):
            return sides
    for pair in _CORNERS:
        corners = [point for name in pair for point in read_points(keyed.get(name))]
        if len(corners) == 2:
            return [number for x, y, _ in corners for number in (x, y)]
    return None


def has_size(keyed: Mapping[str, Any]) -> bool:
    """Return whether an object says where a box begins, or its center, and how large it is."""
    return bool(SIZE_KEYS & set(keyed)) and bool(_CORNER_KEYS & set(keyed))


def read_number(value: Any) -> Any:
    """Return the number in a text that is nothing else; any other value unchanged."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    return value


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
    return None if SIZE_KEYS & set(keyed) else [read_number(keyed.get("x")), read_number(keyed.get("y"))]


def _is_pair(value: Any) -> TypeGuard[list[float]]:
    if not (isinstance(value, list) and len(value) in (2, 3) and all(map(is_number, value))):
        return False
    return len(value) == 2 or value[2] in (0, 1)


def is_bare(data: list[Any]) -> bool:
    """Return whether a list has only numbers or lists of them, or is empty."""
    return all(is_number(one) or (isinstance(one, list) and one and is_bare(one)) for one in data)
