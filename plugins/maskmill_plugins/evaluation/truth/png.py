"""Ground truth in indexed PNG files, as in Pascal VOC: a pixel's value is the number of its object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskmill import Mask, PipelineError, Problem
from maskmill_plugins._shared.annotations.model import AnnotationError
from maskmill_plugins._shared.annotations.shapes import read_numbers
from maskmill_plugins._shared.text_files import read_lines

from .image_table import ImageTable, Truth
from .objects import TrueImage, TrueObject, make_object, truth_error

#: Pixels of this value are void: borders and ambiguous areas (VOC2012 devkit, section 3).
VOID = 255
#: VOC's classes in the order of their numbers, from 1 (VOC2012 devkit, section 2).
VOC = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
OBJECTS, CLASSES = "SegmentationObject", "SegmentationClass"
NAMES = ("labels.txt", "class_names.txt")


def read_png_truth(folder: Path) -> Truth:
    """Read `SegmentationObject` and, if it exists, `SegmentationClass`; or a folder of object maps only.

    A value in a class map is the number, starting at 1, of a name in `labels.txt` or `class_names.txt`,
    one per line (without `_background_` and `__ignore__`), or of VOC's classes if there is no such file.
    Without class maps every object has the class `object`.

    Raises:
        PipelineError: there is no PNG file, or a file cannot be read.
    """
    objects = folder / OBJECTS if (folder / OBJECTS).is_dir() else folder
    classes = folder / CLASSES if objects != folder and (folder / CLASSES).is_dir() else None
    names = next((read_names(path) for name in NAMES if (path := folder / name).is_file()), list(VOC))
    images = ImageTable()
    for path in sorted(objects.rglob("*.png")):
        name = path.relative_to(objects).as_posix()
        image = _read_image(name, path, None if classes is None else classes / name, names)
        number = images.add(name, name, image.size, image.void)
        for true in image.objects:
            images.add_object(number, true)
    if not images:
        hint = f"expected a folder of indexed PNG files such as VOC's with {OBJECTS}, or of class maps with labels.txt"
        raise PipelineError(Problem(f"no PNG file found in '{objects}'", hint=hint))
    used = images.complete().labels()
    return Truth(folder, "mask", images, [*(name for name in names if name in used), *sorted(used - set(names))])


def read_names(path: Path) -> list[str]:
    """The names in a list of classes, from number 1: without the background.

    Raises:
        PipelineError: it cannot be read.
    """
    lines = [line.strip() for line in read_lines(path)]
    return [line for line in lines if line and line not in ("background", "_background_", "__ignore__")]


def _read_image(name: str, path: Path, class_path: Path | None, names: list[str]) -> TrueImage:
    numbers = read_pixels(path)
    classes = None if class_path is None else read_pixels(class_path)
    if classes is not None and classes.shape != numbers.shape:
        raise truth_error(
            class_path or path, "", f"its size is {classes.shape}, but the object map's is {numbers.shape}"
        )
    void = np.zeros(numbers.shape, np.bool_)
    for pixels in (numbers, classes):
        if pixels is not None and pixels.dtype == np.uint8:
            void |= pixels == VOID
    found = []
    for number in np.unique(numbers[~void]):
        if number:
            found.append(_read_object(path, int(number), (numbers == number) & ~void, classes, names))
    return TrueImage(name, numbers.shape, tuple(found), Mask.from_array(void).counts if void.any() else None)


def _read_object(
    path: Path, number: int, pixels: npt.NDArray[np.bool_], classes: npt.NDArray[Any] | None, names: list[str]
) -> TrueObject:
    label = "object"
    if classes is not None:
        values, counts = np.unique(classes[pixels & (classes != 0)], return_counts=True)
        if not len(values):
            raise truth_error(path, f"object {number}", "the class map has no class at its pixels")
        index = int(values[np.argmax(counts)])
        label = names[index - 1] if index <= len(names) else f"class {index}"
    return make_object(label, pixels)


def read_pixels(path: Path) -> npt.NDArray[Any]:
    """The numbers (H, W) of an indexed or gray PNG.

    Raises:
        PipelineError: it cannot be read, or has colours.
    """
    try:
        return read_numbers(path)
    except AnnotationError as error:
        raise truth_error(path, "", str(error)) from None
