"""Ground truth in COCO's panoptic format: a JSON file, and PNG files whose colours are the ids of segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from maskmill_plugins._shared.annotations.json_stream import JsonStream
from maskmill_plugins._shared.annotations.model import AnnotationError, parse_flag

from .coco import is_id, read_lists
from .image_table import ImageTable, Truth
from .objects import TrueObject, make_object, truth_error
from .own_tables import read_own_keys


def is_panoptic(path: Path) -> bool:
    """Whether a COCO file is in the panoptic format, by its first annotation.

    Raises:
        PipelineError: it cannot be read, or is not JSON.
    """
    entries = (entry for key, _, entry in JsonStream(path).members() if key == "annotations")
    first = next(entries, None)
    return isinstance(first, dict) and "segments_info" in first


def read_panoptic_truth(path: Path) -> Truth:
    """Read a panoptic file and the PNG files in the folder of the same name without `.json`.

    Pixels without a segment are background. The segments of a category with `isthing` 0 are one object.

    Args:
        path: the JSON file.

    Raises:
        PipelineError: for the first invalid entry or file, with its position.
    """
    folder = path.with_suffix("")
    if not folder.is_dir():
        raise truth_error(path, "", f"the folder of its PNG files, '{folder}', does not exist")
    images, labels = ImageTable(), dict[Any, str]()
    keys = read_own_keys(path.parent.parent, "segments")
    own = f"{path.parent.name}/{folder.name}"
    read_lists(path, images, labels, lambda name: keys.get(f"{own}/{PurePosixPath(name).with_suffix('.png')}", name))
    stuff: set[str] = set()
    seen: set[int] = set()
    for key, index, entry in JsonStream(path).members():
        if key == "categories" and index >= 0 and not entry.get("isthing", 1):
            stuff.add(labels[entry["id"]])
        if key != "annotations":
            continue
        place = f"annotations[{index}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
            raise truth_error(path, place, "expected an object with 'image_id', 'file_name' and 'segments_info'")
        found = images.find(entry["image_id"]) if is_id(entry.get("image_id")) else None
        if found is None:
            raise truth_error(path, place, f"no image has the id {entry.get('image_id')!r}")
        number, size = found
        if number in seen:
            raise truth_error(path, place, f"the image with the id {entry['image_id']!r} has two annotations")
        seen.add(number)
        for true in _read_segments(path, place, entry, folder / entry["file_name"], size, labels):
            images.add_object(number, true)
    return Truth(path, "mask", images.complete(), list(labels.values()), merged=frozenset(stuff))


def _read_segments(
    path: Path, place: str, entry: Mapping[str, Any], file: Path, size: tuple[int, int], labels: Mapping[Any, str]
) -> Iterator[TrueObject]:
    ids = _read_ids(file)
    if ids.shape != size:
        theirs, mine = (f"{w}×{h}" for h, w in (ids.shape, size))
        raise truth_error(file, "", f"its size is {theirs}, but its image's in '{path.name}' is {mine}")
    segments = entry.get("segments_info")
    if not isinstance(segments, list):
        raise truth_error(path, place, "expected a list 'segments_info'")
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
        yield make_object(labels[category], pixels, crowd)


def _read_ids(file: Path) -> npt.NDArray[np.uint32]:
    """The ids of the segments (H, W): red + 256 green + 256² blue."""
    try:
        with PIL.Image.open(file, formats=["PNG"]) as picture:
            colors = np.asarray(picture.convert("RGB")).astype(np.uint32)
    except Exception as error:
        raise truth_error(file, "", f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return np.asarray(colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2])
