"""Several masks in one map of numbers, where a pixel can have one number only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maskmill import Mask

from ..drawing.pictures import crop_of


def number_map(masks: Sequence[Mask], size: tuple[int, int], dtype: Any = np.uint8) -> npt.NDArray[Any]:
    """An array (H, W) with 1 + the number of a pixel's mask, 0 where there is none.

    Where masks overlap the smaller one wins, which would otherwise vanish behind the larger one.
    """
    numbers = np.zeros(size, dtype)
    for number, mask in sorted(enumerate(masks, start=1), key=lambda item: -item[1].area):
        paint(numbers, mask, number)
    return numbers


def paint(picture: npt.NDArray[Any], mask: Mask, value: int) -> None:
    """Set the pixels of a mask to a value, in place."""
    if (crop := crop_of(mask)) is not None:
        pixels, x, y = crop
        rows, columns = pixels.shape
        picture[y : y + rows, x : x + columns][pixels] = value


def kept_share(numbers: npt.NDArray[Any], masks: Sequence[Mask]) -> list[float]:
    """IoU of each mask that has pixels with what the map holds of it."""
    left = np.bincount(numbers.ravel(), minlength=len(masks) + 1)
    return [float(left[number]) / mask.area for number, mask in enumerate(masks, start=1) if mask.area]
