"""no_overlap: gives each pixel to one mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from maskmill import Filter, Image, Mask, hookimpl
from maskmill_plugins._shared.mask_order import order_best_first


class NoOverlap(Filter):
    """Takes from every mask the pixels that a better one has.

    A mask without a score comes after those that have one; equals go by the backend's order.
    """

    by: Literal["score", "smallest"] = Field(
        "score",
        description="which mask has a pixel: score: that with the best score; smallest: that with the fewest pixels, so"
        " that a wheel is cut out of the car and not the other way round",
    )
    min_left: float = Field(
        0.0, ge=0, le=1, description="a mask of which a smaller part is left is dropped, and takes nothing from others"
    )

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks in their order, no two of those that are kept with a pixel in common."""
        taken = np.zeros(image.size, dtype=bool)
        result = list(masks)
        order = order_best_first(masks) if self.by == "score" else order_best_first(masks, lambda mask: -mask.area)
        for number in order:
            mask = masks[number]
            pixels = mask.array
            left = pixels & ~taken
            count, area = int(np.count_nonzero(left)), int(np.count_nonzero(pixels))
            if not count or count < self.min_left * area:
                result[number] = mask.drop(f"better masks have {area - count} of its {area} pixels")
                continue
            taken |= left
            if count < area:
                result[number] = mask.with_array(left)
        return result


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `no_overlap`."""
    register("no_overlap", NoOverlap)
