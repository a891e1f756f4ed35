"""clip_to_box: removes the pixels of a mask outside its prompt's box."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from pydantic import Field

from maskmill import Box, Filter, Image, Mask, hookimpl


class ClipToBox(Filter):
    """Keeps the pixels of a mask whose centre lies in its prompt's box, extended by a margin on each side.

    Masks of prompts without a box are left unchanged. A mask that becomes empty is dropped.
    """

    margin: float = Field(0.0, ge=0, description="extends the box on each side, in pixels")
    margin_part: float = Field(
        0.0, ge=0, le=10, description="extends the box further, by a fraction of its width (left, right) and height"
    )

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks, none with a pixel outside its extended box."""
        return [self._clip(mask) for mask in masks]

    def _clip(self, mask: Mask) -> Mask:
        box, tight = None if mask.prompt is None else mask.prompt.box, mask.box
        if box is None or tight is None:
            return mask
        x1, y1, x2, y2 = self._find_pixels(box)
        if x1 <= tight.x1 and y1 <= tight.y1 and x2 >= tight.x2 and y2 >= tight.y2:
            return mask
        before = mask.array
        after = np.zeros_like(before)
        after[y1:y2, x1:x2] = before[y1:y2, x1:x2]
        return mask.with_array(after) if after.any() else mask.drop("it lies outside its box")

    def _find_pixels(self, box: Box) -> tuple[int, int, int, int]:
        """The first column and row whose centre lies in the extended box, and those after the last."""
        x = self.margin + self.margin_part * (box.x2 - box.x1)
        y = self.margin + self.margin_part * (box.y2 - box.y1)
        sides = (box.x1 - x, box.y1 - y, box.x2 + x, box.y2 + y)
        x1, y1, x2, y2 = (max(0, math.ceil(side - 0.5)) for side in sides)
        return x1, y1, x2, y2


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `clip_to_box`."""
    register("clip_to_box", ClipToBox)
