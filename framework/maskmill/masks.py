"""Masks: the pixels of an object, stored in COCO run-length encoding.

Mask arrays are bool (H, W), indexed [row, column], of the upright original image.
The run-length encoding is COCO's (column-major, compressed counts), by pycocotools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from .prompts import Box, Prompt

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask of one image.

    Attributes:
        size: (height, width) of the image in pixels.
        counts: COCO compressed RLE counts, ASCII.
        score: the model's predicted IoU (or the backend's substitute for it), 0..1, or None.
        stability: SAM's stability score, 0..1, or None.
        prompt: the prompt it answers.
        index: its number among the masks the backend made of this image; set by the
            framework and kept by filters, also when they change the pixels.
        dropped_by: the filter that dropped it, None if it is kept.
        reason: why it was dropped, in words, or None.
        changed_by: the filters that changed its pixels or its label, in their order.
    """

    size: tuple[int, int]
    counts: str
    score: float | None = None
    stability: float | None = None
    prompt: Prompt | None = None
    index: int = -1
    dropped_by: str | None = None
    reason: str | None = None
    changed_by: tuple[str, ...] = ()

    @classmethod
    def from_array(
        cls,
        array: npt.NDArray[Any],
        *,
        score: float | None = None,
        stability: float | None = None,
        prompt: Prompt | None = None,
    ) -> Mask:
        """Encode a bool (or 0/1) array of shape (H, W).

        Raises:
            ValueError: the array does not have two dimensions.
        """
        if array.ndim != 2:
            raise ValueError(f"expected a mask array of shape (H, W), not {array.shape}")
        rle = coco_mask.encode(np.asfortranarray(array, dtype=np.uint8))
        height, width = array.shape
        counts = bytes(rle["counts"]).decode("ascii")
        return cls((height, width), counts, score=score, stability=stability, prompt=prompt)

    @property
    def rle(self) -> dict[str, Any]:
        """The mask in COCO's format: {"size": [height, width], "counts": text}."""
        return {"size": list(self.size), "counts": self.counts}

    @property
    def array(self) -> BoolArray:
        """The pixels, bool (H, W); decoded at each access, so keep the array if you need it twice."""
        return np.ascontiguousarray(coco_mask.decode(self.rle), dtype=np.bool_)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(coco_mask.area(self.rle))

    @property
    def box(self) -> Box | None:
        """The tight box xyxy around the pixels (right and bottom edge exclusive), None if empty."""
        x, y, width, height = (float(v) for v in coco_mask.toBbox(self.rle))
        return Box(x, y, x + width, y + height) if width and height else None

    @property
    def label(self) -> str | None:
        """The class name of its prompt, if any."""
        return self.prompt.label if self.prompt else None

    @property
    def kept(self) -> bool:
        """False once a filter has dropped it."""
        return self.dropped_by is None

    def drop(self, reason: str) -> Mask:
        """This mask marked as dropped, for a filter to return; the framework sets `dropped_by`."""
        return replace(self, reason=reason)

    def with_array(self, array: npt.NDArray[Any]) -> Mask:
        """This mask with other pixels (bool (H, W)) and everything else kept."""
        other = Mask.from_array(array)
        return replace(self, size=other.size, counts=other.counts)

    def to_json(self) -> dict[str, Any]:
        """Plain data; fields that are None are left out."""
        out: dict[str, Any] = {"index": self.index, "rle": self.rle}
        for name in ("score", "stability", "dropped_by", "reason"):
            if (value := getattr(self, name)) is not None:
                out[name] = value
        if self.changed_by:
            out["changed_by"] = list(self.changed_by)
        if self.prompt is not None:
            out["prompt"] = self.prompt.to_json()
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Mask:
        """The inverse of `to_json`."""
        prompt = data.get("prompt")
        height, width = data["rle"]["size"]
        return cls(
            size=(int(height), int(width)),
            counts=str(data["rle"]["counts"]),
            score=data.get("score"),
            stability=data.get("stability"),
            prompt=None if prompt is None else Prompt.from_json(prompt),
            index=int(data.get("index", -1)),
            dropped_by=data.get("dropped_by"),
            reason=data.get("reason"),
            changed_by=tuple(data.get("changed_by", ())),
        )


def iou(a: Sequence[Mask], b: Sequence[Mask]) -> npt.NDArray[np.float64]:
    """Intersection over union of every mask of `a` with every mask of `b`, float64 (len(a), len(b))."""
    if not a or not b:
        return np.zeros((len(a), len(b)))
    crowd = [0] * len(b)
    return np.asarray(coco_mask.iou([m.rle for m in a], [m.rle for m in b], crowd), dtype=np.float64)


def stability_score(logits: npt.NDArray[Any], threshold: float = 0.0, offset: float = 1.0) -> float:
    """SAM's stability score of one mask's logits (H, W): how little the mask depends on the threshold.

    IoU of the mask cut at `threshold + offset` with the mask cut at `threshold - offset`;
    0.0 where both are empty. Reference: Kirillov et al., arXiv:2304.02643, appendix B.
    """
    high = int(np.count_nonzero(logits > threshold + offset))
    low = int(np.count_nonzero(logits > threshold - offset))
    return high / low if low else 0.0


def match_prompts(masks: Sequence[Mask], prompts: Sequence[Prompt]) -> list[int | None]:
    """The number of the prompt that each mask answers, None if it answers none of them.

    Two sources may give equal prompts, and each is answered by masks of its own. A mask belongs to the very
    prompt (the object) that the backend put into it; where that is not known, as in stored results, the masks
    of equal prompts are divided among them evenly, in their order.

    Args:
        masks: as the backend made them, in its order.
        prompts: as the backend got them.
    """
    numbers: dict[Prompt, list[int]] = {}
    for number, prompt in enumerate(prompts):
        numbers.setdefault(prompt, []).append(number)
    answers: dict[Prompt, list[int]] = {}
    for place, mask in enumerate(masks):
        if mask.prompt is not None and mask.prompt in numbers:
            answers.setdefault(mask.prompt, []).append(place)
    found: list[int | None] = [None] * len(masks)
    for prompt, places in answers.items():
        equal = numbers[prompt]
        objects = {id(prompts[number]): number for number in equal}
        known = len(objects) == len(equal) and all(id(masks[place].prompt) in objects for place in places)
        for order, place in enumerate(places):
            share = equal[order * len(equal) // max(len(places), len(equal))]
            found[place] = objects[id(masks[place].prompt)] if known else share
    return found
