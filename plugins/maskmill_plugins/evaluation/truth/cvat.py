"""Ground truth in CVAT's XML, "CVAT for images 1.1": masks, polygons and boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from maskmill import Mask
from maskmill_plugins._shared.annotations.model import AnnotationError, parse_number, pixel_count
from maskmill_plugins._shared.annotations.xml_tree import Node, read_xml

from .image_table import ImageTable, Truth
from .objects import TrueObject, make_object, truth_error
from .own_tables import read_own_keys, read_own_labels

NAME = "annotations.xml"
_SIDES = ("height", "width")
_SHAPES = ("mask", "polygon", "box")
_OTHERS = ("polyline", "points", "ellipse", "cuboid", "skeleton")


def read_cvat_truth(path: Path) -> Truth:
    """Read an XML file of CVAT.

    Shapes of one label in one group are the parts of one object. Other shapes than masks, polygons and upright boxes
    are skipped with a warning.

    Raises:
        PipelineError: it is not such a file, or a shape is invalid; with its line.
    """
    root = read_xml(path)
    if root.tag != "annotations":
        raise truth_error(path, f"line {root.line}", f"not a CVAT file: its root is <{root.tag}>, not <annotations>")
    if root.first("track") is not None:
        raise truth_error(path, "", "a video of CVAT; export the task as 'CVAT for images 1.1'")
    written = read_own_labels(path.parent)
    keys = read_own_keys(path.parent, "image")
    images = ImageTable()
    skipped: Counter[str] = Counter()
    for number, node in enumerate(root.all("image")):
        name = node.attributes.get("name", "")
        size, objects = _read_image(path, node, written, skipped)
        try:
            image = images.add(number, keys.get(f"images/{name}", name), size)
        except ValueError as error:
            raise truth_error(path, f"line {node.line}", str(error)) from None
        for true in objects:
            images.add_object(image, true)
    used = images.complete().labels()
    declared = [written.get(label, label) for label in _read_labels(root) if label]
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
    warnings = [f"shapes of other kinds than mask, polygon and upright box are skipped: {kinds}"] if kinds else []
    return Truth(path, "mask", images, [*declared, *sorted(used - set(declared))], warnings)


def _read_labels(root: Node) -> list[str]:
    """The labels of the task, project or job in `<meta>`."""
    meta = root.first("meta")
    about = [] if meta is None else [node for name in ("task", "project", "job") for node in meta.all(name)]
    labels = [each for node in about for group in node.all("labels") for each in group.all("label")]
    return list(dict.fromkeys(label.value("name") for label in labels))


def _read_image(
    path: Path, node: Node, written: Mapping[str, str], skipped: Counter[str]
) -> tuple[tuple[int, int], list[TrueObject]]:
    try:
        height, width = (pixel_count(parse_number(node.attributes.get(side, ""), side), side) for side in _SIDES)
    except AnnotationError as error:
        raise truth_error(path, f"line {node.line}", str(error)) from None
    parts: dict[tuple[str, str], list[dict[str, object]]] = {}
    for number, shape in enumerate(node.children):
        if shape.tag not in _SHAPES or shape.attributes.get("rotation", "0").strip("0.-"):
            if shape.tag in (*_SHAPES, *_OTHERS):
                skipped["rotated box" if shape.tag == "box" else shape.tag] += 1
            continue
        try:
            rle = _read_shape(shape, height, width)
        except (AnnotationError, KeyError, ValueError, OverflowError, TypeError) as error:
            what = f"its attribute {error} is missing" if isinstance(error, KeyError) else str(error)
            raise truth_error(path, f"line {shape.line}", f"invalid {shape.tag}: {what}") from None
        group = shape.attributes.get("group_id", "0")
        own = f"#{number}" if group in ("", "0") else group
        label = shape.attributes.get("label", "")
        parts.setdefault((own, written.get(label, label)), []).append(rle)
    objects = (_make_object(label, coco_mask.merge(rles)) for (_, label), rles in parts.items())
    return (height, width), [each for each in objects if each is not None]


def _make_object(label: str, rle: dict[str, object]) -> TrueObject | None:
    """An object; None without pixels, as of a polygon between the centres of pixels."""
    pixels = coco_mask.decode(rle).astype(np.bool_)
    return make_object(label, pixels) if pixels.any() else None


def _read_shape(shape: Node, height: int, width: int) -> dict[str, object]:
    """The pixels of a shape in COCO's run-length encoding."""
    at = shape.attributes
    if shape.tag == "mask":
        return _read_mask(at, height, width)
    if shape.tag == "polygon":
        line = [parse_number(value, "a coordinate") for pair in at["points"].split(";") for value in pair.split(",")]
        if len(line) < 6 or len(line) % 2:
            raise AnnotationError("it needs at least three points x,y")
    else:
        x1, y1, x2, y2 = (parse_number(at[name], name) for name in ("xtl", "ytl", "xbr", "ybr"))
        line = [x1, y1, x2, y1, x2, y2, x1, y2]
    found: dict[str, object] = coco_mask.merge(coco_mask.frPyObjects([line], height, width))
    return found


def _read_mask(at: dict[str, str], height: int, width: int) -> dict[str, object]:
    left, top, columns, rows = (int(at[name]) for name in ("left", "top", "width", "height"))
    runs = np.array([int(value) for value in at["rle"].split(",")], np.int64)
    if min(left, top, columns, rows) < 0 or left + columns > width or top + rows > height or runs.min() < 0:
        raise AnnotationError(f"it is not within the image of {width}×{height} pixels")
    if runs.sum() != columns * rows:
        raise AnnotationError(f"its runs cover {runs.sum()} pixels, but it has {columns}×{rows}")
    picture = np.zeros((height, width), np.bool_)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)  # row by row, beginning outside the object
    picture[top : top + rows, left : left + columns] = inside.reshape(rows, columns)
    return Mask.from_array(picture).rle
