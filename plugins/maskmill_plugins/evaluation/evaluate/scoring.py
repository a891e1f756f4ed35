"""Scores of an image's masks: which mask matches which true object, how well, and what is unmatched; with totals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from maskmill import Mask, Prompt
from maskmill.stored.explain import describe_kind
from maskmill_plugins._shared.pairing import pair_by_overlap

from ..pairing import How, pair_by_key
from ..truth.objects import Kind, TrueImage, TrueObject
from .boundary import boundary_f

#: Minimum IoU of a prompt's box with an object's box for the prompt to refer to the object.
SAME_BOX = 0.5
SIZES = ("small", "medium", "large")
#: Minimum IoU for an object to count as found well.
GOOD = 0.5
#: Bins of the histogram of IoU.
BINS = 20


@dataclass(frozen=True, slots=True)
class ObjectScore:
    """The result for one true object.

    Attributes:
        true: the object.
        mask: `Mask.index` of the matching mask, None if there is none.
        how: how the two were matched.
        kind: kind of the mask's prompt, "missed" without a mask.
        iou: intersection over union, of boxes if only boxes are known; 0 if missed.
        boundary: the boundary measure F; 0 if missed, None if only boxes are known.
        found_as: of an object with a lower IoU than `GOOD`, the label of a mask that matches nothing and covers it, so
            that only the class is wrong; None if there is none.
    """

    true: TrueObject
    mask: int | None
    how: How | None
    kind: str
    iou: float
    boundary: float | None
    found_as: str | None = None


@dataclass(frozen=True, slots=True)
class ImageScore:
    """The result for one image.

    Attributes:
        key: key of the image.
        name: its name in the ground truth.
        scores: of its objects, without crowds.
        extra: `Mask.index` of the masks that match no object and are in no crowd.
    """

    key: str
    name: str
    scores: tuple[ObjectScore, ...]
    extra: tuple[int, ...]

    @property
    def iou(self) -> float | None:
        """The mean over its objects, None if there are none."""
        return float(np.mean([score.iou for score in self.scores])) if self.scores else None


def hide_ignored(masks: Sequence[Mask], image: TrueImage, kind: Kind) -> list[Mask]:
    """The masks that count, without the pixels that have no ground truth.

    A mask counts as nothing, neither found nor extra, if it lies wholly on pixels without ground truth and in
    crowds of any class, unless it is a good answer (IoU 0.5) to an object there.
    """
    crowds = [image.mask(true).array for true in image.objects if true.crowd]
    if image.void is None and not crowds:
        return list(masks)
    void = np.zeros(image.size, np.bool_) if image.void is None else Mask(image.size, image.void).array
    ignored = np.logical_or.reduce([void, *crowds])
    visible = list(masks) if image.void is None else [mask.with_array(mask.array & ~void) for mask in masks]
    on_object = measure_overlaps(visible, [true for true in image.objects if not true.crowd], image, kind) >= GOOD
    return [
        mask
        for number, mask in enumerate(visible)
        if not masks[number].area or on_object[number].any() or (mask.array & ~ignored).any()
    ]


def score_image(key: str, masks: Sequence[Mask], image: TrueImage, kind: Kind, by_class: bool) -> ImageScore:
    """Score one image.

    A mask first matches the object whose id equals its prompt's `ref`, if the prompt is on the object (ids
    of two files may be equal by chance). The rest are matched greedily by overlap, within a class if
    classes count.

    Args:
        key: the image's key in the run.
        masks: the kept masks, as returned by `hide_ignored`.
        image: its ground truth.
        kind: whether masks or boxes are compared.
        by_class: whether a mask matched by overlap must have the object's class.
    """
    objects = [true for true in image.objects if not true.crowd]
    overlap = measure_overlaps(masks, objects, image, kind)
    pairs: dict[int, tuple[int, How]] = {}
    refs = [mask.prompt.ref if mask.prompt else None for mask in masks]
    for n, m in pair_by_key([true.ref for true in objects], refs):
        if _is_about(masks[m].prompt, objects[n]):
            pairs[n] = (m, "id")
    allowed = np.ones(overlap.shape, np.bool_)
    if by_class:
        allowed = np.array([[mask.label == true.label for true in objects] for mask in masks], np.bool_).reshape(
            overlap.shape
        )
    allowed[[m for m, _ in pairs.values()]] = False
    allowed[:, list(pairs)] = False
    for m, n, _ in pair_by_overlap(overlap, allowed):
        pairs[n] = (m, "overlap")
    scores = tuple(
        _score_object(true, masks, pairs.get(n), overlap[:, n], image, kind) for n, true in enumerate(objects)
    )
    taken = {m for m, _ in pairs.values()}
    scores = tuple(_find_confusion(each, masks, overlap[:, n], taken) for n, each in enumerate(scores))
    free = [mask for number, mask in enumerate(masks) if number not in taken]
    extra = (mask.index for mask, ignored in zip(free, _are_in_crowds(free, image, kind), strict=True) if not ignored)
    return ImageScore(key, image.name, scores, tuple(extra))


def _is_about(prompt: Prompt | None, true: TrueObject) -> bool:
    """Whether a prompt may refer to this object: its box is similar to the object's, or its points are inside."""
    if prompt is None:
        return False
    x, y, width, height = true.box
    if prompt.box is not None:
        box = prompt.box
        mine = [[box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1]]
        return bool(coco_mask.iou(np.array(mine), np.array([true.box], np.float64), [0])[0, 0] >= SAME_BOX)
    ons = [point for point in prompt.points if point.label]
    return all(x - 1 <= point.x <= x + width + 1 and y - 1 <= point.y <= y + height + 1 for point in ons)


def measure_overlaps(
    masks: Sequence[Mask], objects: Sequence[TrueObject], image: TrueImage, kind: Kind, crowd: bool = False
) -> npt.NDArray[np.float64]:
    """IoU of masks with objects, float64 (len(masks), len(objects)); with `crowd` the share of the mask inside."""
    if not masks or not objects:
        return np.zeros((len(masks), len(objects)))
    flags = [int(crowd)] * len(objects)
    if kind == "mask":
        found = coco_mask.iou([mask.rle for mask in masks], [image.mask(true).rle for true in objects], flags)
    else:
        boxes = np.array([coco_mask.toBbox(mask.rle) for mask in masks], np.float64)
        found = coco_mask.iou(boxes, np.array([true.box for true in objects], np.float64), flags)
    return np.asarray(found, dtype=np.float64)


def _score_object(
    true: TrueObject,
    masks: Sequence[Mask],
    pair: tuple[int, How] | None,
    overlap: npt.NDArray[np.float64],
    image: TrueImage,
    kind: Kind,
) -> ObjectScore:
    if pair is None:
        return ObjectScore(true, None, None, "missed", 0.0, 0.0 if kind == "mask" else None)
    number, how = pair
    mask = masks[number]
    boundary = boundary_f(replace(mask, prompt=None), image.mask(true)) if kind == "mask" else None
    return ObjectScore(true, mask.index, how, describe_kind(mask.prompt), float(overlap[number]), boundary)


def _find_confusion(
    score: ObjectScore, masks: Sequence[Mask], overlap: npt.NDArray[np.float64], taken: Collection[int]
) -> ObjectScore:
    """The score of a poorly found object with the label of the free mask that covers it best, if any does well."""
    if score.iou >= GOOD:
        return score
    good = [(overlap[n], n) for n in range(len(masks)) if n not in taken and overlap[n] >= GOOD]
    return replace(score, found_as=masks[max(good)[1]].label or "") if good else score


def _are_in_crowds(masks: Sequence[Mask], image: TrueImage, kind: Kind) -> list[bool]:
    """Whether each mask is mostly inside a crowd."""
    inside = measure_overlaps(masks, [true for true in image.objects if true.crowd], image, kind, crowd=True)
    return [bool(each.size and each.max() > 0.5) for each in inside]


@dataclass
class GroupTotals:
    """Sums over the objects of a group."""

    objects: int = 0
    answered: int = 0
    good: int = 0
    iou: float = 0.0
    boundary: float | None = 0.0

    def add(self, score: ObjectScore) -> None:
        """Add an object."""
        self.objects += 1
        self.answered += score.mask is not None
        self.good += score.iou >= GOOD
        self.iou += score.iou
        self.boundary = None if self.boundary is None or score.boundary is None else self.boundary + score.boundary

    def means(self) -> dict[str, Any]:
        """Counts, mean IoU and mean boundary F; missed objects count as 0."""
        count = max(self.objects, 1)
        return {
            "objects": self.objects,
            "answered": self.answered,
            "iou_50": self.good,
            "mean_iou": self.iou / count if self.objects else None,
            "mean_boundary_f": self.boundary / count if self.objects and self.boundary is not None else None,
        }


@dataclass
class ScoreTotals:
    """Totals of all objects, and by class, size and kind of prompt.

    Attributes:
        all: of all objects.
        ways: number of objects matched by "id", by "overlap", and "missed".
        extra: number of masks that match no object.
        histogram: number of objects by IoU, in bins of equal width from 0 to 1.
        confusions: number of objects by (their label, that of the mask of another class that covers them).
    """

    all: GroupTotals = field(default_factory=GroupTotals)
    ways: dict[str, int] = field(default_factory=lambda: {"id": 0, "overlap": 0, "missed": 0})
    extra: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)
    confusions: Counter[tuple[str, str]] = field(default_factory=Counter)
    _groups: dict[str, dict[str, GroupTotals]] = field(
        default_factory=lambda: {"class": {}, "size": {size: GroupTotals() for size in SIZES}, "prompt": {}}
    )

    def add(self, image: ImageScore) -> None:
        """Add an image."""
        self.extra += len(image.extra)
        for score in image.scores:
            self.all.add(score)
            self.ways[score.how or "missed"] += 1
            self.histogram[min(int(score.iou * BINS), BINS - 1)] += 1
            if score.found_as is not None:
                self.confusions[score.true.label, score.found_as] += 1
            for group, name in (("class", score.true.label), ("size", score.true.size), ("prompt", score.kind)):
                self._groups[group].setdefault(name, GroupTotals()).add(score)

    def groups(self) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
        """(criterion, means by name) of each criterion, names with most objects first; sizes in their order."""
        for group, tallies in self._groups.items():
            order = (
                list(tallies) if group == "size" else sorted(tallies, key=lambda name: (-tallies[name].objects, name))
            )
            yield group, {name: tallies[name].means() for name in order if tallies[name].objects}
