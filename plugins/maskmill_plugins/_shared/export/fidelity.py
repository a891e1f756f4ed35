"""What a format loses: the mask against what a reader of the file gets back.

The measure is the intersection over union of the two. Polygons are filled with pycocotools,
which takes coordinates as they are meant here (the pixel in row r and column c is the square
from (c, r) to (c + 1, r + 1)) and fills by the even-odd rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pycocotools import mask as coco_mask

from maskmill import Mask

MIN_NUMBERS = 6


def polygon_iou(mask: Mask, parts: Sequence[Sequence[float]]) -> float:
    """IoU of a mask with the union of polygons [x1, y1, x2, y2, ...] in pixels, 0 where there is none."""
    parts = [list(part) for part in parts if len(part) >= MIN_NUMBERS]
    if not parts:
        return 0.0
    filled = coco_mask.merge(coco_mask.frPyObjects(parts, *mask.size))
    return float(coco_mask.iou([mask.rle], [filled], [0])[0, 0])


def summary(ious: Sequence[float]) -> dict[str, Any] | None:
    """What a writer notes as `iou`: {"mean", "min", "masks"}, rounded to 6 digits; None without masks."""
    if not ious:
        return None
    return {"mean": round(sum(ious) / len(ious), 6), "min": round(min(ious), 6), "masks": len(ious)}
