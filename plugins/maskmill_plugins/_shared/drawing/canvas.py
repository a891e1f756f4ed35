"""A canvas that draws masks, boxes and points with anti-aliased edges.

Coordinates passed to a `Canvas` are pixels of the image; the canvas scales them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from maskmill import Box, Mask, Point, Prompt
from maskmill.colors import Rgb

from .outlines import Points, trace_outlines
from .pixels import crop_mask, load_cv2

_SHIFT = 4  # OpenCV takes coordinates in 1/16 pixel
_WHITE: Rgb = (255, 255, 255)
_BLACK: Rgb = (0, 0, 0)
_FOREGROUND: Rgb = (34, 177, 76)
_BACKGROUND: Rgb = (214, 48, 49)

#: Left, top, right, bottom in canvas pixels, the last two exclusive.
Region = tuple[int, int, int, int]
PolyLines = Sequence[npt.NDArray[np.int32]]


class Canvas:
    """A copy of an image to draw on; lines and text scale with its size.

    Args:
        pixels: the image, uint8 (H, W, 3) RGB; it is not changed.
        min_side: images whose longer side is smaller are enlarged to it, in pixels.
        max_side: images whose longer side is larger are reduced to it, in pixels.

    Attributes:
        pixels: the current picture, uint8 (height, width, 3) RGB.
        width: columns of `pixels`.
        height: rows of `pixels`.
        line: width of a line in canvas pixels.
    """

    def __init__(self, pixels: npt.NDArray[np.uint8], min_side: int = 1, max_side: int = 65000) -> None:
        self._cv2: Any = load_cv2()
        height, width = pixels.shape[:2]
        side = max(height, width)
        factor = min(max(side, min_side), max_side) / side
        self.width, self.height = max(1, round(width * factor)), max(1, round(height * factor))
        self.line = max(2, round(max(self.width, self.height) / 550))
        self._scale = np.array((self.width / width, self.height / height), np.float32)
        how = self._cv2.INTER_AREA if factor < 1 else self._cv2.INTER_CUBIC
        self.pixels = np.array(self._cv2.resize(pixels, (self.width, self.height), interpolation=how))

    def draw_mask(self, mask: Mask, color: Rgb, alpha: float = 0.4, outline: bool = True) -> None:
        """Fill a mask with a translucent colour and draw its outlines, including those of holes.

        Args:
            mask: a mask of the image; an empty one draws nothing.
            color: of fill and outline.
            alpha: opacity of the fill, 0..1.
            outline: whether to draw the outlines.
        """
        crop = crop_mask(mask)
        if crop is None:
            return
        pixels, x, y = crop
        offset = np.array((x, y), np.float32)
        lines = [self.scale(_smooth(line) + offset) for line in trace_outlines(pixels, holes=True)]
        region = self._region_around(np.concatenate(lines), margin=2 * self.line + 2)
        if alpha:
            self.blend(self._fill(lines, region), region, color, alpha)
        if outline:
            self._draw_lines([_to_fixed_point(line, region) for line in lines], region, color, closed=True)

    def draw_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Draw the boxes of prompts, then their points on top."""
        for prompt in prompts:
            if prompt.box is not None:
                self.draw_box(prompt.box)
        for prompt in prompts:
            for point in prompt.points:
                self.draw_point(point)

    def draw_box(self, box: Box) -> None:
        """Draw a box prompt: a dashed white line, kept inside the frame."""
        corners = np.array([(box.x1, box.y1), (box.x2, box.y1), (box.x2, box.y2), (box.x1, box.y2)], np.float32)
        corners = np.clip(self.scale(corners), 0, np.array((self.width - 1, self.height - 1), np.float32))
        region = self._region_around(corners, margin=2 * self.line + 2)
        dashes = [_to_fixed_point(dash, region) for dash in _cut_dashes(corners, 4.0 * self.line)]
        self._draw_lines(dashes, region, _WHITE, closed=False)

    def draw_point(self, point: Point) -> None:
        """Draw a point prompt: a green disc with a plus (foreground) or a red one with a minus (background)."""
        center = self.scale(np.array([(point.x, point.y)], np.float32))
        radius = 3.0 * self.line
        region = self._region_around(center, margin=round(radius) + 3)
        color = _FOREGROUND if point.label else _BACKGROUND
        for size, tone, alpha in ((radius + 2, _BLACK, 0.45), (radius + 1, _WHITE, 1.0), (radius - 1, color, 1.0)):
            cover = blank_cover(region)
            x, y = (int(value) for value in _to_fixed_point(center, region)[0])
            self._cv2.circle(cover, (x, y), round(size * (1 << _SHIFT)), 255, -1, self._cv2.LINE_AA, _SHIFT)
            self.blend(cover, region, tone, alpha)
        signs = np.array([[(-1, 0), (1, 0)], [(0, -1), (0, 1)]], np.float32) * np.float32(radius / 2)
        arms = signs if point.label else signs[:1]
        self._draw_line_layer(
            [_to_fixed_point(center + arm, region) for arm in arms], region, _WHITE, 1.0, max(1, self.line - 1), False
        )

    def blend(self, cover: npt.NDArray[np.uint8], region: Region, color: Rgb, alpha: float) -> None:
        """Blend a colour into a region, with opacity `cover` (uint8, 255 is opaque) times `alpha`."""
        x1, y1, x2, y2 = region
        below = self.pixels[y1:y2, x1:x2]
        weight = (cover.astype(np.float32) * np.float32(alpha / 255))[:, :, None]
        mixed = below + weight * (np.array(color, np.float32) - below)
        self.pixels[y1:y2, x1:x2] = (mixed + np.float32(0.5)).astype(np.uint8)

    def scale(self, points: Points) -> Points:
        """Image coordinates (n, 2) as canvas coordinates, which OpenCV measures from pixel centres."""
        return np.asarray(points * self._scale - np.float32(0.5))

    def _fill(self, lines: Sequence[Points], region: Region) -> npt.NDArray[np.uint8]:
        """The share of each pixel inside the lines, drawn at four times the size and reduced.

        OpenCV's own anti-aliased fill extends up to a pixel beyond the line.
        """
        large = (0, 0, 4 * (region[2] - region[0]), 4 * (region[3] - region[1]))
        origin = np.array(region[:2], np.float32)
        cover = blank_cover(large)
        inside = [_to_fixed_point((line - origin) * 4 + np.float32(1.5), large) for line in lines]
        self._cv2.fillPoly(cover, inside, 255, self._cv2.LINE_8, _SHIFT)
        return np.asarray(self._cv2.resize(cover, None, fx=0.25, fy=0.25, interpolation=self._cv2.INTER_AREA))

    def _draw_lines(self, lines: PolyLines, region: Region, color: Rgb, closed: bool) -> None:
        """Draw lines in a colour on top of a thin dark rim, which makes them visible on any background."""
        self._draw_line_layer(lines, region, _BLACK, 0.4, self.line + 2, closed)
        self._draw_line_layer(lines, region, color, 1.0, self.line, closed)

    def _draw_line_layer(
        self, lines: PolyLines, region: Region, color: Rgb, alpha: float, width: int, closed: bool
    ) -> None:
        cover = blank_cover(region)
        self._cv2.polylines(cover, list(lines), closed, 255, width, self._cv2.LINE_AA, _SHIFT)
        self.blend(cover, region, color, alpha)

    def _region_around(self, points: Points, margin: int) -> Region:
        """The region of the canvas around these points, at least one pixel in size."""
        low = np.floor(points.min(axis=0)).astype(int) - margin
        high = np.ceil(points.max(axis=0)).astype(int) + margin + 1
        x1, y1 = min(max(0, int(low[0])), self.width - 1), min(max(0, int(low[1])), self.height - 1)
        return x1, y1, max(x1 + 1, min(self.width, int(high[0]))), max(y1 + 1, min(self.height, int(high[1])))


def blank_cover(region: Region) -> npt.NDArray[np.uint8]:
    """An empty cover for `Canvas.blend`: zeros, uint8, of the region's size."""
    return np.zeros((region[3] - region[1], region[2] - region[0]), np.uint8)


def _to_fixed_point(points: Points, region: Region) -> npt.NDArray[np.int32]:
    """Points as OpenCV's fixed-point coordinates within a region."""
    return np.asarray(np.rint((points - np.array(region[:2], np.float32)) * (1 << _SHIFT)), dtype=np.int32)


def _smooth(line: Points) -> Points:
    """An outline smoothed by the running mean of five vertices, about two pixels in length."""
    if len(line) < 16:
        return line
    return np.asarray(sum(np.roll(line, shift, axis=0) for shift in range(-2, 3)) / np.float32(5))


def _cut_dashes(corners: Points, length: float) -> list[Points]:
    """A closed line cut into dashes of about this length, with one at every corner."""
    dashes = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        count = max(1, round(float(np.hypot(*(end - start))) / (2 * length)))
        for number in range(count + 1):
            ends = np.clip(np.array([number - 0.25, number + 0.25]) / count, 0, 1)[:, None]
            dashes.append((start + (end - start) * ends).astype(np.float32))
    return dashes
