"""Ground truth in COCO's format: polygons, run-length encodings or boxes; crowds stay crowds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from maskmill.wording import count_noun
from maskmill_plugins._shared.annotations.json_stream import JsonStream
from maskmill_plugins._shared.annotations.model import AnnotationError, parse_flag
from maskmill_plugins._shared.annotations.shapes import fill_region

from .image_table import ImageTable, Truth
from .objects import TrueObject, is_number, truth_error

Json = Mapping[str, Any]


def read_coco_truth(path: Path) -> Truth:
    """Read a COCO file of instance annotations, item by item.

    Raises:
        PipelineError: for the first invalid entry, with its position in the file.
    """
    images, labels = ImageTable(), dict[Any, str]()
    with_pixels = read_lists(path, images, labels)
    boxes_only = 0
    for key, index, entry in JsonStream(path).members():
        if key != "annotations":
            continue
        place = f"annotations[{index}]"
        if not isinstance(entry, dict):
            raise truth_error(path, place, "expected an object")
        place += f" (id {entry['id']})" if is_id(entry.get("id")) else ""
        found = images.find(entry["image_id"]) if is_id(entry.get("image_id")) else None
        if found is None:
            raise truth_error(path, place, f"no image has the id {entry.get('image_id')!r}")
        if with_pixels and not entry.get("segmentation"):
            boxes_only += 1
            continue
        number, size = found
        try:
            images.add_object(number, _read_object(path, place, entry, size, labels, with_pixels))
        except (ValueError, AnnotationError) as error:
            raise truth_error(path, place, str(error)) from None
    skipped = f"{count_noun(boxes_only, 'annotation has', 'annotations have')} no segmentation: skipped"
    warnings = [skipped] if boxes_only else []
    return Truth(path, "mask" if with_pixels else "box", images.complete(), list(labels.values()), warnings)


def read_lists(
    path: Path, images: ImageTable, labels: dict[Any, str], rename: Callable[[str], str] = lambda name: name
) -> bool:
    """Read images and categories; returns whether there are pixels in the annotations, or no annotations.

    Args:
        path: the file.
        images: gets the images, without objects.
        labels: gets the name of each category by its id.
        rename: gives the name of an image from its `file_name`.

    Raises:
        PipelineError: it is no such file, or an entry is invalid.
    """
    stream = JsonStream(path)
    has_annotations = with_pixels = False
    for key, index, entry in stream.members():
        if key == "images" and index >= 0:
            _read_image(path, f"images[{index}]", entry, images, rename)
        elif key == "categories" and (index >= 0 or entry):
            _read_label(path, f"categories[{index}]" if index >= 0 else key, entry, labels)
        elif key == "annotations":
            has_annotations = True
            with_pixels |= isinstance(entry, dict) and bool(entry.get("segmentation"))
        elif key == "":
            break
    if not {"images", "annotations"} <= stream.lists:
        hint = "a list of detection results cannot be used as ground truth" if "" in stream.lists else ""
        raise truth_error(path, "", "expected a COCO file: an object with the lists 'images' and 'annotations'", hint)
    return with_pixels or not has_annotations


def _read_label(path: Path, place: str, entry: Any, labels: dict[Any, str]) -> None:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not is_id(entry.get("id")):
        raise truth_error(path, place, "expected an object with 'id' and 'name'")
    if entry["id"] in labels:
        raise truth_error(path, place, f"the id {entry['id']!r} is used twice")
    labels[entry["id"]] = entry["name"]


def _read_image(path: Path, place: str, entry: Any, images: ImageTable, rename: Callable[[str], str]) -> None:
    if not isinstance(entry, dict) or not is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
        raise truth_error(path, place, "expected an object with 'id' and 'file_name'")
    height, width = entry.get("height"), entry.get("width")
    if not (
        isinstance(height, int) and isinstance(width, int) and 0 < min(height, width) <= max(height, width) < 2**31
    ):
        raise truth_error(path, place, f"expected 'height' and 'width' in pixels, found {height!r} and {width!r}")
    try:
        images.add(entry["id"], rename(entry["file_name"]), (height, width))
    except ValueError as error:
        raise truth_error(path, place, str(error)) from None


def _read_object(
    path: Path, place: str, entry: Json, size: tuple[int, int], labels: Mapping[Any, str], with_pixels: bool
) -> TrueObject:
    category = entry.get("category_id")
    if not _known(category, labels):
        raise truth_error(path, place, f"no category has the id {category!r}")
    if not is_id(entry.get("id")):
        raise truth_error(path, place, "'id' is missing or invalid")
    box = entry.get("bbox")
    if box is not None and not (
        isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and min(box[2:]) >= 0
    ):
        raise truth_error(path, place, f"expected 'bbox' as [x, y, width, height], found {box!r}")
    crowd = parse_flag(entry.get("iscrowd"), "iscrowd")
    if with_pixels:
        counts = fill_region(entry["segmentation"], size)
    elif box is None:
        raise truth_error(path, place, "both 'segmentation' and 'bbox' are missing")
    else:
        counts = _encode_box(box, *size)
    rle = {"size": list(size), "counts": counts}
    area: Any = entry.get("area")
    if not is_number(area):
        area = coco_mask.area(rle) if with_pixels or box is None else box[2] * box[3]
    x, y, width, height = (float(value) for value in (box or coco_mask.toBbox(rle)))
    return TrueObject(
        ref=str(entry["id"]),
        label=labels[category],
        counts=counts,
        box=(x, y, width, height),
        area=float(area),
        crowd=crowd,
    )


def _encode_box(box: list[float], height: int, width: int) -> str:
    rle = coco_mask.frPyObjects(np.array([box], np.float64), height, width)[0]
    return bytes(rle["counts"]).decode("ascii")


def is_id(value: Any) -> bool:
    """Whether a JSON value can be an id."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _known(value: Any, known: Mapping[Any, Any]) -> bool:
    return is_id(value) and value in known
