"""Masks of classes whose objects the ground truth does not tell apart, made one mask for each class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from pycocotools import mask as coco_mask

from maskmill import Mask


def merge_regions(masks: Sequence[Mask], labels: Collection[str]) -> list[Mask]:
    """The masks, those of each of these labels as one mask.

    It has the pixels of all, and score, prompt and number of the one with the highest score.

    Args:
        masks: of one image.
        labels: classes whose objects are not told apart; masks of other labels stay as they are.
    """
    groups: dict[str, list[Mask]] = {}
    for mask in masks:
        groups.setdefault(mask.label or "", []).append(mask)
    done: set[str] = set()
    found = []
    for mask in masks:
        label = mask.label or ""
        if label not in labels:
            found.append(mask)
        elif label not in done:
            done.add(label)
            found.append(_unite(groups[label]))
    return found


def _unite(masks: Sequence[Mask]) -> Mask:
    best = max(masks, key=lambda mask: -1 if mask.score is None else mask.score)
    merged = coco_mask.merge([mask.rle for mask in masks])
    counts = merged["counts"]
    return replace(best, counts=counts.decode("ascii") if isinstance(counts, bytes) else counts)
