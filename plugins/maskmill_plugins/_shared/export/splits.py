"""The split of a dataset into training, validation and test images: by a hash of the key, or by a list."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from maskmill import PipelineError, Problem
from maskmill.files import sha256_of
from maskmill.images import normalize_key
from maskmill.tables import read_table

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
VAL_MEANING = "share of the images for validation, chosen by a hash of the key; the others train"
TEST_MEANING = "share of the images for testing"
LIST_MEANING = (
    "a CSV file with the columns `key` and `split` (train, val or test), such as `images.csv` of an earlier export; the"
    " split of images that are not in it is chosen by the hash"
)


def choose_split(key: str, val: float, test: float = 0.0) -> Split:
    """The split of an image, from a hash of its key, so that it is independent of the other images.

    Args:
        key: the image's key.
        val: the share of images for validation, approximately.
        test: the share of images for testing, approximately.
    """
    number = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64
    if number < val:
        return "val"
    return "test" if number < val + test else "train"


def read_splits(path: Path) -> Mapping[str, Split]:
    """The splits in a CSV file, by key.

    Raises:
        PipelineError: it cannot be read, lacks a column, or names another split.
    """
    found: dict[str, Split] = {}
    try:
        for number, row in enumerate(read_table(path, errors="surrogateescape"), start=2):
            if missing := [name for name in ("key", "split") if name not in row]:
                raise PipelineError(Problem(f"the first line lacks the column {missing[0]!r}", str(path), 1))
            split = next((name for name in SPLITS if name == row["split"]), None)
            if split is None:
                text = f"the split of {row['key']!r} is {row['split']!r}; expected train, val or test"
                raise PipelineError(Problem(text, str(path), number))
            found[normalize_key(row["key"])] = split
    except (OSError, ValueError) as error:
        raise PipelineError(
            Problem(f"cannot be read: {getattr(error, 'strerror', None) or error}", str(path))
        ) from None
    return found


class Splitter:
    """Which split an image belongs to.

    Args:
        val: share of the images for validation.
        test: share of the images for testing.
        listed: a CSV file with the splits of some images, or None.

    Raises:
        PipelineError: the file cannot be read.
    """

    def __init__(self, val: float, test: float, listed: Path | None = None) -> None:
        self._shares = val, test
        self._listed = read_splits(listed) if listed is not None else {}

    def choose(self, key: str) -> Split:
        """The split of the image with this key."""
        return self._listed.get(normalize_key(key)) or choose_split(key, *self._shares)


def check_splits(val: float, test: float, listed: Path | None) -> list[Problem]:
    """Why images cannot be split in this way."""
    problems = []
    if val + test >= 1:
        problems.append(Problem(f"val: {val:g} and test: {test:g} leave no images for training"))
    if listed is not None:
        try:
            read_splits(listed)
        except PipelineError as error:
            problems += error.problems
    return problems


def state_of(listed: Path | None) -> str:
    """A hash of the list, "" if there is none, for `Stage.digest`."""
    return sha256_of(listed) if listed is not None and listed.is_file() else ""
