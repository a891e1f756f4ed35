"""The boundary measure F of DAVIS.

Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation, CVPR 2016,
section 4: precision and recall of contour pixels; a pixel counts as found if a pixel of the other contour
is within 0.8 % of the image's diagonal. Implemented as in the authors' code (davis-evaluation,
`db_eval_boundary`), but with an exact distance transform instead of dilation with a disc, and only around
the two objects.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from maskmill import Mask
from maskmill_plugins._shared.drawing.pixels import load_cv2

TOLERANCE = 0.008


def boundary_f(found: Mask, true: Mask, tolerance: float = TOLERANCE) -> float:
    """F of a mask's boundary compared with the true one, 0..1.

    Args:
        found: the mask.
        true: the true mask, of the same size.
        tolerance: as a fraction of the image's diagonal, at least one pixel.
    """
    if found.counts == true.counts:
        return 1.0
    radius = math.ceil(tolerance * math.hypot(*true.size))
    window = _window(found, true, radius + 2)
    if window is None:
        return 1.0  # both masks are empty
    # crop first, because the frame may be large
    a, b = (find_contour(np.ascontiguousarray(coco_mask.decode(mask.rle)[window], np.bool_)) for mask in (found, true))
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    precision = _share_within(a, b, radius)
    recall = _share_within(b, a, radius)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def find_contour(pixels: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels whose right, lower or lower right neighbour differs, bool (H, W); the authors' `seg2bmap`."""
    right, below, both = pixels.copy(), pixels.copy(), pixels.copy()
    right[:, :-1] = pixels[:, 1:]
    below[:-1] = pixels[1:]
    both[:-1, :-1] = pixels[1:, 1:]
    edge = (pixels ^ right) | (pixels ^ below) | (pixels ^ both)
    edge[-1] = pixels[-1] ^ right[-1]
    edge[:, -1] = pixels[:, -1] ^ below[:, -1]
    edge[-1, -1] = False
    return np.asarray(edge)


def _window(a: Mask, b: Mask, margin: int) -> tuple[slice, slice] | None:
    boxes = [box for box in (a.box, b.box) if box is not None]
    if not boxes:
        return None
    top, left = min(int(box.y1) for box in boxes), min(int(box.x1) for box in boxes)
    bottom, right = max(int(box.y2) for box in boxes), max(int(box.x2) for box in boxes)
    return (
        slice(max(0, top - margin), min(a.size[0], bottom + margin)),
        slice(max(0, left - margin), min(a.size[1], right + margin)),
    )


def _share_within(of: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], radius: int) -> float:
    """The share of one contour's pixels within the radius of the other contour."""
    cv2 = load_cv2()
    distance = cv2.distanceTransform((~other).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(np.count_nonzero(distance[of] <= radius + 1e-3) / np.count_nonzero(of))
