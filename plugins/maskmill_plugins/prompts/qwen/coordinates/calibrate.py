"""What do a model's coordinates mean? One picture with a shape at a known place tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import numpy.typing as npt

from ..reply.read import Found
from .convert import extent
from .families import Convention

#: (height, width): so large that it is sent smaller, so long that no convention looks like another.
SIZE = (1200, 2600)
#: Of the shape, in pixels.
TRUTH = (1560.0, 660.0, 2210.0, 1020.0)
#: What the model is asked for.
SUBJECT = "red rectangle"
#: A convention fits if no side of the box is further off, in parts of the picture's side.
TOLERANCE = 0.03


def picture() -> npt.NDArray[np.uint8]:
    """A red rectangle on a plain ground, uint8 (1200, 2600, 3) RGB."""
    pixels = np.full((*SIZE, 3), (225, 228, 230), np.uint8)
    x1, y1, x2, y2 = (int(side) for side in TRUTH)
    pixels[y1:y2, x1:x2] = (200, 30, 30)
    return pixels


def fit(found: Sequence[Found], sent: tuple[int, int]) -> list[tuple[Convention, float]]:
    """Each convention with how far it puts the answer's best box from the truth, best first.

    Args:
        found: the answer, as read.
        sent: (height, width) the picture was sent at.

    Returns:
        The largest distance of a side, in parts of the picture's width or height; [] without a box.
    """
    boxes = [one.box for one in found if one.box is not None]
    if not boxes:
        return []
    height, width = SIZE
    errors: list[tuple[Convention, float]] = []
    for coords in get_args(Convention):
        far = extent(coords, SIZE, sent)
        sides = (far[0], far[1], far[0], far[1])
        truth = (TRUTH[0] / width, TRUTH[1] / height, TRUTH[2] / width, TRUTH[3] / height)
        errors.append(
            (coords, min(max(abs(b / s - t) for b, s, t in zip(box, sides, truth, strict=True)) for box in boxes))
        )
    return sorted(errors, key=lambda item: item[1])
