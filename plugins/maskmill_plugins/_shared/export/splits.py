"""Which images train and which validate: by a hash of the key, so that it never changes with the dataset's size."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "val", "test"]


def split_of(key: str, val: float, test: float = 0.0) -> Split:
    """The split of an image.

    Args:
        key: the image's key; other images have no influence.
        val: the share of validation, about that many of many images.
        test: the share of the test.
    """
    number = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8]) / 2**64
    if number < val:
        return "val"
    return "test" if number < val + test else "train"
