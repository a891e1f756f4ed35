"""cleanup: removes small islands, fills small holes, keeps the largest part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskmill import Filter, Image, Mask, Problem, hookimpl
from maskmill_plugins._shared.drawing.pixels import load_cv2

BoolArray = npt.NDArray[np.bool_]


class Cleanup(Filter):
    """Tidies the pixels of masks; pixels belong together if they touch, at a corner too.

    Holes are filled before islands are looked at. A mask of which nothing is left is dropped.
    """

    islands: int = Field(0, ge=0, description="parts of fewer pixels are removed")
    holes: int = Field(0, ge=0, description="holes of fewer pixels are filled")
    keep_largest: bool = Field(False, description="remove all parts but the largest")

    def check(self) -> list[Problem]:
        """OpenCV must load; a filter that has nothing to do is worth a warning."""
        load_cv2()
        if self.islands > 1 or self.holes > 1 or self.keep_largest:
            return []
        hint = "give `islands` or `holes` in pixels, or `keep_largest: true`"
        return [Problem("changes no mask", hint=hint, warning=True)]

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks, tidied."""
        return [self._tidied(mask) for mask in masks]

    def _tidied(self, mask: Mask) -> Mask:
        before = mask.array
        after = filled(before, self.holes)
        after = without_islands(after, self.islands, self.keep_largest)
        if not after.any():
            return mask.drop(f"no part of it has {self.islands} pixels")
        return mask if after is before or np.array_equal(before, after) else mask.with_array(after)


def filled(pixels: BoolArray, least: int) -> BoolArray:
    """The pixels (H, W), holes of fewer than `least` pixels filled; what touches the image's edge is no hole."""
    if least < 2:
        return pixels
    labels, areas, edge = _parts(~pixels)
    small = areas < least
    small[0] = False
    small[edge] = False
    return pixels | small[labels] if small.any() else pixels


def without_islands(pixels: BoolArray, least: int, largest: bool) -> BoolArray:
    """The pixels (H, W) without parts of fewer than `least` pixels, of the others the largest only if so asked."""
    if least < 2 and not largest:
        return pixels
    labels, areas, _ = _parts(pixels)
    areas[0] = 0
    stays = areas >= max(least, 1)
    if largest:
        stays &= np.arange(len(areas)) == areas.argmax()
    result: BoolArray = stays[labels]
    return result


def _parts(pixels: BoolArray) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Connected parts: labels (H, W), 0 for none; pixels of each; labels of those at the edge."""
    _, labels, stats, _ = load_cv2().connectedComponentsWithStats(pixels.astype(np.uint8), connectivity=8)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return labels, stats[:, -1].copy(), edge


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `cleanup`."""
    register("cleanup", Cleanup)
