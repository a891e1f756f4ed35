"""Ground truth in COCO's panoptic format: a JSON file, and PNG files whose colours are the ids of segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from maskmill_plugins._shared.annotations.model import AnnotationError, parse_flag

from .coco import is_id, read_images, read_labels
from .objects import TrueImage, TrueObject, Truth, make_object, truth_error
from .own_tables import read_own_keys


def is_panoptic(data: Mapping[str, Any]) -> bool:
    """Whether the content of a COCO file is in the panoptic format."""
    return any(isinstance(entry, dict) and "segments_info" in entry for entry in data["annotations"])


def read_panoptic_truth(path: Path, data: dict[str, Any]) -> Truth:
    """Read a panoptic file and the PNG files in the folder of the same name without `.json`.

    Pixels without a segment are background. The segments of a category with `isthing` 0 are one object.

    Args:
        path: the JSON file.
        data: its content, as `coco.load_json` gives it.

    Raises:
        PipelineError: for the first invalid entry or file, with its position.
    """
    folder = path.with_suffix("")
    if not folder.is_dir():
        raise truth_error(path, "", f"the folder of its PNG files, '{folder}', does not exist")
    labels = read_labels(path, data)
    images = read_images(path, data)
    keys = read_own_keys(path.parent.parent, "segments")
    seen: set[Any] = set()
    for index, entry in enumerate(data["annotations"]):
        place = f"annotations[{index}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
            raise truth_error(path, place, "expected an object with 'image_id', 'file_name' and 'segments_info'")
        number = entry.get("image_id")
        if not is_id(number) or number not in images:
            raise truth_error(path, place, f"no image has the id {number!r}")
        if number in seen:
            raise truth_error(path, place, f"the image with the id {number!r} has two annotations")
        seen.add(number)
        image, file = images[number], folder / entry["file_name"]
        own = f"{path.parent.name}/{folder.name}/{entry['file_name']}"
        objects = _read_segments(path, place, entry, file, image, labels)
        images[number] = replace(image, name=keys.get(own, image.name), objects=objects)
    stuff = {labels[each["id"]] for each in data.get("categories") or [] if not each.get("isthing", 1)}
    by_name = {image.name: image for image in images.values()}
    return Truth(path, "mask", by_name, list(labels.values()), merged=frozenset(stuff))


def _read_segments(
    path: Path, place: str, entry: Mapping[str, Any], file: Path, image: TrueImage, labels: Mapping[Any, str]
) -> tuple[TrueObject, ...]:
    ids = _read_ids(file)
    if ids.shape != image.size:
        theirs, mine = (f"{w}×{h}" for h, w in (ids.shape, image.size))
        raise truth_error(file, "", f"its size is {theirs}, but its image's in '{path.name}' is {mine}")
    segments = entry.get("segments_info")
    if not isinstance(segments, list):
        raise truth_error(path, place, "expected a list 'segments_info'")
    objects = []
    for number, segment in enumerate(segments):
        where = f"{place}.segments_info[{number}]"
        if not isinstance(segment, dict) or not isinstance(segment.get("id"), int):
            raise truth_error(path, where, "expected an object with a number as 'id'")
        category = segment.get("category_id")
        if not is_id(category) or category not in labels:
            raise truth_error(path, where, f"no category has the id {category!r}")
        try:
            crowd = parse_flag(segment.get("iscrowd"), "iscrowd")
        except AnnotationError as error:
            raise truth_error(path, where, str(error)) from None
        pixels = ids == segment["id"]
        if not pixels.any():
            raise truth_error(path, where, f"no pixel of '{file.name}' has the id {segment['id']}")
        objects.append(make_object(labels[category], pixels, crowd=crowd))
    return tuple(objects)


def _read_ids(file: Path) -> npt.NDArray[np.uint32]:
    """The ids of the segments (H, W): red + 256 green + 256² blue."""
    try:
        with PIL.Image.open(file, formats=["PNG"]) as picture:
            colors = np.asarray(picture.convert("RGB")).astype(np.uint32)
    except Exception as error:
        raise truth_error(file, "", f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return np.asarray(colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2])
