"""Outlines of masks along their pixel edges, and polygons for annotation formats.

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
from .ring_tree import join_many

Points = npt.NDArray[np.float32]

#: Minimum IoU of a simplified part with the exact one; thin parts are simplified less.
_MIN_IOU = 0.95
_MAX_PAIRS = 1_000_000
#: More outlines than this are joined by `join_many`.
_MANY_RINGS = 64


def trace_outlines(pixels: npt.NDArray[np.bool_], holes: bool = False) -> list[Points]:
    """The closed outlines of a mask, as float32 arrays (n, 2) of x, y.

    Vertices are the midpoints of pixel edges, which turns a slanted border into a straight
    line, and the corners where two straight sides meet. Every pixel centre is on the correct
    side of the line, so rasterising an outline restores the pixels exactly.

    Args:
        pixels: bool (H, W).
        holes: whether to include the outlines of holes.
    """
    cv2 = load_cv2()
    # OpenCV follows the centres of border pixels. In the doubled picture each of these
    # is next to one corner of an original pixel: (p + 1) // 2.
    doubled = np.repeat(np.repeat(pixels.astype(np.uint8), 2, axis=0), 2, axis=1)
    mode = cv2.RETR_CCOMP if holes else cv2.RETR_EXTERNAL
    found, _ = cv2.findContours(doubled, mode, cv2.CHAIN_APPROX_NONE)
    return [_smooth_corners((contour[:, 0] + 1) // 2) for contour in found]


def _smooth_corners(corners: npt.NDArray[Any]) -> Points:
    """Replace pixel corners by the midpoints of the steps between them, except for real corners.

    On a digital straight line one of two adjacent runs has length 1, so a corner between
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
    """A mask as polygons [x1, y1, x2, y2, ...], one per connected part, with at least 3 points each.

    Polygons cannot have holes, so holes are filled. With `tolerance` 0, rasterising the polygons
    with pycocotools restores the filled mask exactly.

    Args:
        mask: the mask; an empty one has no polygons.
        tolerance: maximum distance of a polygon from the outline in pixels (Douglas-Peucker);
            thin parts keep more points.
    """
    crop = crop_mask(mask)
    if crop is None:
        return []
    pixels, x, y = crop
    parts = [_simplify(outline, tolerance, pixels.shape) for outline in trace_outlines(pixels)]
    return [(part + np.array((x, y), np.float32)).reshape(-1).astype(float).tolist() for part in parts]


def to_rings(mask: Mask, tolerance: float = 0.5) -> list[Points]:
    """The outlines of all parts and of all holes, simplified, as float32 arrays (n, 2) of x, y, n >= 3.

    Filling them by the even-odd rule restores the mask, exactly if `tolerance` is 0.
    """
    crop = crop_mask(mask)
    if crop is None:
        return []
    pixels, x, y = crop
    found = (_simplify(outline, tolerance, pixels.shape) for outline in trace_outlines(pixels, holes=True))
    return [(ring + np.array((x, y), np.float32)).astype(np.float32) for ring in found]


def join_rings(parts: Sequence[Points]) -> Points:
    """One closed line through all outlines, float32 (n, 2), joined by bridges of zero width.

    A bridge runs back and forth along the same line, so it encloses nothing. It joins the nearest
    corners, as Ultralytics' `merge_multi_segment` does for parts; here also for holes. That takes time for
    every pair of outlines, so very many are joined in another order.
    """
    if len(parts) > _MANY_RINGS:
        return join_many(parts)
    first, *others = sorted(parts, key=lambda part: -len(part))
    line = first
    for part in others:
        here, there = _find_nearest(line, part)
        around = np.concatenate([part[there:], part[: there + 1]])
        line = np.concatenate([line[: here + 1], around, line[here:]])
    return line


def polygon_iou(mask: Mask, parts: Sequence[Sequence[float]]) -> float:
    """IoU of a mask with the union of polygons [x1, y1, x2, y2, ...] in pixels; 0 without polygons.

    pycocotools fills polygons by the even-odd rule, in the coordinates used here.
    """
    parts = [list(part) for part in parts if len(part) >= 6]
    if not parts:
        return 0.0
    filled = coco_mask.merge(coco_mask.frPyObjects(parts, *mask.size))
    return float(coco_mask.iou([mask.rle], [filled], [0])[0, 0])


def _find_nearest(a: Points, b: Points) -> tuple[int, int]:
    """The positions of the points of `a` and `b` that are nearest to each other."""
    if len(a) * len(b) > _MAX_PAIRS:  # a very ragged mask: an approximation is good enough
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
