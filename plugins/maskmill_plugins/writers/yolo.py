"""yolo: a dataset for Ultralytics: text files with normalised polygons, data.yaml, and images in splits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar, Literal

import numpy as np
import yaml
from pydantic import Field

from maskmill import Artifact, Image, ImageError, ImageResult, Mask, Problem, Writer, hookimpl
from maskmill.decoding.formats import SUFFIXES
from maskmill.files import TEMPORARY_PREFIX, atomic_path, replace
from maskmill.tables import read_table, write_table
from maskmill_plugins._shared.drawing.pixels import check_cv2
from maskmill_plugins._shared.drawing.polygons import join_rings, polygon_iou, to_rings
from maskmill_plugins._shared.export.classes import UNLABELLED, Split, choose_split, find_duplicates, order_labels
from maskmill_plugins._shared.export.file_names import NAMES_MEANING, Names, stem_path
from maskmill_plugins._shared.export.mask_map import summarize_iou
from maskmill_plugins._shared.export.output_files import StemTable, describe_file, remove_file, save_as, temporary_file

LIST = "images.csv"
_DIGITS = 6  # of a millionth: a hundredth of a pixel in an image of 10,000 pixels
_WaitingLabels = tuple[str, list[list[Any]]]


class Yolo(Writer):
    """`data.yaml`, `images/{train,val,test}/` and `labels/{train,val,test}/<name>.txt`, in Ultralytics' layout.

    A line is an instance: its class, then one polygon in fractions of the image's width and height. The
    format has one polygon per instance: parts and holes are joined by bridges of zero width, so nothing
    is filled and no part is lost. The `iou` after rounding and `tolerance` is noted. Overlapping masks
    stay separate. Images without masks get an empty file and count as background.

    `images.csv` maps files to keys; it is used to remove the files of images that left the dataset.
    """

    needs_pixels: ClassVar[bool] = False

    classes: tuple[str, ...] = Field(
        (),
        description="all labels, in the order of their numbers, from 0; an image with another label fails, and workers"
        " write the label files. Empty: all labels found, in alphabetical order, numbers by value; label files"
        " are written at the end",
    )
    val: float = Field(0.2, ge=0, lt=1, description="share of the images for validation, chosen by a hash of the key")
    test: float = Field(0.0, ge=0, lt=1, description="share of the images for testing")
    images: Literal["copy", "link", "none"] = Field(
        "copy",
        description="`copy`: the image files are copied; `link`: hard links, or copies where that is impossible"
        " (Ultralytics repairs damaged JPEGs in place, which would change your originals); `none`: labels only",
    )
    tolerance: float = Field(
        0.75,
        ge=0,
        le=100,
        description="maximum distance of a polygon from the mask's border, in pixels; 0 follows it exactly",
    )
    detect: bool = Field(False, description="write boxes instead of polygons, to train a detector")
    names: Names = Field("stem", description=NAMES_MEANING)

    def check(self) -> list[Problem]:
        """OpenCV must load, each class be given once, and some images be left for training."""
        problems = [*check_cv2(), *find_duplicates("classes", self.classes)]
        if self.val + self.test >= 1:
            problems.append(Problem(f"val: {self.val:g} and test: {self.test:g} leave no images for training"))
        return problems

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Copy the image, measure the polygons, and write the labels if `classes` is given.

        Raises:
            ImageError: a label is not in `classes`, or the image file changed during the run.
            ImageReadError: the image file cannot be read.
        """
        shapes = [shape for mask in result.kept if (shape := self._make_line(mask)) is not None]
        if not self.detect and (measured := summarize_iou([iou for _, _, iou in shapes])):
            self.note("iou", measured)
        place = self._place(result.key)
        artifacts = []
        if self.classes:
            numbers = {name: number for number, name in enumerate(self.classes)}
            if unknown := sorted({label for label, _, _ in shapes} - set(numbers)):
                raise ImageError(f"the label {unknown[0]!r} is not in classes: {', '.join(self.classes)}")
            lines = _format_lines([numbers[label], line] for label, line, _ in shapes)
            artifacts.append(save_as(folder, f"labels/{place}.txt", lines))
        if self.images != "none":
            artifacts.append(self._copy_image(image, folder, f"images/{place}{_suffix(result.key)}"))
        return artifacts

    def finish(self, results: Iterator[ImageResult], folder: Path) -> Iterator[Artifact]:
        """Write the labels unless workers did, then `data.yaml` and `images.csv`; remove outdated files.

        Raises:
            OutputError: two images would share a file.
        """
        labels: dict[str, int] = {}
        counts = dict.fromkeys(("train", "val", "test"), 0)
        with ExitStack() as stack:
            unfinished = stack.enter_context(atomic_path(folder / LIST))
            stems = stack.enter_context(StemTable())
            waiting = stack.enter_context(temporary_file(folder))
            with write_table(unfinished, ("key", "split", "image", "labels"), errors="surrogateescape") as write:
                for result in results:
                    place, split = self._place(result.key), self._split(result.key)
                    stems.add(place, result.key)
                    counts[split] += 1
                    image = f"images/{place}{_suffix(result.key)}" if self.images != "none" else ""
                    write((result.key, split, image, f"labels/{place}.txt"))
                    if not self.classes:
                        waiting.write(json.dumps(self._waiting_labels(result, place, labels)) + "\n")
            classes = list(self.classes) or order_labels((), labels)
            yield from _write_labels(folder, waiting, labels, classes)
            _remove_outdated(folder, stems)
        yield describe_file(folder, LIST)
        yield save_as(folder, "data.yaml", _make_data_yaml(classes, counts))

    def _split(self, key: str) -> Split:
        return choose_split(key, self.val, self.test)

    def _place(self, key: str) -> str:
        """The path of an image's files below `images/` and `labels/`, without suffix."""
        return f"{self._split(key)}/{stem_path(key, self.names)}"

    def _waiting_labels(self, result: ImageResult, place: str, labels: dict[str, int]) -> _WaitingLabels:
        """What waits for the class numbers: [number in `labels`, rest of the line] of each mask."""
        shapes = [shape for mask in result.kept if (shape := self._make_line(mask)) is not None]
        return place, [[labels.setdefault(label, len(labels)), line] for label, line, _ in shapes]

    def _make_line(self, mask: Mask) -> tuple[str, str, float] | None:
        """(label, the line without its class, IoU with the mask), None for a mask without pixels."""
        box = mask.box
        if box is None:
            return None
        height, width = mask.size
        label = mask.label or UNLABELLED
        if self.detect:
            middle = (box.x1 + box.x2) / 2 / width, (box.y1 + box.y2) / 2 / height
            return label, _format_numbers([*middle, (box.x2 - box.x1) / width, (box.y2 - box.y1) / height]), 1.0
        frame = np.array((width, height), np.float64)
        line = np.round(np.clip(join_rings(to_rings(mask, self.tolerance)) / frame, 0, 1), _DIGITS)
        iou = polygon_iou(mask, [(line * frame).ravel().tolist()])
        return label, _format_numbers(line.ravel().tolist()), iou

    def _copy_image(self, image: Image, folder: Path, path: str) -> Artifact:
        """Copy or link the image file to this path."""
        data = image.ref.read()
        target = folder / path
        if self.images == "link" and _try_link(image.ref.path, target):
            return Artifact(path, image.sha256, len(data))
        return save_as(folder, path, data)


def _try_link(source: Path, target: Path) -> bool:
    """Make `target` a hard link to `source`; False if the file system does not support it or they are on two disks."""
    temporary = target.with_name(f"{TEMPORARY_PREFIX}link-{target.name}"[:200])
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if target.exists() and target.samefile(source):  # renaming a link to a link of the same file does nothing
            return True
        temporary.unlink(missing_ok=True)
        os.link(source.resolve(), temporary)
        replace(temporary, target)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True


def _suffix(key: str) -> str:
    suffix = PurePosixPath(key).suffix
    return suffix if suffix.lower() in SUFFIXES else ""


def _format_numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".") for value in values)


def _format_lines(lines: Iterable[list[Any]]) -> bytes:
    return "".join(f"{number} {line}\n" for number, line in lines).encode("ascii")


def _write_labels(folder: Path, waiting: IO[str], labels: dict[str, int], classes: list[str]) -> Iterator[Artifact]:
    """Write the label files of the waiting entries."""
    numbers = {name: number for number, name in enumerate(classes)}
    by_number = [numbers[name] for name in labels]
    waiting.seek(0)
    for entry in waiting:
        place, lines = json.loads(entry)
        text = _format_lines([by_number[number], line] for number, line in lines)
        yield save_as(folder, f"labels/{place}.txt", text)


def _remove_outdated(folder: Path, stems: StemTable) -> None:
    """Remove the files of images that the earlier `images.csv` lists and this dataset does not."""
    before = folder / LIST
    if not before.is_file():
        return
    for row in read_table(before, errors="surrogateescape"):
        labels = row.get("labels") or ""
        place = labels.removeprefix("labels/").removesuffix(".txt")
        if labels.startswith("labels/") and next(stems.find_missing([place]), None) is not None:
            remove_file(folder, labels)
            if (image := row.get("image") or "").startswith("images/"):
                remove_file(folder, image)


def _make_data_yaml(classes: list[str], counts: dict[str, int]) -> bytes:
    """The file has no `path`, so that Ultralytics uses its folder, even after it is moved."""
    about: dict[str, Any] = {"train": "images/train", "val": "images/val" if counts["val"] else "images/train"}
    if counts["test"]:
        about["test"] = "images/test"
    about |= {"nc": len(classes), "names": dict(enumerate(classes))}
    text = "# Instance masks made with maskmill, for Ultralytics YOLO.\n"
    if counts["train"] and not counts["val"]:
        text += "# No image fell to val: these figures are those of training itself.\n"
    return (text + yaml.safe_dump(about, allow_unicode=True, sort_keys=False)).encode("utf-8", "backslashreplace")


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `yolo`."""
    register("yolo", Yolo)
