"""Masks: the pixels of an object, stored in COCO run-length encoding.

Mask arrays are bool (H, W), indexed [row, column], of the upright original image.
The run-length encoding is COCO's (column-major, compressed counts), by pycocotools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from .colors import Rgb, nth
from .display import brief
from .drawable import Drawable
from .geometry import Box, to_score
from .prompts import Prompt

BoolArray = npt.NDArray[np.bool_]
#: The class of masks without a label, where a file or a table needs a name.
UNLABELLED = "object"


@dataclass(frozen=True, slots=True, repr=False)
class Mask(Drawable):
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
        array: npt.ArrayLike,
        *,
        score: float | None = None,
        stability: float | None = None,
        prompt: Prompt | None = None,
    ) -> Mask:
        """Encode an array of shape (H, W): bool, or integers of which 0 is the background and one other the object.

        Raises:
            ValueError: the array has other dimensions or values, such as probabilities or logits, or a score is no
                finite number that means 0 to 1.
        """
        pixels = to_pixels(array)
        rle = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
        height, width = pixels.shape
        counts = bytes(rle["counts"]).decode("ascii")
        score, stability = to_score(score, "a mask's score"), to_score(stability, "a mask's stability")
        return cls((height, width), counts, score=score, stability=stability, prompt=prompt)

    def __repr__(self) -> str:
        try:
            area = str(read_runs(self.counts)[1::2].sum())
        except ValueError:
            area = "damaged"
        about = [f"{area} of {'×'.join(map(str, self.size[::-1]))} pixels"]
        if self.label is not None:
            about.append(brief(self.label))
        if self.score is not None:
            about.append(f"score {self.score:.3f}")
        if not self.kept:
            about.append(f"dropped by {self.dropped_by}")
        return f"<Mask {self.index}: {', '.join(about)}>" if self.index >= 0 else f"<Mask: {', '.join(about)}>"

    def _drawn_size(self) -> tuple[int, int]:
        return self.size

    def _drawn_masks(self) -> Iterator[tuple[BoolArray, Rgb]]:
        return color_masks([self])

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

    def with_array(self, array: npt.ArrayLike) -> Mask:
        """This mask with other pixels, an array as of `from_array`, and everything else kept."""
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
    def from_prompt(cls, prompt: Prompt) -> Mask:
        """The mask of a prompt that answers itself, with the score and stability that it carries."""
        given = prompt.mask
        assert given is not None, "the prompt has its mask"
        return cls(given.size, given.counts, given.score, given.stability, prompt)

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


def color_masks(masks: Sequence[Mask]) -> Iterator[tuple[BoolArray, Rgb]]:
    """The pixels of each mask and its colour, large masks first: small ones are drawn on top and stay visible."""
    colored = [(mask, nth(number)) for number, mask in enumerate(masks)]
    for mask, color in sorted(colored, key=lambda pair: -pair[0].area):
        yield mask.array, color


def to_pixels(array: npt.ArrayLike) -> BoolArray:
    """The pixels of one object, bool (H, W).

    Args:
        array: bool, or integers of which 0 is the background and one other value the object.

    Raises:
        ValueError: it is another kind of array; says what to write.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError("a mask array cannot have masked pixels; write array.filled(False)")
    pixels = np.asarray(array)
    if pixels.ndim != 2:
        raise ValueError(f"expected a mask array of shape (H, W), not {pixels.shape}")
    if pixels.dtype.kind == "b":
        return np.asarray(pixels, dtype=np.bool_)
    if pixels.dtype.kind not in "iu":
        hint = "write array > 0.5 for probabilities, array > 0 for logits"
        raise ValueError(f"a mask array is bool (or integers, 0 and one other), not {pixels.dtype}; {hint}")
    inside: BoolArray = np.not_equal(pixels, 0)
    if inside.any():
        least, most = int(pixels[inside].min()), int(pixels[inside].max())
        if least < 0 or least != most:
            hint = "write array > 0, or array == NUMBER for one object of several"
            text = f"a mask array of integers has 0 and one other positive value, not {least} and {most}"
            raise ValueError(f"{text}; {hint}" if least != most else f"{text.rpartition(' and ')[0]}; {hint}")
    return inside


def count_pixels(counts: str) -> int:
    """The pixels, on the object and off it, that COCO's compressed run lengths stand for.

    Raises:
        ValueError: they are no such run lengths.
    """
    return int(read_runs(counts).sum())


def read_runs(counts: str) -> npt.NDArray[np.int64]:
    """The run lengths that COCO's compressed ones stand for, off the object and on it in turn."""
    letters = counts.encode("utf-8", "surrogatepass")  # others than ASCII are beyond the digits
    codes = np.frombuffer(letters, dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 0x20) == 0)
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not len(ends) or ends[-1] != len(codes) - 1:
        raise ValueError("its run lengths are damaged")
    starts = np.concatenate([[0], ends[:-1] + 1])
    digits = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if digits.max() > 6:
        raise ValueError("its run lengths are damaged")
    numbers = np.add.reduceat((codes & 0x1F) << (5 * digits), starts)
    numbers -= np.where(codes[ends] & 0x10, 1 << (5 * (digits[ends] + 1)), 0)
    for first in (1, 2):  # from the fourth on, each is stored as its difference from the one before the last
        numbers[first::2] = np.cumsum(numbers[first::2])
    if numbers.min() < 0:
        raise ValueError("its run lengths are damaged")
    return np.asarray(numbers)


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
