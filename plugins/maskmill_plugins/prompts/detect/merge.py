"""One box for each object: non-maximum suppression across labels and across tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
#: Share of a window's side within which a box that reaches its border counts as cut off by it.
BORDER = 0.01


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes that a detector found, in any window of an image.

    Attributes:
        boxes: (n, 4) float64, left, top, right, bottom in pixels of the image.
        scores: (n,) float64, from 0 to 1.
        classes: (n,) int64, which class.
        windows: (n, 4) float64, the window in which each was found, as `boxes`.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: npt.NDArray[np.int64]
    windows: FloatArray

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, order: npt.NDArray[np.int64]) -> Candidates:
        """Those at these positions, in this order."""
        return Candidates(self.boxes[order], self.scores[order], self.classes[order], self.windows[order])

    def best_first(self) -> Candidates:
        """Ordered by descending score; equal ones stay in their order."""
        return self.take(np.argsort(-self.scores, kind="stable"))


@dataclass(frozen=True, slots=True)
class Conflict:
    """A box that was left out because a better one with another class covers the same object.

    Attributes:
        box: (4,) of the better one.
        kept: class and score of the better one.
        left_out: class and score of the other.
        overlap: IoU of the two.
    """

    box: FloatArray
    kept: tuple[int, float]
    left_out: tuple[int, float]
    overlap: float


def merge(found: Candidates, size: tuple[int, int], most: float) -> tuple[Candidates, list[Conflict]]:
    """Keep the best of the boxes that overlap by more than `most`, whatever their classes.

    A box that ends at the border of a tile shows a part of an object. It is compared with a box of its class from
    another window only within what both windows show, and two such parts become one box around both.

    Args:
        found: in any order.
        size: (height, width) of the image.
        most: IoU above which two boxes are taken for one object.

    Returns:
        What is kept, the best first, and what was left out under another class.
    """
    conflicts: list[Conflict] = []
    while True:
        kept, grew = _merge_once(found.best_first(), size, most, conflicts)
        if not grew:
            return kept.best_first(), conflicts
        found = kept


def _merge_once(
    found: Candidates, size: tuple[int, int], most: float, conflicts: list[Conflict]
) -> tuple[Candidates, bool]:
    """One round, and whether a kept box grew, so that it may overlap others now."""
    kept = replace(found, boxes=found.boxes.copy(), windows=found.windows.copy())
    cut = find_cut(found.boxes, found.windows, size)
    places: list[int] = []
    grew = False
    for index in range(len(found)):
        before = np.array(places, dtype=np.int64)
        same = found.classes[before] == found.classes[index]
        plain = compute_iou(np.broadcast_to(kept.boxes[index], (len(before), 4)), kept.boxes[before])
        overlap = np.where(same, compare_parts(kept, cut, index, before), plain)
        ranked = np.where(same, overlap + 1.0, overlap)  # one of its own class comes first
        ranked[overlap <= most] = 0.0
        if not ranked.any():
            places.append(index)
            continue
        place = places[int(ranked.argmax())]
        if found.classes[place] != found.classes[index]:
            pair = [(int(found.classes[at]), float(found.scores[at])) for at in (place, index)]
            conflicts.append(Conflict(kept.boxes[place].copy(), pair[0], pair[1], float(ranked.max())))
        elif cut[place]:
            grew = _complete(kept, cut, place, index, size) or grew
    return kept.take(np.array(places, dtype=np.int64)), grew


def _complete(kept: Candidates, cut: npt.NDArray[np.bool_], place: int, index: int, size: tuple[int, int]) -> bool:
    """Let a part of an object take over the whole, or what another part shows; whether it grew."""
    before = kept.boxes[place].copy()
    for array in (kept.boxes, kept.windows):
        one, other = array[place], array[index]
        joined = np.concatenate([np.minimum(one[:2], other[:2]), np.maximum(one[2:], other[2:])])
        array[place] = joined if cut[index] else other
    cut[place] = find_cut(kept.boxes[place : place + 1], kept.windows[place : place + 1], size)[0]
    return not np.array_equal(kept.boxes[place], before)


def find_cut(boxes: FloatArray, windows: FloatArray, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(n,) whether each box ends at a border of its window that is not one of the image."""
    height, width = size
    near = BORDER * np.tile(windows[:, 2:] - windows[:, :2], 2)
    inside = windows != np.array([0, 0, width, height])
    touched: npt.NDArray[np.bool_] = (inside & (np.abs(boxes - windows) <= near)).any(axis=1)
    return touched


def compare_parts(
    found: Candidates, cut: npt.NDArray[np.bool_], index: int, others: npt.NDArray[np.int64]
) -> FloatArray:
    """(n,) IoU of one box with others; where one of both is cut, within what both windows show."""
    box, window = found.boxes[index], found.windows[index]
    boxes, windows = found.boxes[others], found.windows[others]
    shared = np.concatenate([np.maximum(window[:2], windows[:, :2]), np.minimum(window[2:], windows[:, 2:])], axis=1)
    whole = ~(cut[others] | cut[index])
    shared[whole] = [-np.inf, -np.inf, np.inf, np.inf]
    return compute_iou(_clip(np.broadcast_to(box, boxes.shape), shared), _clip(boxes, shared))


def _clip(boxes: FloatArray, windows: FloatArray) -> FloatArray:
    corners = [np.maximum(boxes[:, :2], windows[:, :2]), np.minimum(boxes[:, 2:], windows[:, 2:])]
    return np.concatenate(corners, axis=1)


def compute_iou(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """IoU of each box with that of the same row, both (n, 4): (n,); 0 where there is nothing."""
    shared = _area(_clip(boxes, others))
    total = _area(boxes) + _area(others) - shared
    iou: FloatArray = np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)
    return iou


def _area(boxes: FloatArray) -> FloatArray:
    area: FloatArray = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
    return area
