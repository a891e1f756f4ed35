"""Outlines of masks along the edges of their pixels, and the polygons of annotation formats.

Coordinates are those of prompts: floats, origin at the image's top-left corner, so that
the pixel in row r and column c covers the square (c, r) to (c + 1, r + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from maskmill import Mask

from .pixels import crop_mask, load_cv2

Points = npt.NDArray[np.float32]

#: A simplified part must overlap the exact one this well; thin parts are simplified less.
_MIN_IOU = 0.95
_MAX_PAIRS = 1_000_000


def trace_outlines(pixels: npt.NDArray[np.bool_], holes: bool = False) -> list[Points]:
    """The closed outlines of a mask, as float32 arrays (n, 2) of x, y.

    Vertices are the midpoints of pixel edges, which makes a slanted border a straight
    line, and the corners where two straight sides meet. Every pixel's centre lies on
    the right side of the line, so rasterising an outline gives back the pixels exactly.

    Args:
        pixels: bool (H, W).
        holes: also the outlines of holes; otherwise holes are ignored.
    """
    cv2 = load_cv2()
    # OpenCV walks through the centres of border pixels. In the doubled picture each of
    # these lies next to one corner of an original pixel: (p + 1) // 2.
    doubled = np.repeat(np.repeat(pixels.astype(np.uint8), 2, axis=0), 2, axis=1)
    mode = cv2.RETR_CCOMP if holes else cv2.RETR_EXTERNAL
    found, _ = cv2.findContours(doubled, mode, cv2.CHAIN_APPROX_NONE)
    return [_smooth_corners((contour[:, 0] + 1) // 2) for contour in found]


def _smooth_corners(corners: npt.NDArray[Any]) -> Points:
    """Midpoints of the unit steps between pixel corners, and the corners that are real.

    On a digital straight line one of two adjoining runs has length 1, so a corner between
    two longer runs is a corner of the object, not of the pixel grid.
    """
    corners = corners[np.any(corners != np.roll(corners, 1, axis=0), axis=1)]
    steps = np.roll(corners, -1, axis=0) - corners
    before, after = np.roll(steps, 1, axis=0), np.roll(steps, -1, axis=0)

    def same(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return np.asarray(np.all(a == b, axis=1))

    real = ~same(before, steps) & same(steps, after) & same(np.roll(steps, 2, axis=0), before)
    both = np.stack([corners, corners + steps / 2], axis=1).reshape(-1, 2)
    return both[np.stack([real, np.ones_like(real)], axis=1).reshape(-1)].astype(np.float32)


def to_polygons(mask: Mask, tolerance: float = 0.5) -> list[list[float]]:
    """A mask as polygons [x1, y1, x2, y2, ...], one for each separate part, at least 3 points each.

    Polygons cannot have holes: holes are filled. With `tolerance` 0 rasterising the polygons
    with pycocotools gives the filled mask exactly.

    Args:
        mask: the mask; an empty one has no polygons.
        tolerance: how far a polygon may leave the outline, in pixels (Douglas-Peucker);
            parts so thin that they would suffer from it keep more points.
    """
    crop = crop_mask(mask)
    if crop is None:
        return []
    pixels, x, y = crop
    parts = [_simplify(outline, tolerance, pixels.shape) for outline in trace_outlines(pixels)]
    return [(part + np.array((x, y), np.float32)).reshape(-1).astype(float).tolist() for part in parts]


def to_rings(mask: Mask, tolerance: float = 0.5) -> list[Points]:
    """The outlines of all parts and of all holes, simplified, as float32 arrays (n, 2) of x, y, n >= 3.

    Filled by the even-odd rule they give the mask, exactly with `tolerance` 0.
    """
    crop = crop_mask(mask)
    if crop is None:
        return []
    pixels, x, y = crop
    found = (_simplify(outline, tolerance, pixels.shape) for outline in trace_outlines(pixels, holes=True))
    return [(ring + np.array((x, y), np.float32)).astype(np.float32) for ring in found]


def join_rings(parts: Sequence[Points]) -> Points:
    """One closed line through all outlines, float32 (n, 2): each is tied to the others by a bridge without width.

    A bridge runs there and back along the same line, so that it encloses nothing. It joins the
    nearest corners, as Ultralytics' `merge_multi_segment` does for parts, here for holes too.
    """
    first, *others = sorted(parts, key=lambda part: -len(part))
    line = first
    for part in others:
        here, there = _find_nearest(line, part)
        around = np.concatenate([part[there:], part[: there + 1]])
        line = np.concatenate([line[: here + 1], around, line[here:]])
    return line


def polygon_iou(mask: Mask, parts: Sequence[Sequence[float]]) -> float:
    """IoU of a mask with the union of polygons [x1, y1, x2, y2, ...] in pixels, 0 where there is none."""
    parts = [list(part) for part in parts if len(part) >= 6]
    if not parts:
        return 0.0
    filled = coco_mask.merge(coco_mask.frPyObjects(parts, *mask.size))
    return float(coco_mask.iou([mask.rle], [filled], [0])[0, 0])


def _find_nearest(a: Points, b: Points) -> tuple[int, int]:
    """Numbers of the points of `a` and `b` that are nearest to each other."""
    if len(a) * len(b) > _MAX_PAIRS:  # a ragged mask: near enough is good enough
        b = b[:1]
    distances = np.square(a[:, None] - b[None]).sum(axis=2)
    here, there = np.unravel_index(int(distances.argmin()), distances.shape)
    return int(here), int(there)


def _simplify(outline: Points, tolerance: float, size: tuple[int, ...]) -> Points:
    cv2 = load_cv2()
    exact = cv2.approxPolyDP(outline.reshape(-1, 1, 2), 0, True)[:, 0]  # drops points on straight lines
    while tolerance > 0.05:
        simple = cv2.approxPolyDP(outline.reshape(-1, 1, 2), tolerance, True)[:, 0]
        if len(simple) >= 3 and _iou(simple, exact, size) >= _MIN_IOU:
            return np.asarray(simple)
        tolerance /= 2
    return np.asarray(exact)


def _iou(a: Points, b: Points, size: tuple[int, ...]) -> float:
    rles = coco_mask.frPyObjects([part.reshape(-1).astype(float).tolist() for part in (a, b)], *size)
    return float(coco_mask.iou(rles[:1], rles[1:], [0])[0, 0])
