"""cleanup: removes small islands, fills small holes, keeps the largest part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskmill import Filter, Image, Mask, Problem, hookimpl
from maskmill_plugins._shared.drawing.pixels import check_cv2, label_parts

BoolArray = npt.NDArray[np.bool_]


class Cleanup(Filter):
    """Removes small islands and fills small holes; pixels are connected if they touch, even at a corner.

    Holes are filled before islands are removed. A mask that becomes empty is dropped.
    """

    islands: int = Field(0, ge=0, description="remove parts of fewer pixels")
    holes: int = Field(0, ge=0, description="fill holes of fewer pixels")
    keep_largest: bool = Field(False, description="remove all parts but the largest")

    def check(self) -> list[Problem]:
        """OpenCV must load; warns if the options change nothing."""
        found = check_cv2()
        if self.islands > 1 or self.holes > 1 or self.keep_largest:
            return found
        hint = "give `islands` or `holes` in pixels, or `keep_largest: true`"
        return [*found, Problem("changes no mask", hint=hint, warning=True)]

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks, cleaned."""
        return [self._clean(mask) for mask in masks]

    def _clean(self, mask: Mask) -> Mask:
        before = mask.array
        after = fill_holes(before, self.holes)
        after = remove_islands(after, self.islands, self.keep_largest)
        if not after.any():
            return mask.drop(f"all its parts have fewer than {self.islands} pixels")
        return mask if after is before or np.array_equal(before, after) else mask.with_array(after)


def fill_holes(pixels: BoolArray, smallest: int) -> BoolArray:
    """Fill holes of fewer than `smallest` pixels (H, W); a region that touches the edge of the image is not a hole."""
    if smallest < 2:
        return pixels
    labels, areas, edge = label_parts(~pixels)
    small = areas < smallest
    small[0] = False
    small[edge] = False
    return pixels | small[labels] if small.any() else pixels


def remove_islands(pixels: BoolArray, smallest: int, largest: bool) -> BoolArray:
    """Remove parts of fewer than `smallest` pixels (H, W) and, with `largest`, all but the largest."""
    if smallest < 2 and not largest:
        return pixels
    labels, areas, _ = label_parts(pixels)
    areas[0] = 0
    keep = areas >= max(smallest, 1)
    if largest:
        keep &= np.arange(len(areas)) == areas.argmax()
    result: BoolArray = keep[labels]
    return result


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `cleanup`."""
    register("cleanup", Cleanup)
