"""Name tags on a picture: text on a solid background, inside the frame, without overlaps.

Text is drawn with the fonts included in OpenCV 5, which cover Latin, Chinese, Japanese, Korean,
Greek and Cyrillic, and are the same on every system. What they lack is shown by number, see `legend`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from maskmill import Mask
from maskmill.colors import Rgb, readable_on

from .canvas import Canvas, Region, blank_cover
from .legend import Legend
from .pixels import crop_mask, load_cv2

_WEIGHT = 600  # semibold
_GRAY: Rgb = (70, 70, 70)
_LONGEST = 200  # no picture has room for more, and a label may be very long


class NameTags:
    """Name tags on a canvas; the positions of earlier tags are kept free.

    Args:
        canvas: what to draw on.

    Attributes:
        legend: the numbers that stand for letters which cannot be drawn; `add_legend` draws it.
    """

    def __init__(self, canvas: Canvas) -> None:
        self._cv2: Any = load_cv2()
        self._canvas = canvas
        self._height = round(8 + max(canvas.width, canvas.height) / 80)
        self._taken: list[Region] = []
        self.legend = Legend()

    def add(self, text: str, color: Rgb, mask: Mask | None = None) -> None:
        """Draw a tag.

        Args:
            text: one line; cut off with "…" if it is wider than the picture.
            color: of the background; the text is black or white.
            mask: the mask it belongs to; None places it in the top-left corner.
        """
        self._add(self.legend.replace_letters(_make_printable(text)), color, mask)

    def add_legend(self) -> None:
        """Draw a tag for each number of the legend, in the bottom-left corner; nothing if there is none."""
        lines = list(self.legend.lines())
        step = self._height + max(3, round(0.32 * self._height)) * 2
        for row, line in enumerate(reversed(lines)):
            self._add(line, _GRAY, None, self._canvas.height - (row + 1) * step)

    def _add(self, text: str, color: Rgb, mask: Mask | None, top: int = 0) -> None:
        """Draw a tag at its mask, or at the left edge."""
        text, left, width = self._fit(text)
        if not text:
            return
        pad = max(3, round(0.32 * self._height))
        size = min(width + 2 * pad, self._canvas.width), min(self._height + 2 * pad - pad // 2, self._canvas.height)
        x, y = self._find_place(size, mask, top)
        region = (x, y, x + size[0], y + size[1])
        self._taken.append(region)
        self._canvas.blend(self._draw_plate(size, radius=pad), region, color, 1.0)
        letters = blank_cover(region)
        baseline = (size[1] + round(0.72 * self._height)) // 2  # capitals are 0.72 of the height
        self._cv2.putText(letters, text, (pad - left, baseline), (255,), *self._font())
        self._canvas.blend(letters, region, readable_on(color), 1.0)

    def _font(self) -> tuple[Any, int, int]:
        return self._cv2.FontFace("sans"), self._height, _WEIGHT

    def _fit(self, text: str) -> tuple[str, int, int]:
        """The longest prefix of the text that fits into the picture, its left edge and its width."""
        room = self._canvas.width - self._height
        shown = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
        while True:
            left, _, width, _ = self._cv2.getTextSize((0, 0), shown, (0, 0), *self._font())
            if width <= room or len(shown) < 3:
                return shown, left, width
            shown = shown.removesuffix("…")[:-1].rstrip() + "…"

    def _find_place(self, size: tuple[int, int], mask: Mask | None, top: int) -> tuple[int, int]:
        """The top-left corner of the first place that covers no other tag, or of the one that covers least."""
        width, height = size

        def covered(place: tuple[int, int]) -> int:
            mine = (*place, place[0] + width, place[1] + height)
            return sum(_overlap(mine, other) for other in self._taken)

        most = self._canvas.width - width, self._canvas.height - height
        places = [
            (max(0, min(x, most[0])), max(0, min(y, most[1]))) for x, y in self._candidate_places(size, mask, top)
        ]
        return min(places, key=covered)

    def _candidate_places(self, size: tuple[int, int], mask: Mask | None, top_left: int) -> Iterator[tuple[int, int]]:
        """Candidate places for a tag of this size, best first: above the object, on it, below it, beside it."""
        crop = crop_mask(mask) if mask else None
        if crop is None:
            yield 0, top_left
            return
        pixels, x, y = crop
        rows, columns = pixels.shape
        peak = x + float(np.mean(np.flatnonzero(pixels[0]))) + 0.5
        ends = np.array([(peak, y), (x, y), (x + columns, y + rows)], np.float32)
        (top_x, top), (left, _), (right, bottom) = np.rint(self._canvas.scale(ends)).astype(int).tolist()
        width, height = size
        gap = 2 * self._canvas.line
        above, below, center = top - height - gap, bottom + gap, (top + bottom - height) // 2
        middle = (left + right - width) // 2
        yield top_x - width // 2, above
        yield left, above
        yield right - width, above
        yield middle, center
        yield middle, below
        yield right + gap, center
        yield left - width - gap, center

    def _draw_plate(self, size: tuple[int, int], radius: int) -> npt.NDArray[np.uint8]:
        """A filled rectangle with round corners, drawn at four times the size and reduced."""
        width, height = size[0] * 4, size[1] * 4
        radius = min(radius * 4, width // 2, height // 2)
        large = np.zeros((height, width), np.uint8)
        large[radius : height - radius, :] = 255
        large[:, radius : width - radius] = 255
        for x in (radius, width - radius - 1):
            for y in (radius, height - radius - 1):
                self._cv2.circle(large, (x, y), radius, 255, -1)
        return np.asarray(self._cv2.resize(large, size, interpolation=self._cv2.INTER_AREA))


def _make_printable(text: str) -> str:
    """The text in one line, without control characters and lone surrogates, which no font can draw."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _overlap(a: Region, b: Region) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
