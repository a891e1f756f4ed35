"""no_overlap: assigns each pixel to one mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from maskmill import Filter, Image, Mask, hookimpl
from maskmill_plugins._shared.mask_order import order_best_first


class NoOverlap(Filter):
    """Removes from every mask the pixels of better ones.

    Masks without a score rank last, equal ones in the backend's order.
    """

    by: Literal["score", "smallest"] = Field(
        "score",
        description="which mask gets a pixel: score: the one with the best score; smallest: the one with the fewest"
        " pixels, so that a wheel is cut out of the car and not the other way round",
    )
    min_left: float = Field(
        0.0,
        ge=0,
        le=1,
        description="drop a mask if a smaller fraction of it is left; it then takes no pixels from others",
    )

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks in their order; those that are kept have no pixel in common."""
        taken = np.zeros(image.size, dtype=bool)
        result = list(masks)
        order = order_best_first(masks) if self.by == "score" else order_best_first(masks, lambda mask: -mask.area)
        for number in order:
            mask = masks[number]
            pixels = mask.array
            left = pixels & ~taken
            count, area = int(np.count_nonzero(left)), int(np.count_nonzero(pixels))
            if not count or count < self.min_left * area:
                result[number] = mask.drop(f"better masks cover {area - count} of its {area} pixels")
                continue
            taken |= left
            if count < area:
                result[number] = mask.with_array(left)
        return result


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `no_overlap`."""
    register("no_overlap", NoOverlap)
