"""What our writers note beside their files: the keys of images, and the labels that they had to change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from maskmill.tables import read_table


def read_own_keys(folder: Path, column: str) -> Mapping[str, str]:
    """The key of the image of each file in a column of a data set's `images.csv`; {} if there is no such table."""
    return _read_pairs(folder / "images.csv", column, "key")


def read_own_labels(folder: Path) -> Mapping[str, str]:
    """The label of each class name that a writer had to change; {} if none was changed."""
    return _read_pairs(folder / "renamed.csv", "name", "label")


def _read_pairs(table: Path, key: str, value: str) -> Mapping[str, str]:
    if not table.is_file():
        return {}
    try:
        rows = read_table(table, "surrogateescape")
        return {row[key]: row[value] for row in rows if row.get(key) and row.get(value)}
    except (OSError, ValueError):
        return {}
