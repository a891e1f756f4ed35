"""From a model's numbers to pixels of the image.

Sizes are (height, width), as everywhere; boxes are x1, y1, x2, y2. Width and height have factors of
their own: a picture is seldom sent in quite its own proportions.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..reply.read import Found
from .families import Convention

#: Pixels that are sent at most: about 1,280 tokens a picture at a grid of 32.
MOST_PIXELS = 1280 * 32 * 32
#: Longer pictures are sent squeezed: Qwen refuses 200 : 1, and rounding to a grid can nearly double it.
LONGEST = 100
#: Boxes narrower than so many of the model's own units, or than a pixel, are slivers: rounding, not objects.
SLIVER = 2
#: IoU from which on two boxes of one name are one object, told twice.
SAME = 0.9

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Floats = npt.NDArray[np.float64]


def size_to_send(size: Size, coords: Convention, grid: int, most: int = MOST_PIXELS) -> Size:
    """The size to send an image at.

    Models that answer in pixels of what they got resize it to multiples of their grid first: sent
    at such a size, nothing is left for them to resize.

    Args:
        size: of the image.
        coords: what the model's numbers mean.
        grid: of the model's family.
        most: pixels.
    """
    height, width = (max(side, math.ceil(max(size) / LONGEST)) for side in size)
    scale = min(1.0, math.sqrt(most / (height * width)))
    scale = max(scale, grid / min(height, width))  # tiny pictures are refused
    step = grid if coords == "abs_sent" else 1
    steps = (height * scale / step, width * scale / step)
    rounded = [max(1, round(side)) * step for side in steps]
    if rounded[0] * rounded[1] > most:
        rounded = [max(1, math.floor(side)) * step for side in steps]
    return rounded[0], rounded[1]


def extent(coords: Convention, size: Size, sent: Size) -> tuple[float, float]:
    """What the model calls the far corner: (largest x, largest y)."""
    if coords == "rel1000":
        return 1000.0, 1000.0
    height, width = sent if coords == "abs_sent" else size
    return float(width), float(height)


def to_image(found: Iterable[Found], coords: Convention, size: Size, sent: Size) -> tuple[list[Found], Counter[str]]:
    """Objects in pixels of the image, and how many were put right or left out.

    Boxes are clipped to the image. Left out are slivers, what lies outside, and what was said
    before, as models do that fall into a loop.

    Args:
        found: as read.
        coords: what the numbers mean.
        size: of the image.
        sent: size it was sent at.
    """
    counts: Counter[str] = Counter()
    far = extent(coords, size, sent)
    scale = (size[1] / far[0], size[0] / far[1])
    told: defaultdict[tuple[str, ...], _Told] = defaultdict(_Told)
    kept: list[Found] = []
    for one in found:
        inside = _inside(one, far, counts)
        if inside is None:
            continue
        scaled = _scaled(inside, scale)
        if scaled.box is not None and min(scaled.box[2] - scaled.box[0], scaled.box[3] - scaled.box[1]) < 1:
            counts["sliver"] += 1
        elif told[one.names].before(scaled):
            counts["duplicate"] += 1
        else:
            kept.append(scaled)
    return kept, counts


def _inside(one: Found, far: tuple[float, float], counts: Counter[str]) -> Found | None:
    """The object within the image, in the model's units; None if nothing is left of it."""
    if one.box is None:
        points = tuple(p for p in one.points if 0 <= p[0] <= far[0] and 0 <= p[1] <= far[1])
        if len(points) < len(one.points):
            counts["outside"] += len(one.points) - len(points)
        return replace(one, points=points) if points else None
    x1, y1, x2, y2 = one.box
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, far[0]), min(y2, far[1]))
    if box[0] >= box[2] or box[1] >= box[3]:
        counts["outside" if x1 < x2 and y1 < y2 else "sliver"] += 1
        return None
    if min(box[2] - box[0], box[3] - box[1]) < SLIVER:
        counts["sliver"] += 1
        return None
    if box != one.box:
        counts["clipped"] += 1
    return replace(one, box=box)


def _scaled(one: Found, scale: tuple[float, float]) -> Found:
    x, y = scale
    box = None if one.box is None else (one.box[0] * x, one.box[1] * y, one.box[2] * x, one.box[3] * y)
    return replace(one, box=box, points=tuple((p[0] * x, p[1] * y, p[2]) for p in one.points))


@dataclass
class _Told:
    """Objects of one name that were told so far; quick also where a loop told thousands."""

    exactly: set[Found] = field(default_factory=set)
    boxes: Floats = field(default_factory=lambda: np.empty((16, 4)))
    count: int = 0

    def before(self, one: Found) -> bool:
        """Whether the object was told before; if not, it is now."""
        if one in self.exactly:
            return True
        if one.box is not None:
            if (_iou(self.boxes[: self.count], one.box) > SAME).any():
                return True
            if self.count == len(self.boxes):
                self.boxes = np.concatenate([self.boxes, np.empty_like(self.boxes)])
            self.boxes[self.count] = one.box
            self.count += 1
        self.exactly.add(one)
        return False


def _iou(boxes: Floats, box: Box) -> Floats:
    """Intersection over union of boxes, shape (n, 4), with one box."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, 2:], box[2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + (box[2] - box[0]) * (box[3] - box[1])
    found: Floats = shared / (areas - shared)
    return found
