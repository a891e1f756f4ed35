"""An image and two sets of masks side by side."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from maskmill import Image, ImageReadError, ImageResult, Mask, Prompt, colors
from maskmill.stored.originals import OriginalImages, load_unchanged
from maskmill_plugins._shared.drawing.canvas import Canvas
from maskmill_plugins._shared.drawing.name_tags import NameTags
from maskmill_plugins._shared.drawing.pixels import encode_jpeg

#: The longer side of one panel, in pixels, and the space between two.
SIDE, GAP = 480, 8
#: Number of worst images that are shown.
WORST = 20
_GRAY = (70, 70, 70)


@dataclass(frozen=True, slots=True)
class Panel:
    """One set of masks to draw.

    Attributes:
        caption: drawn in the corner.
        masks: drawn over the image.
        tones: the colour number of each mask; matching masks have the same.
        prompts: drawn on top.
    """

    caption: str
    masks: Sequence[Mask]
    tones: Sequence[int]
    prompts: Sequence[Prompt] = ()


class WorstImages:
    """Keeps the keys with the lowest values, at most `WORST`."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []

    def add(self, value: float, key: str) -> None:
        """Add a key with its value."""
        if len(self._heap) < WORST:
            heapq.heappush(self._heap, (-value, key))
        elif value < -self._heap[0][0]:
            heapq.heapreplace(self._heap, (-value, key))

    def ranked(self) -> list[tuple[str, float]]:
        """(key, value), the worst first."""
        return [(key, -value) for value, key in sorted(self._heap, key=lambda item: (-item[0], item[1]))]


def side_by_side(originals: OriginalImages, result: ImageResult, panels: Sequence[Panel]) -> bytes:
    """A JPEG of the image and each panel; the image is gray if its file is missing or has changed."""
    pixels, note = _load_pixels(originals, result)
    drawn = [_draw_panel(pixels, Panel(note, (), ())), *(_draw_panel(pixels, panel) for panel in panels)]
    gap = np.full((drawn[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for picture in drawn for part in (picture, gap)][:-1]
    return encode_jpeg(np.ascontiguousarray(np.concatenate(parts, axis=1)), 85)


def _load_pixels(originals: OriginalImages, result: ImageResult) -> tuple[npt.NDArray[np.uint8], str]:
    try:
        image: Image = load_unchanged(result, originals.find(result.key), originals.max_pixels)
    except ImageReadError as error:
        gray: npt.NDArray[Any] = np.full((*(result.size or (SIDE, SIDE)), 3), 160, np.uint8)
        return gray, "changed since" if "has changed" in str(error) else "not found"
    return image.pixels, result.key


def _draw_panel(pixels: npt.NDArray[np.uint8], panel: Panel) -> npt.NDArray[np.uint8]:
    canvas = Canvas(pixels, SIDE, SIDE)
    pairs = sorted(zip(panel.masks, panel.tones, strict=True), key=lambda pair: -pair[0].area)
    for mask, tone in pairs:  # large ones first, so that small ones on top of them stay visible
        canvas.draw_mask(mask, colors.nth(tone))
    canvas.draw_prompts(panel.prompts)
    tags = NameTags(canvas)
    tags.add(panel.caption, _GRAY)
    for mask, tone in zip(panel.masks, panel.tones, strict=True):
        tags.add(mask.label or "", colors.nth(tone), mask)
    tags.add_legend()
    return canvas.pixels
