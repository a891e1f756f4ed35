"""Class numbers and the split into training, validation and test, for dataset formats."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal

from maskmill import Problem, masks

#: The class of masks without a label.
UNLABELLED = masks.UNLABELLED
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
Split = Literal["train", "val", "test"]


def order_labels(first: Sequence[str], labels: Iterable[str]) -> list[str]:
    """All labels in the order of their class numbers: the given ones, then the others alphabetically.

    If all others are numbers, they are ordered by value: 0, 2, 10.
    """
    others = sorted(set(labels) - set(first))
    if all(_NUMBER.fullmatch(name) for name in others):
        others.sort(key=Decimal)
    return [*first, *others]


def find_duplicates(option: str, given: Sequence[str]) -> list[Problem]:
    """A problem for each label that an option lists more than once."""
    names = sorted({name for name in given if given.count(name) > 1})
    return [Problem(f"{option}: {name!r} is given more than once") for name in names]


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
