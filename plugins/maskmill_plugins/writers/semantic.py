"""semantic: one grey PNG per image whose pixels are class numbers, in the layouts of segmentation trainers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, ClassVar, Literal

import numpy as np
from pydantic import Field

from maskmill import Artifact, Image, ImageError, ImageResult, Mask, OutputError, Problem, Writer, hookimpl
from maskmill_plugins._shared.drawing.pixels import encode_png
from maskmill_plugins._shared.export.class_files import (
    check_renamed,
    find_renamed_masks,
    name_in_list,
    summarize_renamed,
    write_labels,
)
from maskmill_plugins._shared.export.classes import find_duplicates, label_of, order_labels
from maskmill_plugins._shared.export.dataset_writer import DatasetWriter
from maskmill_plugins._shared.export.file_names import SHARED_HINT
from maskmill_plugins._shared.export.mask_map import paint_mask, summarize_iou
from maskmill_plugins._shared.export.output_files import LIST, ImageTable, describe_file, save_as, temporary_file

#: Layout -> the folder of the images and that of the maps, with the split for `{}`.
_FOLDERS = {
    "pairs": ("images", "masks"),
    "mmseg": ("img_dir/{}", "ann_dir/{}"),
    "ade": ("images/{}", "annotations/{}"),
    "fiftyone": ("data", "labels"),
}
_ADE_SPLITS = {"train": "training", "val": "validation", "test": "testing"}
_MAX_8_BIT, _MAX_16_BIT = 254, 65534  # the largest value is left free, because readers take 255 for "ignore"


class Semantic(DatasetWriter):
    """A PNG per image without a palette: a pixel's value is the number of its class, 0 for the background.

    `labels.txt` lists the classes, one per line, starting with 0 for the background; `images.csv` lists the
    files and the split of each image. A pixel has one value: where masks overlap, the smaller one wins, and
    the resulting `iou` with its own class is noted for each image. Objects of one class are not told apart.

    With more than 254 classes, all files have 16 bits. A label that a line cannot hold, or that is `background`,
    gets a hash; `renamed.csv` lists such labels.
    """

    version: ClassVar[int] = 1

    classes: tuple[str, ...] = Field(
        (),
        description="all labels, in the order of their numbers, from 1; an image with another label fails, and workers"
        " write the files. Empty: all labels found, in alphabetical order, numbers by value; the files are written"
        " at the end",
    )
    layout: Literal["pairs", "mmseg", "ade", "fiftyone"] = Field(
        "pairs",
        description="folders of images and maps. `pairs`: `images/`, `masks/`; `mmseg`: `img_dir/train/`,"
        " `ann_dir/train/` ...; `ade`: `images/training/`, `annotations/training/` ...; `fiftyone`: `data/`, `labels/`",
    )

    def check(self) -> list[Problem]:
        """Each class must be given once, and there must be enough numbers."""
        problems = find_duplicates("classes", self.classes)
        if len(self.classes) > _MAX_16_BIT:
            problems.append(Problem(f"classes: at most {_MAX_16_BIT} are possible, not {len(self.classes)}"))
        return problems + check_renamed(self.classes, name_in_list) + super().check()

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Measure what overlaps cost, write the map if `classes` is given, and the image if asked for.

        Raises:
            ImageError: a label is not in `classes`, or the image file changed during the run.
            ImageReadError: the image file cannot be read.
        """
        size = result.size or image.size
        if measured := summarize_iou(_measure_classes(result.kept, size)):
            self.note("iou", measured)
        if renamed := find_renamed_masks(result.kept, name_in_list):
            self.note("renamed", dict(renamed))
        artifacts = self.save_picture(image, result, folder, self._image_file(result.key))
        if self.classes:
            known = {label: number for number, label in enumerate(self.classes, start=1)}
            if unknown := sorted({label_of(mask) for mask in result.kept} - set(known)):
                raise ImageError(f"the label {unknown[0]!r} is not in classes: {', '.join(self.classes)}")
            painted = [(mask, known[label_of(mask)]) for mask in result.kept]
            artifacts.append(save_as(folder, self._map_file(result.key), _encode_map(painted, size, len(known))))
        return artifacts

    def finish(self, results: Iterator[ImageResult], folder: Path) -> Iterator[Artifact]:
        """Write the lists of images and classes, and the maps unless workers did; remove outdated files.

        Raises:
            OutputError: two images would share a file, or there are too many classes.
        """
        labels: dict[str, int] = {}
        with ExitStack() as stack:
            table = stack.enter_context(ImageTable(folder, ["split"], ["image", "mask"], SHARED_HINT))
            waiting = stack.enter_context(temporary_file(folder))
            for result in results:
                image, path = self._image_file(result.key), self._map_file(result.key)
                table.add(result.key, self.find_split(result.key), image, path)
                if not self.classes:
                    found = [
                        (labels.setdefault(label_of(mask), len(labels)), mask.counts)
                        for mask in result.kept
                        if mask.area
                    ]
                    waiting.write(json.dumps([path, result.size, found]) + "\n")
            classes = list(self.classes) or order_labels((), labels)
            yield from _write_maps(folder, waiting, labels, classes)
        for text in summarize_renamed("semantic", classes, name_in_list):
            self.tell(text)
        if len(classes) > _MAX_8_BIT:
            self.tell(f"semantic: {len(classes)} classes need PNGs of 16 bits; 255 is a class in them")
        yield describe_file(folder, LIST)
        yield from write_labels(folder, classes)

    def _place(self, which: int, key: str) -> str:
        split: str = self.find_split(key)
        return _FOLDERS[self.layout][which].format(_ADE_SPLITS[split] if self.layout == "ade" else split)

    def _image_file(self, key: str) -> str:
        """The path of the image file, "" without one."""
        return "" if self.images == "none" else f"{self._place(0, key)}/{self.name_picture(key)}"

    def _map_file(self, key: str) -> str:
        return f"{self._place(1, key)}/{self.name_stem(key)}.png"


def _measure_classes(masks: Sequence[Mask], size: tuple[int, int]) -> list[float]:
    """The share of each mask's pixels that have its class in the map."""
    numbers = {label: number for number, label in enumerate(dict.fromkeys(map(label_of, masks)), start=1)}
    painted = _paint_map([(mask, numbers[label_of(mask)]) for mask in masks], size, len(numbers))
    return [
        float(np.count_nonzero(painted[mask.array] == numbers[label_of(mask)])) / mask.area
        for mask in masks
        if mask.area
    ]


def _paint_map(masks: Sequence[tuple[Mask, int]], size: tuple[int, int], classes: int) -> np.ndarray:
    """The class number of each pixel (H, W), of 8 or 16 bits by the number of classes; small masks on top."""
    numbers = np.zeros(size, np.uint8 if classes <= _MAX_8_BIT else np.uint16)
    for mask, number in sorted(masks, key=lambda item: -item[0].area):
        paint_mask(numbers, mask, number)
    return numbers


def _encode_map(masks: Sequence[tuple[Mask, int]], size: tuple[int, int], classes: int) -> bytes:
    return encode_png(_paint_map(masks, size, classes), flat=True)


def _write_maps(folder: Path, waiting: IO[str], labels: dict[str, int], classes: list[str]) -> Iterator[Artifact]:
    """Write the maps of the waiting images."""
    if len(classes) > _MAX_16_BIT:
        raise OutputError(f"at most {_MAX_16_BIT} classes are possible, not {len(classes)}; merge some with class_map")
    numbers = {label: number for number, label in enumerate(classes, start=1)}
    by_number = [numbers[label] for label in labels]
    waiting.seek(0)
    for line in waiting:
        path, (height, width), found = json.loads(line)
        size = height, width
        masks = [(Mask(size, counts), by_number[number]) for number, counts in found]
        yield save_as(folder, path, _encode_map(masks, size, len(classes)))


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `semantic`."""
    register("semantic", Semantic)
