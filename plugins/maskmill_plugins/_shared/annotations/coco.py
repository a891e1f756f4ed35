"""COCO JSON: boxes and keypoints; an annotation without a usable `bbox` gets the box of its RLE or polygons.

Reference: https://cocodataset.org/#format-data (bbox is x, y, width, height, 0-based, in pixels).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskmill import PipelineError, Problem

from .json_stream import JsonStream
from .model import (
    CROWD,
    AnnotatedImage,
    Annotation,
    AnnotationError,
    Corners,
    FileItem,
    FileProperty,
    enclosing_box,
    finite_number,
    finite_score,
    parse_flag,
    pixel_count,
    require_object,
    shorten,
    visible_keypoints,
)
from .rle import check_rle
from .shapes import coco_shape, read_polygons

#: Lists that are read item by item; every other member of the file is read as a whole.
LISTS = ("images", "annotations", "categories")
HEADS = ("info", "licenses")
#: Fields that an output recomputes; all others are copied.
KNOWN = frozenset({"id", "image_id", "category_id", "bbox", "segmentation", "area", "iscrowd", "score"})


def read_coco(path: Path) -> Iterator[FileItem]:
    """The items of a COCO file, in its order.

    Raises:
        PipelineError: it is not JSON, or the lists `images` and `annotations` are missing.
    """
    seen = set()
    named: set[str] = set()
    for key, at, item in JsonStream(path).members():
        if key == "":
            yield from _read_result(path, at, item, named)
            continue
        seen.add(key)
        if key in LISTS and at < 0:
            raise PipelineError(Problem(f'"{key}" must be a list, not {shorten(item)}', str(path)))
        if key == "images":
            yield from _read_image(at, item)
        elif key == "annotations":
            yield _read_annotation(at, item)
        elif key == "categories":
            yield _read_category(at, item)
        elif key in HEADS:
            yield FileProperty(key if at < 0 else f"{key}[]", item)
    if named:
        return
    if missing := [key for key in LISTS[:2] if key not in seen and not _is_empty_list(path, key)]:
        raise PipelineError(Problem(f'not a COCO file: the list "{missing[0]}" is missing', str(path)))


def _is_empty_list(path: Path, wanted: str) -> bool:
    """Whether the list exists: an empty one yields no items."""
    return wanted in JsonStream(path).keys()  # noqa: SIM118 - a generator, not a mapping


def _read_result(path: Path, at: int, item: Any, named: set[str]) -> Iterator[FileItem]:
    """An item of a detector's list of results, which must name its image by `file_name` or a text as `image_id`.

    Args:
        path: the file, for messages.
        at: the index of the item.
        item: the item.
        named: the images seen so far; updated.
    """
    fields = item if isinstance(item, Mapping) else {}
    name = fields.get("file_name") or fields.get("image_id")
    if not isinstance(name, str):
        missing = f"item {at} has neither file_name nor a text as image_id"
        text = f"is a list of results without image names: {missing}"
        hint = "use COCO with `images`, `annotations` and `categories`, or results with `file_name`"
        raise PipelineError(Problem(text, str(path), hint=hint))
    if name not in named:
        named.add(name)
        yield AnnotatedImage(json.dumps(name), name, place=f"item {at}")
    annotation = _read_annotation(at, {**fields, "image_id": name})
    yield replace(annotation, ref=f"result {at + 1}", place=f"item {at}", more=None)


def _read_image(at: int, item: Any) -> Iterator[AnnotatedImage | Annotation]:
    """The image, and what is wrong with it; an invalid one is kept if its name is known, so that it cannot be used."""
    place, key, name, size = f"images[{at}]", "", None, None
    problem = ""
    try:
        name = require_object(item).get("file_name")
        key = _read_id(item, "id")
        place = f"{place} (id {key})"
        if not isinstance(name, str) or not name.strip():
            raise AnnotationError(f"file_name must be text, not {shorten(name)}")
        size = _image_size(item)
    except AnnotationError as error:
        problem = str(error)
    key = key or (f"image without id {at}" if isinstance(name, str) else "")
    if isinstance(name, str) and name.strip():
        yield AnnotatedImage(key, name, size, place, more=item)
    if problem:
        yield Annotation(key, "", place, error=problem)


def _image_size(item: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = [item.get(name) for name in ("height", "width")]
    if all(value in (None, 0) for value in sides):
        return None
    return pixel_count(sides[0], "height"), pixel_count(sides[1], "width")


def _read_id(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    if isinstance(value, float) and value.is_integer():  # as pandas writes a column that had gaps
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise AnnotationError(
            f"{name} must be a number, not {shorten(value)}" if name in item else f"{name} is missing"
        )
    return json.dumps(value)


def _read_category(at: int, item: Any) -> FileProperty | Annotation:
    place = f"categories[{at}]"
    try:
        key = _read_id(require_object(item), "id")
        if not isinstance(item.get("name"), str):
            raise AnnotationError(f"name must be text, not {shorten(item.get('name'))}")
    except AnnotationError as error:
        return Annotation("", "", place, error=str(error))
    return FileProperty("category", {"key": key, "item": item})


def _read_annotation(at: int, item: Any) -> Annotation:
    place, ref, image, category = f"annotations[{at}]", f"annotations[{at}]", "", ""
    try:
        if "id" in require_object(item):
            ref = _read_id(item, "id").strip('"')
            place = f"{place} (id {ref})"
        image = _read_id(item, "image_id")
        if item.get("category_id") is not None:
            category = _read_id(item, "category_id")
        box, frame = _read_box(item)
        crowd = parse_flag(item.get("iscrowd"), "iscrowd")
        # `ref` holds ids that are numbers; a text id is kept as text
        more = {
            key: item[key] for key in item if crowd or key not in KNOWN or (key == "id" and isinstance(item[key], str))
        }
        if crowd:
            more["iscrowd"] = 1
        return Annotation(
            image,
            ref,
            place,
            box=box,
            points=_read_keypoints(item),
            category=category,
            score=finite_score(item.get("score")),
            skipped=CROWD if crowd else "",
            more=more or None,
            frame=frame,
            shape=coco_shape(item),
        )
    except AnnotationError as error:
        return Annotation(image, ref, place, category=category, error=str(error))


def _has_box(item: Mapping[str, Any]) -> bool:
    box = item.get("bbox")
    return not (box is None or box == [] or (item.get("segmentation") and box == [0, 0, 0, 0]))


def _read_keypoints(item: Mapping[str, Any]) -> tuple[tuple[float, float, int], ...]:
    written = item.get("keypoints") or []
    if not isinstance(written, list):
        raise AnnotationError(f"keypoints must be [x, y, v, ...], not {shorten(written)}")
    return visible_keypoints([finite_number(value, "keypoints") for value in written])


def _read_box(item: Mapping[str, Any]) -> tuple[Corners, tuple[int, int] | None]:
    """The box, and the size of the image if it comes from an RLE."""
    box, region = item.get("bbox"), item.get("segmentation")
    if not _has_box(item):
        if not region:
            raise AnnotationError("has neither bbox nor segmentation")
        return _box_of_region(region)
    if not isinstance(box, list) or len(box) != 4:
        raise AnnotationError(f"bbox must be [x, y, width, height], not {shorten(box)}")
    x, y, width, height = (finite_number(value, "bbox") for value in box)
    for name, value in (("width", width), ("height", height)):
        if value <= 0:
            raise AnnotationError(f"bbox has {name} {value:g}")
    return (x, y, x + width, y + height), None


def _box_of_region(region: Any) -> tuple[Corners, tuple[int, int] | None]:
    """The box of polygons, or of an RLE with the size of its image."""
    if isinstance(region, Mapping):
        return _box_of_rle(region)
    polygons = read_polygons(region)
    return enclosing_box([point for line in polygons for point in zip(line[::2], line[1::2], strict=True)]), None


def _box_of_rle(region: Mapping[str, Any]) -> tuple[Corners, tuple[int, int]]:
    from pycocotools import mask as coco_mask

    size, counts = check_rle(region)
    x, y, width, height = (float(value) for value in coco_mask.toBbox({"size": list(size), "counts": counts.encode()}))
    if not width or not height:
        raise AnnotationError("its RLE is empty")
    return (x, y, x + width, y + height), size
