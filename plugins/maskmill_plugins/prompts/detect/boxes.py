"""From a model's numbers to boxes in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .merge import FloatArray

if TYPE_CHECKING:
    import torch


def to_pixels(boxes: torch.Tensor, width: float, height: float) -> FloatArray:
    """Boxes (n, 4) as center x, center y, width, height, in fractions of a frame, as corners in pixels, float64.

    Args:
        boxes: as DETR and its descendants give them.
        width: of the frame that the fractions are of, in pixels: the image, or what it was padded to.
        height: likewise.
    """
    values = boxes.double().cpu().numpy()
    center, half = values[:, :2], values[:, 2:] / 2
    corners: FloatArray = np.concatenate([center - half, center + half], axis=1) * [width, height, width, height]
    return corners


def join_passes(
    passes: Sequence[tuple[Sequence[int], FloatArray, FloatArray]], classes: int
) -> tuple[FloatArray, FloatArray]:
    """The boxes of several passes, with the scores of all classes: 0 where a class was not asked for.

    Args:
        passes: positions of the classes that were asked for, boxes (n, 4), scores (n, those classes).
        classes: how many there are.
    """
    scores = []
    for columns, _, found in passes:
        scores.append(np.zeros((len(found), classes)))
        scores[-1][:, list(columns)] = found
    return np.concatenate([boxes for _, boxes, _ in passes]), np.concatenate(scores)
