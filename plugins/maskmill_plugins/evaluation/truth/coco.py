"""Ground truth in COCO's format: polygons, run-length encodings or boxes; crowds stay crowds."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from maskmill_plugins._shared.annotations.model import AnnotationError, parse_flag, require_object
from maskmill_plugins._shared.annotations.rle import check_rle

from .objects import TrueImage, TrueObject, Truth, is_number, truth_error

Json = Mapping[str, Any]


def read_coco_truth(path: Path, data: dict[str, Any]) -> Truth:
    """Read a COCO file of instance annotations into memory.

    Args:
        path: the file.
        data: its content, as `load_json` gives it.

    Raises:
        PipelineError: for the first invalid entry, with its position in the file.
    """
    labels = read_labels(path, data)
    images = read_images(path, data)
    objects: dict[Any, list[TrueObject]] = defaultdict(list)
    annotations = data["annotations"]
    with_pixels = not annotations or any(isinstance(each, dict) and each.get("segmentation") for each in annotations)
    seen: set[str] = set()
    boxes_only = 0
    for index, entry in enumerate(annotations):
        place = f"annotations[{index}]"
        if not isinstance(entry, dict):
            raise truth_error(path, place, "expected an object")
        place += f" (id {entry['id']})" if is_id(entry.get("id")) else ""
        if not _known(entry.get("image_id"), images):
            raise truth_error(path, place, f"no image has the id {entry.get('image_id')!r}")
        if with_pixels and not entry.get("segmentation"):
            boxes_only += 1
            continue
        true = _read_object(path, place, entry, images[entry["image_id"]], labels, with_pixels)
        if (ref := str(entry["id"])) in seen:
            raise truth_error(path, place, f"the id {ref} is used twice")
        seen.add(ref)
        objects[entry["image_id"]].append(true)
    # Ordered by id, because pycocotools evaluates masks of equal score in the order of image ids.
    order = sorted(images, key=lambda key: (isinstance(key, str), key))
    by_name = {images[key].name: replace(images[key], objects=tuple(objects[key])) for key in order}
    warnings = [f"{boxes_only} annotations without a segmentation are skipped"] if boxes_only else []
    return Truth(path, "mask" if with_pixels else "box", by_name, list(labels.values()), warnings)


def load_json(path: Path) -> dict[str, Any]:
    """The content of a file with the lists `images` and `annotations`.

    Raises:
        PipelineError: it cannot be read, or is another kind of file.
    """
    try:
        data = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise truth_error(path, f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise truth_error(path, "", f"cannot be read: {error}") from None
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("images", "annotations")):
        hint = "a list of detection results cannot be used as ground truth" if isinstance(data, list) else ""
        raise truth_error(path, "", "expected a COCO file: an object with the lists 'images' and 'annotations'", hint)
    return data


def read_labels(path: Path, data: Json) -> dict[Any, str]:
    """The names of the categories by id.

    Raises:
        PipelineError: a category is invalid.
    """
    labels: dict[Any, str] = {}
    for index, entry in enumerate(data.get("categories") or []):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or not is_id(entry.get("id")):
            raise truth_error(path, f"categories[{index}]", "expected an object with 'id' and 'name'")
        if entry["id"] in labels:
            raise truth_error(path, f"categories[{index}]", f"the id {entry['id']!r} is used twice")
        labels[entry["id"]] = entry["name"]
    return labels


def read_images(path: Path, data: Json) -> dict[Any, TrueImage]:
    """The images by id, without objects.

    Raises:
        PipelineError: an image is invalid.
    """
    images: dict[Any, TrueImage] = {}
    names: set[str] = set()
    for index, entry in enumerate(data["images"]):
        place = f"images[{index}]"
        if not isinstance(entry, dict) or not is_id(entry.get("id")) or not isinstance(entry.get("file_name"), str):
            raise truth_error(path, place, "expected an object with 'id' and 'file_name'")
        height, width = entry.get("height"), entry.get("width")
        if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
            raise truth_error(path, place, f"expected 'height' and 'width' in pixels, found {height!r} and {width!r}")
        if entry["id"] in images:
            raise truth_error(path, place, f"the id {entry['id']!r} is used twice")
        if entry["file_name"] in names:
            raise truth_error(path, place, f"the file_name {entry['file_name']!r} is used twice")
        names.add(entry["file_name"])
        images[entry["id"]] = TrueImage(entry["file_name"], (height, width), ())
    return images


def _read_object(
    path: Path, place: str, entry: Json, image: TrueImage, labels: Mapping[Any, str], with_pixels: bool
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
    try:
        crowd = parse_flag(entry.get("iscrowd"), "iscrowd")
    except AnnotationError as error:
        raise truth_error(path, place, str(error)) from None
    if with_pixels:
        counts = _read_counts(path, place, entry["segmentation"], *image.size)
    elif box is None:
        raise truth_error(path, place, "both 'segmentation' and 'bbox' are missing")
    else:
        counts = _encode_box(box, *image.size)
    rle = {"size": list(image.size), "counts": counts}
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


def _read_counts(path: Path, place: str, shape: Any, height: int, width: int) -> str:
    """The compressed counts of a segmentation in any of COCO's three forms."""
    try:
        if isinstance(shape, list):
            if not all(isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 for part in shape):
                raise ValueError("a polygon must be a flat list of at least three x, y pairs")
            rle = coco_mask.merge(coco_mask.frPyObjects([[float(v) for v in part] for part in shape], height, width))
        else:
            size, text = check_rle(require_object(shape))
            if size != (height, width):
                theirs, mine = (f"{w}×{h} = {w * h}" for h, w in (size, (height, width)))
                raise AnnotationError(f"its RLE has {theirs} pixels, but its image {mine}")
            return text
    except AnnotationError as error:
        raise truth_error(path, place, str(error)) from None
    except (ValueError, TypeError, OverflowError) as error:
        raise truth_error(path, place, f"its segmentation is not valid polygons: {error}") from None
    return bytes(rle["counts"]).decode("ascii")


def _encode_box(box: list[float], height: int, width: int) -> str:
    rle = coco_mask.frPyObjects(np.array([box], np.float64), height, width)[0]
    return bytes(rle["counts"]).decode("ascii")


def is_id(value: Any) -> bool:
    """Whether a JSON value can be an id."""
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _known(value: Any, known: Mapping[Any, Any]) -> bool:
    return is_id(value) and value in known
