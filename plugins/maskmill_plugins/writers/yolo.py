"""yolo: a dataset for Ultralytics: text files with normalised polygons, data.yaml, and images in splits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import yaml
from pydantic import Field, PrivateAttr

from maskmill import Artifact, Image, ImageError, ImageResult, Mask, Problem, Writer, hookimpl
from maskmill.plugins.entries import Entries
from maskmill_plugins._shared.drawing.pixels import check_cv2
from maskmill_plugins._shared.drawing.polygons import OUTLINE_MEANING, Outline, join_rings, polygon_iou, to_rings
from maskmill_plugins._shared.export.classes import UNLABELLED, find_duplicates, order_labels
from maskmill_plugins._shared.export.dataset_writer import DatasetWriter
from maskmill_plugins._shared.export.file_names import (
    SHARED_HINT,
    stem_path,
)
from maskmill_plugins._shared.export.image_files import IMAGES_MEANING, Images, image_suffix
from maskmill_plugins._shared.export.mask_map import summarize_iou
from maskmill_plugins._shared.export.output_files import LIST, ImageTable, describe_file, save_as
from maskmill_plugins._shared.export.splits import (
    SPLITS,
    Split,
)

_DIGITS = 6  # of a millionth: a hundredth of a pixel in an image of 10,000 pixels
#: (label, the line without its class, IoU with the mask)
_Shape = tuple[str, str, float]


class Yolo(DatasetWriter):
    """`data.yaml`, `images/{train,val,test}/` and `labels/{train,val,test}/<name>.txt`, in Ultralytics' layout.

    A line is an instance: its class, then one polygon in fractions of the image's width and height. The
    format has one polygon per instance: parts and holes are joined by bridges of zero width, so nothing
    is filled and no part is lost. The `iou` after rounding and `tolerance` is noted. Overlapping masks
    stay separate. Images without masks get an empty file and count as background.

    `images.csv` maps files to keys; it is used to remove the files of images that left the dataset.
    """

    version: ClassVar[int] = 2

    classes: tuple[str, ...] = Field(
        (),
        description="all labels, in the order of their numbers, from 0; an image with another label fails, and workers"
        " write the label files. Empty: all labels found, in alphabetical order, numbers by value; label files"
        " are written at the end",
    )
    no_val: Literal["train", "omit"] = Field(
        "train",
        description="what `data.yaml` says if no image is in `val`. `train`: `val` is the folder of the training"
        " images, because Ultralytics does not train without `val`; `omit`: nothing, because Datumaro and CVAT would"
        " read the training images twice",
    )
    nc: bool = Field(
        False,
        description="write the number of classes into `data.yaml`, which old readers such as YOLOv7 need; CVAT cannot"
        " read it",
    )
    images: Images = Field(
        "copy",
        description=f"{IMAGES_MEANING}. Ultralytics repairs damaged JPEGs in place, which changes linked originals",
    )
    tolerance: float = Field(
        0.5,
        ge=0,
        le=100,
        description="maximum distance of a polygon from the mask's border, in pixels; 0 follows it exactly",
    )
    outline: Outline = Field("centres", description=OUTLINE_MEANING)
    detect: bool = Field(False, description="write boxes instead of polygons, to train a detector")
    _shapes: tuple[Sequence[Mask], list[_Shape]] = PrivateAttr(((), []))

    def check(self) -> list[Problem]:
        """OpenCV must load, each class be given once, and some images be left for training."""
        return [*check_cv2(), *find_duplicates("classes", self.classes), *super().check()]

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Copy the image, measure the polygons, and write the labels if `classes` is given.

        Raises:
            ImageError: a label is not in `classes`, or the image file changed during the run.
            ImageReadError: the image file cannot be read.
        """
        shapes = self._find_shapes(result)
        if not self.detect and (measured := summarize_iou([iou for _, _, iou in shapes])):
            self.note("iou", measured)
        place = self._place(self.find_split(result.key), result.key)
        artifacts = []
        if self.classes:
            numbers = {name: number for number, name in enumerate(self.classes)}
            if unknown := sorted({label for label, _, _ in shapes} - set(numbers)):
                raise ImageError(f"the label {unknown[0]!r} is not in classes: {', '.join(self.classes)}")
            lines = _format_lines([numbers[label], line] for label, line, _ in shapes)
            artifacts.append(save_as(folder, f"labels/{place}.txt", lines))
        return artifacts + self.save_picture(image, result, folder, self._image_file(result.key, place))

    def make_entry(self, result: ImageResult) -> bytes:
        """The lines of the label file, each without its class; nothing if `write` has written the file."""
        if self.classes:
            return b""
        return json.dumps([(label, line) for label, line, _ in self._find_shapes(result)]).encode()

    def finish_entries(self, entries: Entries, folder: Path) -> Iterator[Artifact]:
        """Write the labels unless workers did, then `data.yaml` and `images.csv`; remove outdated files.

        A label file is written only if its content may have changed: the image did, or the numbers of the classes.

        Raises:
            OutputError: two images would share a file.
        """
        labels: set[str] = set()
        counts = dict.fromkeys(SPLITS, 0)
        with ImageTable(folder, ["split"], ["image", "labels"], SHARED_HINT) as table:
            for entry in entries.read(LIST):
                place = self._place(split := self.find_split(entry.key), entry.key)
                counts[split] += 1
                table.add(entry.key, split, self._image_file(entry.key, place), f"labels/{place}.txt")
                if not self.classes:
                    labels.update(label for label, _ in json.loads(entry.data))
            classes = list(self.classes) or order_labels((), labels)
            table.check()
            if not self.classes:
                yield from self._write_labels(entries, folder, classes)
        yield describe_file(folder, LIST)
        yield save_as(folder, "data.yaml", self._make_data_yaml(classes, counts))
        entries.memory = classes

    def _write_labels(self, entries: Entries, folder: Path, classes: list[str]) -> Iterator[Artifact]:
        numbers = {name: number for number, name in enumerate(classes)}
        earlier = entries.earlier if entries.earlier is not None and entries.earlier.memory == classes else None
        for entry in entries.read("labels"):
            path = f"labels/{self._place(self.find_split(entry.key), entry.key)}.txt"
            made = None if earlier is None or entry.changed else earlier.find_file(path)
            if made is None:
                text = _format_lines([numbers[label], line] for label, line in json.loads(entry.data))
                made = save_as(folder, path, text)
            yield made

    def _place(self, split: Split, key: str) -> str:
        """The path of an image's files below `images/` and `labels/`, without suffix.

        Folders called `images` get a hash, because Ultralytics finds labels by replacing the last `/images/`.
        """
        return f"{split}/{stem_path(key, self.names, self.folders, taken='images')}"

    def _image_file(self, key: str, place: str) -> str:
        """The path of the image file, "" without one."""
        return "" if self.images == "none" else f"images/{place}{image_suffix(key, self.images)}"

    def _find_shapes(self, result: ImageResult) -> list[_Shape]:
        """The shape of each mask that has pixels; those of the last result are known."""
        if self._shapes[0] is not result.masks:
            self._shapes = result.masks, [found for mask in result.kept if (found := self._make_line(mask)) is not None]
        return self._shapes[1]

    def _make_line(self, mask: Mask) -> _Shape | None:
        """The shape of a mask, None for one without pixels."""
        box = mask.box
        if box is None:
            return None
        height, width = mask.size
        label = mask.label or UNLABELLED
        if self.detect:
            middle = (box.x1 + box.x2) / 2 / width, (box.y1 + box.y2) / 2 / height
            return label, _format_numbers([*middle, (box.x2 - box.x1) / width, (box.y2 - box.y1) / height]), 1.0
        frame = np.array((width, height), np.float64)
        line = np.round(np.clip(join_rings(to_rings(mask, self.tolerance, self.outline)) / frame, 0, 1), _DIGITS)
        iou = polygon_iou(mask, [(line * frame).ravel().tolist()], self.outline)
        return label, _format_numbers(line.ravel().tolist()), iou

    def _make_data_yaml(self, classes: list[str], counts: dict[Split, int]) -> bytes:
        """The file has no `path`, so that Ultralytics uses its folder, even after it is moved."""
        about: dict[str, Any] = {split: f"images/{split}" for split in SPLITS if counts[split] or split == "train"}
        text = "# Instance masks made with maskmill, for Ultralytics YOLO.\n"
        if not counts["val"] and self.no_val == "train":
            about = {"train": about["train"], "val": about["train"], **about}
            text += "# No image is in val: the training images are used, so the figures are those of training itself.\n"
        if self.nc:
            about["nc"] = len(classes)
        about["names"] = dict(enumerate(classes))
        return (text + yaml.safe_dump(about, allow_unicode=True, sort_keys=False)).encode("utf-8", "backslashreplace")


def _format_numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".") for value in values)


def _format_lines(lines: Iterable[list[Any]]) -> bytes:
    return "".join(f"{number} {line}\n" for number, line in lines).encode("ascii")


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `yolo`."""
    register("yolo", Yolo)
