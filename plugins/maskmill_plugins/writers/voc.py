"""voc: the layout of Pascal VOC: class and object PNGs with its palette, and boxes in XML."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, ClassVar

import numpy as np
import numpy.typing as npt
import PIL.Image
from pydantic import Field

from maskmill import Artifact, Image, ImageError, ImageResult, OutputError, Problem, Writer, hookimpl
from maskmill.plugins.entries import Entries
from maskmill_plugins._shared.drawing.pixels import check_cv2, encode_png, load_cv2
from maskmill_plugins._shared.export.class_files import check_renamed, find_renamed_masks, summarize_renamed
from maskmill_plugins._shared.export.classes import find_duplicates, label_of, order_labels
from maskmill_plugins._shared.export.dataset_writer import DatasetWriter
from maskmill_plugins._shared.export.file_names import (
    SHARED_HINT,
)
from maskmill_plugins._shared.export.image_files import IMAGES_MEANING, Images
from maskmill_plugins._shared.export.mask_map import make_mask_map, measure_kept, summarize_iou
from maskmill_plugins._shared.export.output_files import (
    LIST,
    ImageTable,
    describe_file,
    remove_file,
    save_as,
    save_lines,
    temporary_file,
)
from maskmill_plugins._shared.export.splits import (
    SPLITS,
)
from maskmill_plugins._shared.export.voc_files import (
    make_annotation,
    name_class,
    voc_palette,
    write_label_lists,
)

VOID = 255
_SETS = ("ImageSets/Segmentation", "ImageSets/Main")
_TRAINVAL = "trainval"
_PICTURES = "JPEGImages"
_TABLE = ("image", "annotation", "objects", "classes")
_MAX_NUMBERS = VOID - 1
_FILES = ("Annotations/{}.xml", "SegmentationObject/{}.png", "SegmentationClass/{}.png")


class Voc(DatasetWriter):
    """`SegmentationClass`, `SegmentationObject`, `Annotations` and `ImageSets`, in the layout of Pascal VOC 2012.

    A pixel's value is 1 + the number of its mask in an object PNG and the number of its class in a class
    PNG; `labels.txt` lists the classes, starting with 0 for the background; 255 is void. Holes and parts
    are kept exactly. A pixel has one value: where masks overlap, the smaller one wins, and the resulting
    `iou` is noted. Boxes in the XML count pixels from 1 and include the last one.

    A label that the format does not allow (with a colon, `background`, ...) is changed and gets a hash, in
    all files alike; `renamed.csv` lists such labels.
    """

    version: ClassVar[int] = 2

    classes: tuple[str, ...] = Field(
        (),
        description="all labels, in the order of their numbers, from 1; an image with another label fails, and workers"
        " write the class PNGs. Empty: all labels found, in alphabetical order, numbers by value; class PNGs"
        " are written at the end",
    )
    border: int = Field(
        0, ge=0, le=50, description="width of the void area on either side of an object's border, in pixels"
    )
    trainval: bool = Field(
        False,
        description="also write `trainval.txt`, with the images of `train.txt` and `val.txt`; Datumaro and CVAT read"
        " each image twice then",
    )
    images: Images = Field("none", description=f"what is put into `JPEGImages`. {IMAGES_MEANING}")

    def check(self) -> list[Problem]:
        """OpenCV must load if it finds borders, each class be given once, and there must be enough numbers."""
        problems = [*(check_cv2() if self.border else []), *find_duplicates("classes", self.classes)]
        if len(self.classes) > _MAX_NUMBERS:
            problems.append(Problem(f"classes: the format allows at most {_MAX_NUMBERS}, not {len(self.classes)}"))
        return problems + check_renamed(self.classes, name_class) + super().check()

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the object PNG and the XML file, the class PNG if `classes` is given, and the image if asked for.

        Raises:
            ImageError: there are more masks than the format allows, a label is not in `classes`, or the image
                file changed during the run.
        """
        size = result.size or image.size
        if len(result.kept) > _MAX_NUMBERS:
            raise ImageError(
                f"the format allows at most {_MAX_NUMBERS} objects, not {len(result.kept)}; drop some with a filter"
            )
        numbers = make_mask_map(result.kept, size)
        if self.border:
            numbers[_find_borders(numbers, self.border)] = VOID
        if measured := summarize_iou(measure_kept(numbers, result.kept)):
            self.note("iou", measured)
        self._report_renamed(result)
        xml, objects, classes = self._files(result.key)
        artifacts = [
            save_as(folder, xml, make_annotation(result, size, *self._picture(result.key))),
            save_as(folder, objects, _encode_indexed(numbers)),
        ]
        if self.classes:
            known = {name: number for number, name in enumerate(self.classes, start=1)}
            if unknown := sorted({label_of(mask) for mask in result.kept} - set(known)):
                raise ImageError(f"the label {unknown[0]!r} is not in classes: {', '.join(self.classes)}")
            of_class = _to_class_map(numbers, [known[label_of(mask)] for mask in result.kept])
            artifacts.append(save_as(folder, classes, _encode_indexed(of_class)))
        return artifacts + self.save_picture(image, result, folder, self._image_file(result.key))

    def _report_renamed(self, result: ImageResult) -> None:
        if renamed := find_renamed_masks(result.kept, name_class):
            self.note("renamed", renamed)
            for label, name in renamed.items():
                self.tell(f"label {label!r} is written as {name!r}")

    def make_entry(self, result: ImageResult) -> bytes:
        """The labels of the objects in their order; nothing if `write` has written the class PNG."""
        return b"" if self.classes else json.dumps([label_of(mask) for mask in result.kept]).encode()

    def finish_entries(self, entries: Entries, folder: Path) -> Iterator[Artifact]:
        """Write the lists of images and labels, and the class PNGs unless workers did; remove outdated files.

        Raises:
            OutputError: two images would share a file, there are too many classes, or an object PNG is missing.
        """
        labels: set[str] = set()
        with ExitStack() as stack:
            table = stack.enter_context(ImageTable(folder, ["split"], _TABLE, SHARED_HINT))
            sets = {name: stack.enter_context(temporary_file(folder)) for name in (*SPLITS, _TRAINVAL)}
            for entry in entries.read(LIST):
                split = self.find_split(entry.key)
                table.add(entry.key, split, self._image_file(entry.key), *self._files(entry.key))
                for name in (split, _TRAINVAL)[: 1 if split == "test" else 2]:
                    sets[name].write(f"{self.name_stem(entry.key)}\n")
                if not self.classes:
                    labels.update(json.loads(entry.data))
            table.check()
            classes = list(self.classes) or order_labels((), labels)
            if not self.classes:
                yield from self._write_classes(entries, folder, classes)
            yield from self._write_sets(folder, sets)
        entries.memory = classes
        for text in summarize_renamed("voc", classes, name_class):
            self.tell(text)
        yield describe_file(folder, LIST)
        yield from write_label_lists(folder, classes)

    def _write_classes(self, entries: Entries, folder: Path, classes: list[str]) -> Iterator[Artifact]:
        """Write the class PNGs from the object PNGs; those whose image and numbers are as before stay."""
        if len(classes) > _MAX_NUMBERS:
            raise OutputError(
                f"the format allows at most {_MAX_NUMBERS} classes, not {len(classes)}; merge some with class_map"
            )
        numbers = {name: number for number, name in enumerate(classes, start=1)}
        earlier = entries.earlier if entries.earlier is not None and entries.earlier.memory == classes else None
        for entry in entries.read("SegmentationClass"):
            _, objects, target = self._files(entry.key)
            made = None if earlier is None or entry.changed else earlier.find_file(target)
            if made is None:
                of_object = _read_objects(folder / objects)
                of_class = _to_class_map(of_object, [numbers[label] for label in json.loads(entry.data)])
                made = save_as(folder, target, _encode_indexed(of_class))
            yield made

    def _write_sets(self, folder: Path, sets: Mapping[str, IO[str]]) -> Iterator[Artifact]:
        """Write the lists of images of each split that has any; `train` always."""
        for name, lines in sets.items():
            filled = lines.tell() > 0 and (name != _TRAINVAL or self.trainval)
            for place in (f"{sets_folder}/{name}.txt" for sets_folder in _SETS):
                lines.seek(0)
                if filled or name == "train":
                    yield save_lines(folder, place, lines)
                else:
                    remove_file(folder, place)

    def _files(self, key: str) -> tuple[str, ...]:
        return tuple(name.format(self.name_stem(key)) for name in _FILES)

    def _picture(self, key: str) -> tuple[str, str]:
        """The folder and the name of the picture in the XML file."""
        if self.images == "none" and self.folders == "nested":
            folder, _, name = key.rpartition("/")
            return folder, name
        return _PICTURES, self.name_picture(key)

    def _image_file(self, key: str) -> str:
        """The path of the image file, "" without one."""
        return "" if self.images == "none" else "/".join(self._picture(key))


def _find_borders(numbers: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.bool_]:
    """The pixels that have a different number within `width` pixels."""
    cv2 = load_cv2()
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return np.asarray(cv2.dilate(numbers, kernel) != cv2.erode(numbers, kernel))


def _to_class_map(numbers: npt.NDArray[np.uint8], of_object: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Convert an object map to a class map."""
    table = np.zeros(256, np.uint8)
    table[VOID] = VOID
    table[1 : len(of_object) + 1] = of_object
    return np.asarray(table[numbers])


def _encode_indexed(numbers: npt.NDArray[np.uint8]) -> bytes:
    return encode_png(numbers, flat=True, palette=voc_palette())


def _read_objects(path: Path) -> npt.NDArray[np.uint8]:
    try:
        with PIL.Image.open(io.BytesIO(path.read_bytes())) as picture:
            return np.asarray(picture)
    except OSError as error:
        text = f"{path}: {getattr(error, 'strerror', None) or error}"
        raise OutputError(Problem(text, hint="run again with --verify to recreate missing files")) from None


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `voc`."""
    register("voc", Voc)
