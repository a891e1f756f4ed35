"""clip_to_box: cuts off what a mask has outside the box that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from pydantic import Field

from maskmill import Box, Filter, Image, Mask, hookimpl


class ClipToBox(Filter):
    """Keeps of a mask the pixels whose centre lies in its prompt's box, grown by a margin on each side.

    Masks of prompts without a box stay as they are. A mask of which nothing is left is dropped.
    """

    margin: float = Field(0.0, ge=0, description="added to the box on each side, in pixels")
    margin_part: float = Field(
        0.0, ge=0, le=10, description="added on each side, too: a part of the box's width (left, right) and height"
    )

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks, none with a pixel outside its grown box."""
        return [self._clipped(mask) for mask in masks]

    def _clipped(self, mask: Mask) -> Mask:
        asked, tight = None if mask.prompt is None else mask.prompt.box, mask.box
        if asked is None or tight is None:
            return mask
        x1, y1, x2, y2 = self._pixels(asked)
        if x1 <= tight.x1 and y1 <= tight.y1 and x2 >= tight.x2 and y2 >= tight.y2:
            return mask
        before = mask.array
        after = np.zeros_like(before)
        after[y1:y2, x1:x2] = before[y1:y2, x1:x2]
        return mask.with_array(after) if after.any() else mask.drop("nothing of it lies in its box")

    def _pixels(self, box: Box) -> tuple[int, int, int, int]:
        """The first column and row, and those after the last, whose centre lies in the grown box."""
        x = self.margin + self.margin_part * (box.x2 - box.x1)
        y = self.margin + self.margin_part * (box.y2 - box.y1)
        sides = (box.x1 - x, box.y1 - y, box.x2 + x, box.y2 + y)
        x1, y1, x2, y2 = (max(0, math.ceil(side - 0.5)) for side in sides)
        return x1, y1, x2, y2


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `clip_to_box`."""
    register("clip_to_box", ClipToBox)
