"""Outlines of masks along their pixel edges.

Coordinates are those of prompts: floats, origin at the image's top-left corner, so that
the pixel in row r and column c covers the square (c, r) to (c + 1, r + 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .pixels import load_cv2

Points = npt.NDArray[np.float32]
Contour = npt.NDArray[np.int32]

#: Rings of more points are not tested for crossings; that takes time for every pair.
_MAX_TESTED = 1000


def trace_outlines(pixels: npt.NDArray[np.bool_], holes: bool = False) -> list[Points]:
    """The closed outlines of a mask, as float32 arrays (n, 2) of x, y.

    Vertices are the midpoints of pixel edges, which turns a slanted border into a straight
    line, and the corners where two straight sides meet. Every pixel centre is on the correct
    side of the line, so rasterising an outline restores the pixels exactly.

    Args:
        pixels: bool (H, W).
        holes: whether to include the outlines of holes.
    """
    return [smooth_corners(to_corners(contour)) for part in find_contours(pixels, holes) for contour in part]


def find_contours(pixels: npt.NDArray[np.bool_], holes: bool) -> list[list[Contour]]:
    """The contours of each part, the outer one first, then those of its holes if asked for.

    A contour is an int32 array (n, 2) of x, y in a picture doubled in both directions: x // 2 and y // 2 are a border
    pixel, x % 2 and y % 2 say which of its quarters.

    Args:
        pixels: bool (H, W).
        holes: whether to include the contours of holes.
    """
    cv2 = load_cv2()
    doubled = np.repeat(np.repeat(pixels.astype(np.uint8), 2, axis=0), 2, axis=1)
    mode = cv2.RETR_CCOMP if holes else cv2.RETR_EXTERNAL
    found, hierarchy = cv2.findContours(doubled, mode, cv2.CHAIN_APPROX_NONE)
    parts: dict[int, list[Contour]] = {}
    for number, contour in enumerate(found):
        parent = int(hierarchy[0][number][3])
        if parent < 0:
            parts.setdefault(number, []).insert(0, contour[:, 0])
        else:
            parts.setdefault(parent, []).append(contour[:, 0])
    return list(parts.values())


def to_corners(contour: Contour) -> Contour:
    """A contour of `find_contours` as the corners of pixels that it passes, in pixels."""
    corners = (contour + 1) // 2  # each quarter of a pixel is next to one of its corners
    return corners[np.any(corners != np.roll(corners, 1, axis=0), axis=1)]


def smooth_corners(corners: Contour) -> Points:
    """Replace pixel corners by the midpoints of the steps between them, except for real corners.

    On a digital straight line one of two adjacent runs has length 1, so a corner between
    two longer runs is a corner of the object, not of the pixel grid.
    """
    steps = np.roll(corners, -1, axis=0) - corners
    before, after = np.roll(steps, 1, axis=0), np.roll(steps, -1, axis=0)

    def same(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        return np.asarray(np.all(a == b, axis=1))

    real = ~same(before, steps) & same(steps, after) & same(np.roll(steps, 2, axis=0), before)
    both = np.stack([corners, corners + steps / 2], axis=1).reshape(-1, 2)
    return both[np.stack([real, np.ones_like(real)], axis=1).reshape(-1)].astype(np.float32)


def split_rings(ring: Points) -> Iterator[Points]:
    """The rings of a closed line that passes some points twice, where parts touch at a corner.

    Args:
        ring: float32 (n, 2), in halves of a pixel.
    """
    path: list[tuple[int, int]] = []
    seen: dict[tuple[int, int], int] = {}
    for point in map(tuple, np.rint(ring * 2).astype(int).tolist()):
        if point in seen:
            loop = path[seen[point] :]
            del path[seen[point] :]
            for passed in loop:
                del seen[passed]
            if len(loop) >= 3:
                yield np.array(loop, np.float32) * np.float32(0.5)
        seen[point] = len(path)
        path.append(point)
    if len(path) >= 3:
        yield np.array(path, np.float32) * np.float32(0.5)


def has_crossings(ring: Points) -> bool:
    """Whether two sides of a ring (n, 2) that are not neighbours cross or touch; False for very many points."""
    count = len(ring)
    if count < 4 or count > _MAX_TESTED:
        return False
    starts = ring.astype(np.float64)
    ends = np.roll(starts, -1, axis=0)
    (low_x, low_y), (high_x, high_y) = np.minimum(starts, ends).T, np.maximum(starts, ends).T
    near = (low_x[:, None] <= high_x) & (low_y[:, None] <= high_y)  # of two sides, both ways: their boxes overlap
    one, other = np.nonzero(near & near.T)
    apart = (other - one > 1) & (other - one < count - 1)
    one, other = one[apart], other[apart]
    return bool(
        np.any(
            (_side(starts[one], ends[one], starts[other]) * _side(starts[one], ends[one], ends[other]) <= 0)
            & (_side(starts[other], ends[other], starts[one]) * _side(starts[other], ends[other], ends[one]) <= 0)
        )
    )


def _side(start: npt.NDArray[Any], end: npt.NDArray[Any], point: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """On which side of a line each point lies, row by row: -1, 0 or 1."""
    (x, y), (to_x, to_y) = (end - start).T, (point - start).T
    return np.asarray(np.sign(x * to_y - y * to_x))
