"""Masks as polygons for annotation formats, and what such polygons keep of a mask.

`Outline` says which line a polygon follows:

- `edges`: along the edges of the pixels, as pycocotools and shapely take polygons;
- `centres`: through the centres of the border pixels, in coordinates where the pixel in row r and column c is
  the point (c, r), as OpenCV's `fillPoly` and Pillow take polygons, which also fill the pixels under the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from maskmill import Mask

from .outlines import Points, find_contours, has_crossings, smooth_corners, split_rings, to_corners
from .pixels import crop_mask, load_cv2
from .ring_tree import join_many

Outline = Literal["edges", "centres"]
OUTLINE_MEANING = (
    "the line that polygons follow. `edges`: along the edges of the pixels, for pycocotools and shapely; `centres`:"
    " through the centres of the border pixels, for OpenCV and Pillow, which also fill the pixels under the line"
)

#: Minimum IoU of a simplified part with the exact one; thin parts are simplified less.
_MIN_IOU = 0.95
_MAX_PAIRS = 1_000_000
#: More outlines than this are joined by `join_many`.
_MANY_RINGS = 64
#: A line through a pixel lies at 0.3 and 0.48 of it: never of zero width, on the pixel both cut off and rounded.
_INSET, _SPREAD = 0.3, 0.18


def to_parts(mask: Mask, tolerance: float = 0.5, outline: Outline = "edges", holes: bool = True) -> list[list[Points]]:
    """The outlines of a mask, one list for each part: its outer ring and those of its holes.

    Rings are float32 arrays (n, 2) of x, y, n >= 3, and touch themselves nowhere. Filling them by the even-odd
    rule restores the mask, with `tolerance` 0 exactly: with pycocotools for `edges`, with OpenCV for `centres`.

    Args:
        mask: the mask; an empty one has no parts.
        tolerance: maximum distance of a ring from the outline in pixels (Douglas-Peucker); thin parts keep
            more points.
        outline: which line the rings follow.
        holes: whether to keep holes; otherwise they are filled.
    """
    crop = crop_mask(mask)
    if crop is None:
        return []
    pixels, x, y = crop
    parts = []
    for outer, *inner in find_contours(pixels, holes):
        rings = list(_make_rings(outer, outline))
        found = [[ring] for ring in rings]
        for hole in (ring for contour in inner for ring in _make_rings(contour, outline)):
            found[_find_owner(rings, hole)].append(hole)
        parts += found
    place = np.array((x, y), np.float32)
    return [[_simplify(ring, tolerance, outline, pixels.shape) + place for ring in part] for part in parts]


def to_polygons(
    mask: Mask, tolerance: float = 0.5, outline: Outline = "edges", holes: Literal["fill", "bridge"] = "fill"
) -> list[list[float]]:
    """A mask as polygons [x1, y1, x2, y2, ...], at least one for each connected part, with at least 3 points each.

    Args:
        mask: as for `to_parts`.
        tolerance: as for `to_parts`.
        outline: as for `to_parts`.
        holes: a polygon cannot have holes; they are filled, or joined with the outline by a bridge of zero width.
    """
    parts = to_parts(mask, tolerance, outline, holes == "bridge")
    return [join_rings(part).reshape(-1).astype(float).tolist() for part in parts]


def to_rings(mask: Mask, tolerance: float = 0.5, outline: Outline = "edges") -> list[Points]:
    """The outlines of all parts and of all holes, as `to_parts` gives them."""
    return [ring for part in to_parts(mask, tolerance, outline) for ring in part]


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


def polygon_iou(mask: Mask, parts: Sequence[Sequence[float]], outline: Outline = "edges") -> float:
    """IoU of a mask with the union of polygons [x1, y1, x2, y2, ...] in pixels; 0 without polygons.

    They are filled by the even-odd rule: by pycocotools for `edges`, by OpenCV for `centres`, whose coordinates
    are cut off to whole numbers.
    """
    parts = [list(part) for part in parts if len(part) >= 6]
    if not parts:
        return 0.0
    if outline == "edges":
        filled = coco_mask.merge(coco_mask.frPyObjects(parts, *mask.size))
        return float(coco_mask.iou([mask.rle], [filled], [0])[0, 0])
    points = [np.floor(np.reshape(part, (-1, 2))) for part in parts]
    box = mask.box.xyxy if mask.box is not None else (0, 0, 0, 0)
    around = np.concatenate([*points, np.reshape(box, (2, 2)) - ((0, 0), (1, 1))])
    (left, top), (right, bottom) = around.min(axis=0).astype(int), around.max(axis=0).astype(int)
    picture = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    for line in points:
        fill_through_centres(picture, line - (left, top))
    kept = 0
    if (crop := crop_mask(mask)) is not None:
        pixels, x, y = crop
        rows, columns = pixels.shape
        kept = int(np.count_nonzero(picture[y - top : y - top + rows, x - left : x - left + columns][pixels]))
    return kept / (int(np.count_nonzero(picture)) + mask.area - kept)


def fill_through_centres(picture: npt.NDArray[np.uint8], ring: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Fill a line (n, 2) of x, y with 1 by the even-odd rule, with the pixels under it, as Ultralytics does.

    Args:
        picture: uint8 (H, W); changed.
        ring: the line, whose coordinates are cut off to whole numbers.
    """
    load_cv2().fillPoly(picture, [ring.astype(np.int32)], 1)
    return picture


def _make_rings(contour: npt.NDArray[Any], outline: Outline) -> Iterator[Points]:
    """The rings of a contour of `find_contours`, without repeated points."""
    if outline == "centres":
        places = contour[:, 1].astype(np.int64) << 32 | contour[:, 0]
        _, where, counts = np.unique(places, return_inverse=True, return_counts=True)
        once = contour[counts[where.reshape(-1)] == 1]  # where parts touch at a corner, the line goes back and forth
        ring = _place_in_pixels(once)
        if len(once) == len(contour) or not has_crossings(ring):
            yield ring
        else:
            halves = split_rings(contour * np.float32(0.5))
            yield from (_place_in_pixels(np.rint(half * 2).astype(np.int32)) for half in halves)
        return
    corners = to_corners(contour)
    smooth = smooth_corners(corners)
    keeps = _area(smooth) >= _MIN_IOU * _area(corners)
    yield from split_rings(smooth if keeps else corners.astype(np.float32))  # few pixels: their squares


def _place_in_pixels(contour: npt.NDArray[Any]) -> Points:
    return np.asarray(contour // 2 + _INSET + _SPREAD * (contour % 2), np.float32)


def _find_owner(rings: Sequence[Points], hole: Points) -> int:
    """The position of the ring around a hole."""
    if len(rings) == 1:
        return 0
    cv2 = load_cv2()
    middle = hole.mean(axis=0).astype(float).tolist()
    return max(range(len(rings)), key=lambda number: cv2.pointPolygonTest(rings[number], middle, True))


def _find_nearest(a: Points, b: Points) -> tuple[int, int]:
    """The positions of the points of `a` and `b` that are nearest to each other."""
    if len(a) * len(b) > _MAX_PAIRS:  # a very ragged mask: an approximation is good enough
        b = b[:1]
    distances = np.square(a[:, None] - b[None]).sum(axis=2)
    here, there = np.unravel_index(int(distances.argmin()), distances.shape)
    return int(here), int(there)


def _simplify(ring: Points, tolerance: float, outline: Outline, size: tuple[int, ...]) -> Points:
    cv2 = load_cv2()
    exact = cv2.approxPolyDP(ring.reshape(-1, 1, 2), 0, True)[:, 0]  # drops points on straight lines
    while tolerance > 0.05:
        simple = np.asarray(cv2.approxPolyDP(ring.reshape(-1, 1, 2), tolerance, True)[:, 0])
        if len(simple) >= 3 and _is_close(simple, exact, outline, size):
            return simple
        tolerance /= 2
    return np.asarray(exact)


def _is_close(simple: Points, exact: Points, outline: Outline, size: tuple[int, ...]) -> bool:
    """Whether a simplified ring keeps enough of the exact one, and crosses itself nowhere."""
    if outline == "edges":
        if abs(_area(simple) / _area(exact) - 1) > 1 - _MIN_IOU:
            return False
        rles = coco_mask.frPyObjects([part.reshape(-1).astype(float).tolist() for part in (simple, exact)], *size)
        iou = float(coco_mask.iou(rles[:1], rles[1:], [0])[0, 0])
    else:
        first, second = (fill_through_centres(np.zeros(size, np.uint8), part) for part in (simple, exact))
        iou = np.count_nonzero(first & second) / np.count_nonzero(first | second)
    return iou >= _MIN_IOU and not has_crossings(simple)


def _area(ring: npt.NDArray[Any]) -> float:
    """The area inside a ring (n, 2), by the shoelace formula."""
    x, y = ring.astype(np.float64).T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
