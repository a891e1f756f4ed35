"""What our writers note beside a dataset: the keys of its images, and the labels that they had to change.

The names of annotation files alone do not say everything: `a.txt` belongs to `a.jpg` or `a.png`, and where two
folders hold an `a.jpg`, the path in the dataset decides.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from maskmill.tables import read_table

NAME, RENAMED = "images.csv", "renamed.csv"
#: Columns with the annotation file of an image: of `yolo`, of `labelme` and `voc`.
_COLUMNS = ("labels", "annotation")


def find_own_table(path: Path) -> Path | None:
    """The `images.csv` of one of our writers, in the folder of annotations or up to two folders above it."""
    folder = Path(os.path.abspath(path if path.is_dir() else path.parent))  # noqa: PTH100 - no links are resolved
    for place in (folder, *folder.parents)[:3]:
        table = place / NAME
        try:
            if table.is_file() and (row := next(read_table(table, "surrogateescape"), None)) is not None:
                return table if "key" in row and any(column in row for column in _COLUMNS) else None
        except (OSError, ValueError):
            return None
    return None


def read_own_names(path: Path) -> Mapping[str, str]:
    """The name of the image of each annotation file (absolute); {} if none of our writers made these files.

    That is its key; if the dataset has a copy of the image under another name, the path of the copy.
    """
    table = find_own_table(path)
    if table is None:
        return {}
    names = {}
    for row in read_table(table, "surrogateescape"):
        file = next((row[column] for column in _COLUMNS if row.get(column)), "")
        copy = row.get("image", "")
        if file and row["key"]:
            same = not copy or f"/{copy}".endswith(f"/{row['key']}")
            names[str(table.parent / file)] = row["key"] if same else copy
    return names


def read_own_labels(path: Path) -> Mapping[str, str]:
    """The label of each class name that a writer of ours had to change; {} if none was changed."""
    table = find_own_table(path)
    if table is None or not (renamed := table.with_name(RENAMED)).is_file():
        return {}
    return {row["name"]: row["label"] for row in read_table(renamed) if {"name", "label"} <= row.keys()}
