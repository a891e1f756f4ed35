"""COCO JSON: boxes and keypoints; where an annotation has no usable `bbox`, the box of its RLE or its polygons.

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
    pixel_count,
    require_object,
    shorten,
    visible_keypoints,
)

#: Lists whose items are read one by one; every other member of the file is read as a whole.
LISTS = ("images", "annotations", "categories")
HEADS = ("info", "licenses")
#: Fields that an output makes anew; what else an annotation or image has is carried on.
KNOWN = frozenset({"id", "image_id", "category_id", "bbox", "segmentation", "area", "iscrowd", "score"})


def read_coco(path: Path) -> Iterator[FileItem]:
    """The pieces of a COCO file, in its order.

    Raises:
        PipelineError: it is no JSON, or has no lists `images` and `annotations`.
    """
    seen = set()
    named: set[str] = set()
    for key, at, item in JsonStream(path).members():
        if key == "":
            yield from _result(path, at, item, named)
            continue
        seen.add(key)
        if key in LISTS and at < 0:
            raise PipelineError(Problem(f'"{key}" must be a list, not {shorten(item)}', str(path)))
        if key == "images":
            yield _picture(at, item)
        elif key == "annotations":
            yield _element(at, item)
        elif key == "categories":
            yield _category(at, item)
        elif key in HEADS:
            yield FileProperty(key if at < 0 else f"{key}[]", item)
    if named:
        return
    if missing := [key for key in LISTS[:2] if key not in seen and not _is_empty_list(path, key)]:
        raise PipelineError(Problem(f'no COCO file: it has no list "{missing[0]}"', str(path)))


def _is_empty_list(path: Path, wanted: str) -> bool:
    """An empty list has no items to be seen."""
    return wanted in JsonStream(path).keys()  # noqa: SIM118 - a generator, no mapping


def _result(path: Path, at: int, item: Any, named: set[str]) -> Iterator[FileItem]:
    """An item of a list of results, as detectors write it, if it names its image: by `file_name`, or a text as id.

    Args:
        path: the file, for messages.
        at: the number of the item.
        item: the item.
        named: the images seen so far.
    """
    about = item if isinstance(item, Mapping) else {}
    name = about.get("file_name") or about.get("image_id")
    if not isinstance(name, str):
        lacks = f"item {at} has neither file_name nor a text as image_id"
        text = f"is a list of results that does not name its images: {lacks}"
        hint = "maskmill reads the form with `images`, `annotations` and `categories`, and results with `file_name`"
        raise PipelineError(Problem(text, str(path), hint=hint))
    if name not in named:
        named.add(name)
        yield AnnotatedImage(json.dumps(name), name, place=f"item {at}")
    element = _element(at, {**about, "image_id": name})
    yield replace(element, ref=f"result {at + 1}", place=f"item {at}", more=None)


def _picture(at: int, item: Any) -> AnnotatedImage | Annotation:
    place, key = f"images[{at}]", ""
    try:
        key = _id(require_object(item), "id")
        place = f"{place} (id {key})"
        name = item.get("file_name")
        if not isinstance(name, str) or not name.strip():
            raise AnnotationError(f"file_name must be a text, not {shorten(name)}")
        size = _size(item)
    except AnnotationError as fault:
        return Annotation(key, "", place, fault=str(fault))
    return AnnotatedImage(key, name, size, place, more=item)


def _size(item: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = [item.get(name) for name in ("height", "width")]
    if all(value in (None, 0) for value in sides):
        return None
    return pixel_count(sides[0], "height"), pixel_count(sides[1], "width")


def _id(item: Mapping[str, Any], name: str) -> str:
    value = item.get(name)
    if isinstance(value, float) and value.is_integer():  # as pandas writes a column that had gaps
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise AnnotationError(f"{name} must be a number, not {shorten(value)}" if name in item else f"has no {name}")
    return json.dumps(value)


def _category(at: int, item: Any) -> FileProperty | Annotation:
    place = f"categories[{at}]"
    try:
        key = _id(require_object(item), "id")
        if not isinstance(item.get("name"), str):
            raise AnnotationError(f"name must be a text, not {shorten(item.get('name'))}")
    except AnnotationError as fault:
        return Annotation("", "", place, fault=str(fault))
    return FileProperty("category", {"key": key, "item": item})


def _element(at: int, item: Any) -> Annotation:
    place, ref, image, category = f"annotations[{at}]", f"annotations[{at}]", "", ""
    try:
        if "id" in require_object(item):
            ref = _id(item, "id").strip('"')
            place = f"{place} (id {ref})"
        image = _id(item, "image_id")
        if item.get("category_id") is not None:
            category = _id(item, "category_id")
        crowd = item.get("iscrowd") in (1, True)
        score = item.get("score")
        # numbers as ids are told by `ref`; a text is kept as one
        more = {
            key: item[key] for key in item if crowd or key not in KNOWN or (key == "id" and isinstance(item[key], str))
        }
        return Annotation(
            image,
            ref,
            place,
            box=_box(item),
            points=_keypoints(item),
            category=category,
            score=None if score is None else finite_number(score, "score"),
            skipped=CROWD if crowd else "",
            more=more or None,
        )
    except AnnotationError as fault:
        return Annotation(image, ref, place, category=category, fault=str(fault))


def _keypoints(item: Mapping[str, Any]) -> tuple[tuple[float, float, int], ...]:
    written = item.get("keypoints") or []
    if not isinstance(written, list):
        raise AnnotationError(f"keypoints are [x, y, v, ...], not {shorten(written)}")
    return visible_keypoints([finite_number(value, "keypoints") for value in written])


def _box(item: Mapping[str, Any]) -> Corners:
    box, region = item.get("bbox"), item.get("segmentation")
    if box is None or box == [] or (region and box == [0, 0, 0, 0]):
        if not region:
            raise AnnotationError("has neither bbox nor segmentation")
        return _box_of(region)
    if not isinstance(box, list) or len(box) != 4:
        raise AnnotationError(f"bbox is [x, y, width, height], not {shorten(box)}")
    x, y, width, height = (finite_number(value, "bbox") for value in box)
    for name, value in (("width", width), ("height", height)):
        if value <= 0:
            raise AnnotationError(f"bbox has {name} {value:g}")
    return x, y, x + width, y + height


def _box_of(region: Any) -> Corners:
    """The box of polygons or of an RLE, compressed or not."""
    if isinstance(region, Mapping):
        return _box_of_rle(region)
    if not isinstance(region, list) or not all(isinstance(part, list) for part in region):
        raise AnnotationError(f"segmentation must be polygons or an RLE, not {shorten(region)}")
    points = []
    for part in region:
        if len(part) < 6 or len(part) % 2:
            raise AnnotationError(f"a polygon of {len(part)} numbers: expected x, y of 3 points or more")
        values = [finite_number(value, "segmentation") for value in part]
        points += list(zip(values[::2], values[1::2], strict=True))
    return enclosing_box(points)


def _box_of_rle(region: Mapping[str, Any]) -> Corners:
    from pycocotools import mask as coco_mask

    size, counts = region.get("size"), region.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(value) is int and value > 0 for value in size):
        raise AnnotationError(f"the size of an RLE is [height, width], not {shorten(size)}")
    try:
        if isinstance(counts, list):
            if sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
                raise AnnotationError(f"the counts of its RLE sum up to {sum(counts)}, not to {size[0]}×{size[1]}")
            rle = coco_mask.frPyObjects({"size": size, "counts": counts}, *size)
        else:
            rle = {"size": size, "counts": _valid_counts(counts, size[0] * size[1]).encode()}
        x, y, width, height = (float(value) for value in coco_mask.toBbox(rle))
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f"its RLE cannot be read: {error}") from None
    if not width or not height:
        raise AnnotationError("its RLE is empty")
    return x, y, x + width, y + height


def _valid_counts(counts: Any, pixels: int) -> str:
    """The text of a compressed RLE, decoded once: pycocotools reads what it likes out of a wrong one.

    Reference: rleFrString of the COCO API, common/maskApi.c.
    """
    if not isinstance(counts, str) or not counts.isascii():
        raise AnnotationError(f"the counts of its RLE must be a text or a list, not {shorten(counts)}")
    runs: list[int] = []
    value = shift = 0
    for sign in counts:
        digit = ord(sign) - 48
        if not 0 <= digit < 64:
            raise AnnotationError(f"the counts of its RLE hold {sign!r}, which no RLE has")
        value |= (digit & 0x1F) << shift
        shift += 5
        if not digit & 0x20:
            value -= (1 << shift) if digit & 0x10 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift or sum(runs) != pixels or min(runs, default=0) < 0:
        raise AnnotationError(f"the counts of its RLE cover {sum(runs)} pixels, not {pixels}: is it complete?")
    return counts
