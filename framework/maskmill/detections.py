"""Masks as `supervision.Detections`, for the tools that take these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .display import import_package
from .errors import UsageError, suggest_name
from .masks import UNLABELLED, Mask


def to_supervision(
    masks: Sequence[Mask], classes: Sequence[str] | None = None, size: tuple[int, int] | None = None
) -> Any:
    """The masks as `supervision.Detections`.

    `xyxy` is float32 (n, 4), the tight boxes; `mask` bool (n, H, W); `confidence` float32 (n,), the scores (NaN
    where a mask has none; None if no mask has one); `class_id` int (n,), the place of the label in `classes`;
    `data["class_name"]` the labels ("object" for a mask without one). Empty masks are left out.

    Args:
        masks: of one image.
        classes: all labels in the order of their numbers; None takes those of `masks` in alphabetical order. Give
            them if detections of several images are to agree.
        size: (height, width) of the image, only needed if there are no masks.

    Raises:
        UsageError: the package `supervision` is not installed, or a label is not in `classes`.
    """
    supervision = import_package("supervision", "to_supervision()")
    boxes = [(mask, box) for mask in masks if (box := mask.box) is not None]
    labels = [mask.label if mask.label is not None else UNLABELLED for mask, _ in boxes]
    classes = sorted(set(labels)) if classes is None else list(classes)
    for label in labels:
        if label not in classes:
            raise UsageError(f"the label {label!r} is not in classes; {suggest_name(label, classes)}")
    height, width = boxes[0][0].size if boxes else size or (0, 0)
    scores = np.array([np.nan if mask.score is None else mask.score for mask, _ in boxes], np.float32)
    return supervision.Detections(
        xyxy=np.array([box.xyxy for _, box in boxes], np.float32).reshape(-1, 4),
        mask=np.array([mask.array for mask, _ in boxes], bool).reshape(-1, height, width),
        confidence=None if len(scores) and np.isnan(scores).all() else scores,
        class_id=np.array([classes.index(label) for label in labels], int),
        data={"class_name": np.array(labels, dtype=str)},
    )
