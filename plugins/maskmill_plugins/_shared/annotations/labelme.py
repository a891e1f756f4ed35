"""LabelMe JSON: a file an image, `shapes` on the upright picture in pixels.

References: https://github.com/wkentaro/labelme, labelme/_label_file.py (EXIF orientation is applied) and
examples/instance_segmentation/labelme2coco.py (shapes of one label and one `group_id` are one object).
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskmill import PipelineError, Problem

from .json_stream import JsonStream
from .model import (
    AnnotatedImage,
    Annotation,
    AnnotationError,
    Corners,
    FileItem,
    enclosing_box,
    finite_number,
    pixel_count,
    require_object,
    shorten,
)
from .voc import files_below

#: Kinds of shape -> the least number of points.
AREAS = {"rectangle": 2, "polygon": 3, "rotation": 3, "oriented_rectangle": 3, "mask": 2}


def read_labelme(path: Path) -> Iterator[FileItem]:
    """The pieces of a JSON file, or of all in a folder.

    Raises:
        PipelineError: a file is no JSON, or not LabelMe's.
    """
    for file, folder in files_below(path, ".json"):
        yield from _file(file, folder)


def _file(file: Path, folder: str) -> Iterator[FileItem]:
    head: dict[str, Any] = {}
    shapes: list[Any] = []
    known = False
    for key, at, value in JsonStream(file).members():
        if key == "shapes" and at >= 0:
            shapes.append(value)
        elif key == "shapes":
            raise PipelineError(Problem(f'"shapes" must be a list, not {shorten(value)}', str(file)))
        elif key != "imageData" and at < 0:
            head[key] = value
    known = bool(shapes) or "shapes" in JsonStream(file).keys()  # noqa: SIM118 - a generator, no mapping
    if not known:
        raise PipelineError(Problem('no LabelMe file: it has no list "shapes"', str(file)))
    yield AnnotatedImage(str(file), _name(head, file, folder), _size(head, file), "", str(file))
    yield from _objects(str(file), shapes)


def _name(head: Mapping[str, Any], file: Path, folder: str) -> str:
    written = head.get("imagePath")
    if not isinstance(written, str) or not written.strip():
        return f"{folder}{file.stem}"
    path = posixpath.normpath(posixpath.join(folder, written.replace("\\", "/")))
    while path.startswith("../"):  # beside the folder of the JSON files: the name is what counts
        path = path[3:]
    return path


def _size(head: Mapping[str, Any], file: Path) -> tuple[int, int] | None:
    sides = [head.get(name) for name in ("imageHeight", "imageWidth")]
    if all(value in (None, 0) for value in sides) or None in sides:
        return None
    try:
        return pixel_count(sides[0], "imageHeight"), pixel_count(sides[1], "imageWidth")
    except AnnotationError as fault:
        raise PipelineError(Problem(str(fault), str(file))) from None


def _objects(file: str, shapes: list[Any]) -> Iterator[Annotation]:
    """An element a shape, and one for all areas of a label and a group: they are parts of one object."""
    found: dict[object, Annotation] = {}
    for at, shape in enumerate(shapes):
        element = _element(file, at, shape)
        group = shape.get("group_id") if element.box is not None else None
        key = at if group is None else (element.label, shorten(group))
        if (first := found.get(key)) is not None and first.box is not None and element.box is not None:
            box = enclosing_box([first.box[:2], first.box[2:], element.box[:2], element.box[2:]])
            element = replace(first, box=box, place=f"{first.place}, {element.place}")
        found[key] = element
    yield from found.values()


def _element(file: str, at: int, shape: Any) -> Annotation:
    ref, place = f"shape {at + 1}", f"shapes[{at}]"
    label = None
    try:
        label = require_object(shape).get("label")
        if label is not None and not isinstance(label, str):
            raise AnnotationError(f"label must be a text, not {shorten(label)}")
        place += f" ({label})" if label else ""
        score = shape.get("score")
        score = None if score is None else finite_number(score, "score")
        box, point = _shape(shape)
    except AnnotationError as fault:
        wrong_label = label if isinstance(label, str) else None
        return Annotation(file, ref, place, file, label=wrong_label, fault=str(fault))
    points = () if point is None else ((*point, 1),)
    return Annotation(file, ref, place, file, 0, box, points, label or None, score=score)


def _shape(shape: Mapping[str, Any]) -> tuple[Corners | None, tuple[float, float] | None]:
    """The box of a shape, or its one point."""
    kind = shape.get("shape_type") or "polygon"
    points = _points(shape.get("points"))
    if kind == "point":
        if len(points) != 1:
            raise AnnotationError(f"a point has 1 point, not {len(points)}")
        return None, points[0]
    if kind == "circle":
        if len(points) != 2:
            raise AnnotationError(f"a circle has 2 points, its centre and one on it, not {len(points)}")
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return enclosing_box([(x - radius, y - radius), (x + radius, y + radius)]), None
    if kind not in AREAS:
        raise AnnotationError(f"a shape of type {shorten(kind)} is no area and no point")
    if len(points) < AREAS[kind]:
        raise AnnotationError(f"a shape of type {kind} has at least {AREAS[kind]} points, not {len(points)}")
    if kind == "mask":  # its first and its last pixel
        points += [(x + 1, y + 1) for x, y in points]
    return enclosing_box(points), None


def _points(written: Any) -> list[tuple[float, float]]:
    if not isinstance(written, list):
        raise AnnotationError(f"points must be a list, not {shorten(written)}")
    points = []
    for item in written:
        if not isinstance(item, list) or len(item) != 2:
            raise AnnotationError(f"a point is [x, y], not {shorten(item)}")
        points.append((finite_number(item[0], "a coordinate"), finite_number(item[1], "a coordinate")))
    return points
