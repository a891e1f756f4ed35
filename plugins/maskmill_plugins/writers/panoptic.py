"""panoptic: COCO's panoptic format: a PNG of segment ids for each image, and a JSON file for each split."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskmill import Artifact, Image, ImageResult, Mask, Problem, Writer, colors, hookimpl
from maskmill_plugins._shared.drawing.pixels import encode_png
from maskmill_plugins._shared.export.classes import find_duplicates, label_of, order_labels
from maskmill_plugins._shared.export.coco_file import CocoFile, dump_json
from maskmill_plugins._shared.export.dataset_writer import DatasetWriter
from maskmill_plugins._shared.export.file_names import SHARED_HINT
from maskmill_plugins._shared.export.mask_map import make_mask_map, measure_kept, summarize_iou
from maskmill_plugins._shared.export.output_files import LIST, ImageTable, describe_file, remove_file, save_as
from maskmill_plugins._shared.export.splits import SPLITS, Split


@dataclass(frozen=True)
class _Segment:
    """The visible pixels of one object, or of all regions of one class of stuff."""

    id: int
    label: str
    area: int
    box: tuple[int, int, int, int]

    def to_json(self, category: int) -> dict[str, Any]:
        """Its entry in `segments_info`."""
        return {"id": self.id, "category_id": category, "area": self.area, "bbox": list(self.box), "iscrowd": 0}


class Panoptic(DatasetWriter):
    """`annotations/panoptic_train.json` and a PNG per image in `annotations/panoptic_train/`, and so for each split.

    The id of a pixel's segment is red + 256 green + 256² blue, 0 for no segment. Every pixel belongs to
    one segment at most: where masks overlap, the smaller one wins, and the resulting `iou` is noted for each
    image. `area` and `bbox` are those of the visible pixels; a mask without visible pixels has no segment, and
    `hidden` is noted. The masks of one label of `stuff` are one segment in each image.

    All images are listed, including those without masks; ids count from 1 in the order of the keys, over
    all files. The same results always give the same bytes.
    """

    version: ClassVar[int] = 1

    stuff: tuple[str, ...] = Field(
        (),
        description="labels without separate objects, such as sky or road (`isthing` 0); all others are things",
    )
    categories: tuple[str, ...] = Field(
        (),
        description="labels in the order of their ids, from 1; other labels follow in alphabetical order, numbers by"
        " value (empty: all in alphabetical order)",
    )

    def check(self) -> list[Problem]:
        """Each label must be given once."""
        return find_duplicates("categories", self.categories) + find_duplicates("stuff", self.stuff) + super().check()

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the PNG, and the image if asked for.

        Raises:
            ImageError: the image file changed during the run.
            ImageReadError: the image file cannot be read.
        """
        numbers = _make_numbers(result.kept, result.size or image.size)
        kept = measure_kept(numbers, result.kept)
        if measured := summarize_iou(kept):
            self.note("iou", measured)
        if hidden := sum(not share for share in kept):
            self.note("hidden", hidden)
        ids = self._number_segments(result.kept)
        artifacts = [save_as(folder, self._map_file(result.key), _encode_ids(ids[numbers]))]
        return artifacts + self.save_picture(image, result, folder, self._image_file(result.key))

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write the JSON files incrementally, so that memory use is independent of the size of the dataset.

        Raises:
            OutputError: two images would share a file.
        """
        labels: dict[str, int] = {}
        files: dict[Split, CocoFile] = {}
        with ExitStack() as stack:
            table = stack.enter_context(ImageTable(folder, ["split"], ["image", "segments"], SHARED_HINT))
            _open_file("train", folder, files, stack)
            for number, result in enumerate(results, start=1):
                split = self.find_split(result.key)
                table.add(result.key, split, self._image_file(result.key), self._map_file(result.key))
                entry, segments = self._describe(result)
                file = _open_file(split, folder, files, stack)
                file.add_image(dump_json({"id": number, **entry}))
                found = [each.to_json(labels.setdefault(each.label, len(labels))) for each in segments]
                name = f"{self.name_stem(result.key)}.png"
                file.add_waiting(dump_json({"image_id": number, "file_name": name, "segments_info": found}))
            names = order_labels(self.categories, [*labels, *self.stuff])
            ids = {name: number for number, name in enumerate(names, start=1)}
            for file in files.values():
                file.write_end([ids[label] for label in labels], self._describe_categories(names), _set_categories)
        for split in SPLITS:
            if split not in files:
                remove_file(folder, _json_file(split))
        return [*(file.describe() for file in files.values()), describe_file(folder, LIST)]

    def _map_file(self, key: str) -> str:
        return f"annotations/panoptic_{self.find_split(key)}/{self.name_stem(key)}.png"

    def _image_file(self, key: str) -> str:
        """The path of the image file, "" without one."""
        return "" if self.images == "none" else f"images/{self.find_split(key)}/{self.name_picture(key)}"

    def _describe(self, result: ImageResult) -> tuple[dict[str, Any], list[_Segment]]:
        """What an image adds to a file, without the numbers of image and classes: its entry, and its segments."""
        height, width = result.size or (0, 0)
        entry = {"file_name": self.name_picture(result.key), "width": width, "height": height}
        ids = self._number_segments(result.kept)
        return entry, _find_segments(ids[_make_numbers(result.kept, (height, width))], result.kept, ids)

    def _number_segments(self, masks: Sequence[Mask]) -> npt.NDArray[np.uint32]:
        """The id of the segment of each number in a mask map, first that of the background: 0."""
        first: dict[str, int] = {}
        ids = [0]
        for number, mask in enumerate(masks, start=1):
            label = label_of(mask)
            ids.append(first.setdefault(label, number) if label in self.stuff else number)
        return np.array(ids, np.uint32)

    def _describe_categories(self, names: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {
                "id": number,
                "name": name,
                "supercategory": "",
                "isthing": int(name not in self.stuff),
                "color": list(colors.nth(number - 1)),
            }
            for number, name in enumerate(names, start=1)
        ]


def _json_file(split: Split) -> str:
    return f"annotations/panoptic_{split}.json"


def _open_file(split: Split, folder: Path, files: dict[Split, CocoFile], stack: ExitStack) -> CocoFile:
    """The file of a split, opened when it is first needed."""
    if split not in files:
        head = {"info": {"description": "Panoptic segments made with maskmill"}, "licenses": []}
        files[split] = CocoFile(folder, _json_file(split), head, stack)
    return files[split]


def _make_numbers(masks: Sequence[Mask], size: tuple[int, int]) -> npt.NDArray[Any]:
    return make_mask_map(masks, size, np.uint8 if len(masks) < 256 else np.uint32)


def _encode_ids(ids: npt.NDArray[np.uint32]) -> bytes:
    """A PNG with red, green and blue as the bytes of each id, the lowest first."""
    return encode_png(np.stack([(ids >> shift & 255).astype(np.uint8) for shift in (0, 8, 16)], axis=-1), flat=True)


def _find_segments(found: npt.NDArray[np.uint32], masks: Sequence[Mask], ids: npt.NDArray[np.uint32]) -> list[_Segment]:
    """The segments with visible pixels, in the order of their ids.

    Args:
        found: the id of each pixel (H, W).
        masks: of the image.
        ids: the id of the segment of each mask, after a 0.
    """
    corners: dict[int, npt.NDArray[np.int64]] = {}
    labels: dict[int, str] = {}
    for mask, number in zip(masks, ids[1:].tolist(), strict=True):
        if (box := mask.box) is not None:
            corner = np.array([box.x1, box.y1, -box.x2, -box.y2]).astype(int)
            corners[number] = np.minimum(corners.get(number, corner), corner)
            labels.setdefault(number, label_of(mask))
    segments = []
    for number in sorted(corners):
        x1, y1, x2, y2 = np.abs(corners[number]).tolist()
        pixels = found[y1:y2, x1:x2] == number
        columns, rows = (np.flatnonzero(pixels.any(axis=axis)) for axis in (0, 1))
        if len(columns):
            left, top = int(columns[0]), int(rows[0])
            around = x1 + left, y1 + top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1
            segments.append(_Segment(number, labels[number], int(np.count_nonzero(pixels)), around))
    return segments


def _set_categories(line: str, by_number: Sequence[int]) -> str:
    """A waiting entry with the categories of its segments in place of the numbers of their labels."""
    entry = json.loads(line)
    for segment in entry["segments_info"]:
        segment["category_id"] = by_number[segment["category_id"]]
    return dump_json(entry)


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `panoptic`."""
    register("panoptic", Panoptic)
