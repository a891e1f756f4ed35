"""max_per_image: keeps the best masks of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import Field

from maskmill import Filter, Image, Mask, hookimpl
from maskmill_plugins._shared.mask_order import order_best_first


class MaxPerImage(Filter):
    """Keeps the best masks of an image; masks without a score rank last, equal ones in the backend's order."""

    count: int = Field(ge=1, description="number of masks to keep")
    by: Literal["score", "area"] = Field("score", description="what to rank masks by: their score or their size")
    per_label: bool = Field(False, description="keep this number of each label")

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks in their order, those beyond the limit marked as dropped."""
        result = list(masks)
        seen: Counter[str | None] = Counter()
        order = order_best_first(masks) if self.by == "score" else order_best_first(masks, lambda mask: mask.area)
        for number in order:
            mask = masks[number]
            group = mask.label if self.per_label else None
            seen[group] += 1
            if seen[group] > self.count:
                label = f" of {group!r}" if group is not None else ""
                result[number] = mask.drop(f"rank {seen[group]}{label} by {self.by}, the limit is {self.count}")
        return result


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `max_per_image`."""
    register("max_per_image", MaxPerImage)
