"""Several masks in one map of numbers, and what an output format loses of a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maskmill import Mask

from ..drawing.pixels import crop_mask


def make_mask_map(masks: Sequence[Mask], size: tuple[int, int], dtype: Any = np.uint8) -> npt.NDArray[Any]:
    """An array (H, W) with 1 + the position of each pixel's mask, 0 for background.

    Where masks overlap, the smaller one wins; otherwise it could disappear behind the larger one.
    """
    numbers = np.zeros(size, dtype)
    for number, mask in sorted(enumerate(masks, start=1), key=lambda item: -item[1].area):
        paint_mask(numbers, mask, number)
    return numbers


def paint_mask(picture: npt.NDArray[Any], mask: Mask, value: int) -> None:
    """Set the pixels of a mask to a value, in place."""
    if (crop := crop_mask(mask)) is not None:
        pixels, x, y = crop
        rows, columns = pixels.shape
        picture[y : y + rows, x : x + columns][pixels] = value


def measure_kept(numbers: npt.NDArray[Any], masks: Sequence[Mask]) -> list[float]:
    """IoU of each non-empty mask with its remaining pixels in the map."""
    left = np.bincount(numbers.ravel(), minlength=len(masks) + 1)
    return [float(left[number]) / mask.area for number, mask in enumerate(masks, start=1) if mask.area]


def summarize_iou(ious: Sequence[float]) -> dict[str, Any] | None:
    """The note `iou` of a writer: {"mean", "min", "masks"}, rounded to 6 digits; None without masks."""
    if not ious:
        return None
    return {"mean": round(sum(ious) / len(ious), 6), "min": round(min(ious), 6), "masks": len(ious)}
