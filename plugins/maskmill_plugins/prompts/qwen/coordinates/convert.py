"""From a model's coordinates to pixels of the image.

Sizes are (height, width), boxes are x1, y1, x2, y2. Width and height are scaled separately, since the
image is rarely sent in exact its own proportions.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..reply.parse import FoundObject
from .families import Convention

#: Maximum pixels sent: about 1,280 tokens per image at a grid of 32.
MAX_PIXELS = 1280 * 32 * 32
#: Longer images are sent distorted: Qwen rejects 200 : 1, and rounding to a grid can nearly double the ratio.
MAX_ASPECT_RATIO = 100
#: Boxes narrower than this many of the model's units, or than a pixel, are rounding artifacts.
MIN_SIDE = 2
#: Thousandths above 1000 that may be a slip of a model; more are of another unit.
SLIP = 10
#: Two boxes with the same name and a larger IoU are duplicates.
SAME_IOU = 0.9

Size = tuple[int, int]
Box = tuple[float, float, float, float]
Floats = npt.NDArray[np.float64]


def choose_send_size(size: Size, coords: Convention, grid: int, most: int = MAX_PIXELS) -> Size:
    """Return the size to send an image at.

    Models that answer in pixels of the image they receive first resize it to multiples of their grid;
    an image of such a size is not resized.

    Args:
        size: of the image.
        coords: what the model's coordinates mean.
        grid: of the model's family.
        most: maximum pixels.
    """
    height, width = (max(side, math.ceil(max(size) / MAX_ASPECT_RATIO)) for side in size)
    scale = min(1.0, math.sqrt(most / (height * width)))
    scale = max(scale, grid / min(height, width))  # tiny images are rejected
    step = grid if coords == "abs_sent" else 1
    steps = (height * scale / step, width * scale / step)
    rounded = [max(1, round(side)) * step for side in steps]
    if rounded[0] * rounded[1] > most:
        rounded = [max(1, math.floor(side)) * step for side in steps]
    return rounded[0], rounded[1]


def find_far_corner(coords: Convention, size: Size, sent: Size) -> tuple[float, float]:
    """Return the image's far corner in the model's coordinates: (largest x, largest y)."""
    if coords == "rel1000":
        return 1000.0, 1000.0
    height, width = sent if coords == "abs_sent" else size
    return float(width), float(height)


def find_wrong_unit(found: Iterable[FoundObject], coords: Convention, calibration: str) -> str:
    """Return why the numbers of an answer cannot be in the unit of its model, "" if they can be.

    Numbers far above 1000 are no thousandths: then the smaller ones in the same answer are none either.

    Args:
        found: all objects of the answer.
        coords: what their coordinates should mean.
        calibration: the command that finds out what they mean.
    """
    largest = max((number for one in found for number in _list_numbers(one)), default=0.0)
    if coords != "rel1000" or largest <= 1000 + SLIP:
        return ""
    return (
        f"is in another unit: its coordinates reach {largest:g}, those of this model end at 1000"
        f" (to find the right value for `coords:`, run: {calibration})"
    )


def _list_numbers(one: FoundObject) -> list[float]:
    return [*(one.box or ()), *(number for point in one.points for number in point[:2])]


def convert_to_image(
    found: Iterable[FoundObject], coords: Convention, size: Size, sent: Size
) -> tuple[list[FoundObject], Counter[str]]:
    """Return the objects in pixels of the image, and the counts of corrected and dropped objects.

    Boxes are clipped to the image. Slivers, objects outside the image or with fractions of 1 as coordinates,
    and repetitions (of models caught in a loop) are dropped.

    Args:
        found: the objects of a reply.
        coords: what their coordinates mean.
        size: of the image.
        sent: size it was sent at.
    """
    counts: Counter[str] = Counter()
    far = find_far_corner(coords, size, sent)
    scale = (size[1] / far[0], size[0] / far[1])
    seen: defaultdict[tuple[str, ...], _SeenObjects] = defaultdict(_SeenObjects)
    kept: list[FoundObject] = []
    for one in found:
        numbers = _list_numbers(one)
        if max(map(abs, numbers)) <= 1 and not all(number.is_integer() for number in numbers):
            counts["between 0 and 1"] += 1
            continue
        inside = _clip(one, far, counts)
        if inside is None:
            continue
        scaled = _scale(inside, scale)
        if scaled.box is not None and min(scaled.box[2] - scaled.box[0], scaled.box[3] - scaled.box[1]) < 1:
            counts["sliver"] += 1
        elif seen[one.names].add(scaled):
            counts["duplicate"] += 1
        else:
            kept.append(scaled)
    return kept, counts


def _clip(one: FoundObject, far: tuple[float, float], counts: Counter[str]) -> FoundObject | None:
    """Clip the object to the image, in the model's units; return None if nothing is left of it."""
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
    if min(box[2] - box[0], box[3] - box[1]) < MIN_SIDE:
        counts["sliver"] += 1
        return None
    if box != one.box:
        counts["clipped"] += 1
    return replace(one, box=box)


def _scale(one: FoundObject, scale: tuple[float, float]) -> FoundObject:
    x, y = scale
    box = None if one.box is None else (one.box[0] * x, one.box[1] * y, one.box[2] * x, one.box[3] * y)
    return replace(one, box=box, points=tuple((p[0] * x, p[1] * y, p[2]) for p in one.points))


@dataclass
class _SeenObjects:
    """The objects of one name so far; fast even for a model that repeats thousands in a loop."""

    exact: set[FoundObject] = field(default_factory=set)
    boxes: Floats = field(default_factory=lambda: np.empty((16, 4)))
    count: int = 0

    def add(self, one: FoundObject) -> bool:
        """Add the object; return whether it is a repetition."""
        if one in self.exact:
            return True
        if one.box is not None:
            if (_compute_iou(self.boxes[: self.count], one.box) > SAME_IOU).any():
                return True
            if self.count == len(self.boxes):
                self.boxes = np.concatenate([self.boxes, np.empty_like(self.boxes)])
            self.boxes[self.count] = one.box
            self.count += 1
        self.exact.add(one)
        return False


def _compute_iou(boxes: Floats, box: Box) -> Floats:
    """Return the intersection over union of boxes, shape (n, 4), with one box."""
    low = np.maximum(boxes[:, :2], box[:2])
    high = np.minimum(boxes[:, 2:], box[2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + (box[2] - box[0]) * (box[3] - box[1])
    found: Floats = shared / (areas - shared)
    return found
