"""Ground truth in class maps: grey or indexed PNG files in which a pixel's value is the number of its class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maskmill import Mask

from .image_table import ImageTable, Truth
from .objects import make_object, truth_error
from .own_tables import read_own_keys, read_own_labels
from .png import VOID, read_names, read_pixels

LABELS = "labels.txt"
#: Folders of class maps: plain pairs of images and maps, MMSegmentation, ADE20K, FiftyOne.
FOLDERS = ("masks", "ann_dir", "annotations", "labels")
_SPLITS = ("train", "val", "test", "training", "validation", "testing")


def find_class_maps(folder: Path) -> Path | None:
    """The folder of class maps in a data set with `labels.txt`, None if it is another kind of data set."""
    if not (folder / LABELS).is_file():
        return None
    return next((found for name in FOLDERS if (found := folder / name).is_dir() and any(found.rglob("*.png"))), None)


def read_semantic_truth(folder: Path, maps: Path) -> Truth:
    """Read the class maps of a data set; all pixels of a class in an image are one object.

    0 is background, and 255 in files of 8 bits is ignored. The other numbers are line numbers in `labels.txt`,
    counted from 0 if its first line is `background`, otherwise from 1.

    Args:
        folder: of the data set.
        maps: the folder in it, as `find_class_maps` gives it.

    Raises:
        PipelineError: a file cannot be read, or is no class map.
    """
    written = read_own_labels(folder)
    names = [written.get(name, name) for name in read_names(folder / LABELS)]
    keys = read_own_keys(folder, "mask")
    images = ImageTable()
    for path in sorted(maps.rglob("*.png")):
        name = keys.get(path.relative_to(folder).as_posix()) or _name_image(path.relative_to(maps))
        _read_map(name, path, names, images)
    labels = [*names, *sorted(images.complete().labels() - set(names))]
    return Truth(folder, "mask", images, labels, merged=frozenset(labels))


def _name_image(path: Path) -> str:
    """The path of a map without the folder of its split."""
    parts = path.parts[1:] if len(path.parts) > 1 and path.parts[0] in _SPLITS else path.parts
    return "/".join(parts)


def _read_map(name: str, path: Path, names: list[str], images: ImageTable) -> None:
    numbers = read_pixels(path)
    void = numbers == VOID if numbers.dtype == np.uint8 else np.zeros(numbers.shape, np.bool_)
    height, width = numbers.shape
    try:
        image = images.add(name, name, (height, width), Mask.from_array(void).counts if void.any() else None)
    except ValueError:
        raise truth_error(path, "", f"another file is about the same image, {name!r}") from None
    for number in map(int, np.unique(numbers[~void])):
        if number:
            label = names[number - 1] if number <= len(names) else f"class {number}"
            images.add_object(image, make_object(label, numbers == number))
