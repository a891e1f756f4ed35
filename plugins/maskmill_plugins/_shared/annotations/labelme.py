"""LabelMe JSON: one file per image, `shapes` in pixels of the upright image.

References: https://github.com/wkentaro/labelme, labelme/_label_file.py (EXIF orientation is applied) and
examples/instance_segmentation/labelme2coco.py (shapes of one label and one `group_id` are one object).
"""

from __future__ import annotations

import math
import os
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
    Shape,
    enclosing_box,
    finite_number,
    finite_score,
    pixel_count,
    require_object,
    shorten,
)
from .own_tables import read_own_names
from .shapes import labelme_shape
from .voc import list_files

#: Shape types that have an area -> minimum number of points.
AREAS = {"rectangle": 2, "polygon": 3, "rotation": 3, "oriented_rectangle": 3, "mask": 2}


def read_labelme(path: Path) -> Iterator[FileItem]:
    """The items of a JSON file, or of all JSON files in a folder.

    Raises:
        PipelineError: a file is not JSON, or not in LabelMe's format.
    """
    names = read_own_names(path)
    for file, folder in list_files(path, ".json"):
        yield from _read_file(file, folder, names.get(os.path.abspath(file)))  # noqa: PTH100 - no links are resolved


def _read_file(file: Path, folder: str, known: str | None) -> Iterator[FileItem]:
    head: dict[str, Any] = {}
    shapes: list[Any] = []
    for key, at, value in JsonStream(file).members():
        if key == "shapes" and at >= 0:
            shapes.append(value)
        elif key == "shapes":
            raise PipelineError(Problem(f'"shapes" must be a list, not {shorten(value)}', str(file)))
        elif key != "imageData" and at < 0:
            head[key] = value
    if not shapes and "shapes" not in JsonStream(file).keys():  # noqa: SIM118 - a generator, not a mapping
        raise PipelineError(Problem('not a LabelMe file: the list "shapes" is missing', str(file)))
    yield AnnotatedImage(str(file), known or _image_name(head, file, folder), _image_size(head, file), "", str(file))
    yield from _read_shapes(str(file), shapes)


def _image_name(head: Mapping[str, Any], file: Path, folder: str) -> str:
    written = head.get("imagePath")
    if not isinstance(written, str) or not written.strip():
        return f"{folder}{file.stem}"
    path = posixpath.normpath(posixpath.join(folder, written.replace("\\", "/")))
    while path.startswith("../"):  # outside the folder of the JSON files: only the name counts
        path = path[3:]
    return path


def _image_size(head: Mapping[str, Any], file: Path) -> tuple[int, int] | None:
    sides = [head.get(name) for name in ("imageHeight", "imageWidth")]
    if all(value in (None, 0) for value in sides) or None in sides:
        return None
    try:
        return pixel_count(sides[0], "imageHeight"), pixel_count(sides[1], "imageWidth")
    except AnnotationError as error:
        raise PipelineError(Problem(str(error), str(file))) from None


def _read_shapes(file: str, shapes: list[Any]) -> Iterator[Annotation]:
    """One annotation per shape; areas with the same label and group are parts of one object."""
    found: dict[object, Annotation] = {}
    for at, shape in enumerate(shapes):
        annotation = _read_shape(file, at, shape)
        group = shape.get("group_id") if annotation.box is not None else None
        key = at if group is None else (annotation.label, shorten(group))
        if (first := found.get(key)) is not None and first.box is not None and annotation.box is not None:
            box = enclosing_box([first.box[:2], first.box[2:], annotation.box[:2], annotation.box[2:]])
            place, parts = f"{first.place}, {annotation.place}", first.shape + annotation.shape
            annotation = replace(first, box=box, place=place, shape=parts)
        found[key] = annotation
    yield from found.values()


def _read_shape(file: str, at: int, shape: Any) -> Annotation:
    ref, place = f"shape {at + 1}", f"shapes[{at}]"
    label = None
    try:
        label = require_object(shape).get("label")
        if label is not None and not isinstance(label, str):
            raise AnnotationError(f"label must be text, not {shorten(label)}")
        place += f" ({label})" if label else ""
        score = finite_score(shape.get("score"))
        box, point, parts = _read_place(shape)
    except AnnotationError as error:
        label_text = label if isinstance(label, str) else None
        return Annotation(file, ref, place, file, label=label_text, error=str(error))
    points = () if point is None else ((*point, 1),)
    return Annotation(file, ref, place, file, 0, box, points, label or None, score=score, shape=parts)


def _read_place(
    shape: Mapping[str, Any],
) -> tuple[Corners | None, tuple[float, float] | None, tuple[Shape, ...]]:
    """The box of a shape and its pixels, or its one point."""
    kind = shape.get("shape_type") or "polygon"
    points = _read_points(shape.get("points"))
    if kind == "point":
        if len(points) != 1:
            raise AnnotationError(f"a point must have 1 point, not {len(points)}")
        return None, points[0], ()
    if kind == "circle":
        if len(points) != 2:
            raise AnnotationError(f"a circle must have 2 points, its centre and one on its edge, not {len(points)}")
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        around = enclosing_box([(x - radius, y - radius), (x + radius, y + radius)])
        return around, None, labelme_shape(kind, points, None)
    if kind not in AREAS:
        raise AnnotationError(f"a shape of type {shorten(kind)} is not supported: it is neither an area nor a point")
    if len(points) < AREAS[kind]:
        raise AnnotationError(f"a shape of type {kind} must have at least {AREAS[kind]} points, not {len(points)}")
    # a mask has its first and its last pixel
    ends = [(x + 1, y + 1) for x, y in points] if kind == "mask" else []
    return enclosing_box([*points, *ends]), None, labelme_shape(kind, points, shape.get("mask"))


def _read_points(written: Any) -> list[tuple[float, float]]:
    if not isinstance(written, list):
        raise AnnotationError(f"points must be a list, not {shorten(written)}")
    points = []
    for item in written:
        if not isinstance(item, list) or len(item) != 2:
            raise AnnotationError(f"a point must be [x, y], not {shorten(item)}")
        points.append((finite_number(item[0], "a coordinate"), finite_number(item[1], "a coordinate")))
    return points
