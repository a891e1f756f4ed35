"""`masks.csv`: which object is in which file, with its label as it is and its score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from maskmill import Artifact, ImageResult, Mask
from maskmill.files import atomic_path
from maskmill.plugins.entries import Entries
from maskmill.tables import write_table

from .classes import UNLABELLED
from .file_names import name_class_file, name_object_file
from .output_files import describe_file

NAME = "masks.csv"
COLUMNS = ("file", "key", "index", "label", "score")
By = Literal["image", "class"]
BY_MEANING = (
    "folders of the files: `image`: one for each image, `sub/a_jpg/000_cat.png` for `sub/a.jpg`; `class`: one for each"
    " label, `cat/sub__a_jpg_000.png`, as programs that train classifiers expect"
)


def name_mask_file(by: By, key: str, number: int, mask: Mask) -> str:
    """The name of the file of one mask, for `save`; `number` is its position among the kept ones."""
    if by == "class":
        return name_class_file(key, number, mask.label or UNLABELLED, ".png")
    return name_object_file(key, number, mask.label, ".png")


def list_masks(result: ImageResult, name_file: Callable[[ImageResult, int, Mask], str]) -> bytes:
    """The rows of an image for `write_mask_table`, one for each kept mask.

    Args:
        result: of the image.
        name_file: the path of the file in it, given the result, the mask's position among the kept ones and the
            mask; "" if it has no file.
    """
    rows = []
    for number, mask in enumerate(result.kept):
        if file := name_file(result, number, mask):
            label = (mask.label or "").encode("utf-8", "surrogatepass").decode("utf-8", "replace")
            rows.append((file, result.key, number, label, "" if mask.score is None else mask.score))
    return json.dumps(rows).encode()


def write_mask_table(entries: Entries, folder: Path) -> Artifact:
    """Write the table of the rows that `list_masks` made.

    Args:
        entries: of the images in their order.
        folder: of the writer.
    """
    with (
        atomic_path(folder / NAME) as unfinished,
        write_table(unfinished, COLUMNS, errors="surrogateescape") as write,
    ):
        for entry in entries.read(NAME):
            for row in json.loads(entry.data):
                write(row)
    return describe_file(folder, NAME)
