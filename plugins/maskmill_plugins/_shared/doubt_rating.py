"""How doubtful an image is: which images to review first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from maskmill import ImageResult, Mask
from maskmill.masks import iou

#: Two masks with this IoU are doubtful.
SAME = 0.5
#: Masks of an image that are compared with each other at most.
MOST_COMPARED = 50


class DoubtRating(NamedTuple):
    """How doubtful an image is, and why.

    Attributes:
        value: 0 (no doubt) to 1.
        why: the main reason: "failed", "doubts" (reported by the run), "no_pixels", "nothing", "dropped_all",
            "overlap", "score", "stability", "format", "prompt", "dropped"; "" if there is none.
        figure: the number behind the reason, such as the lowest score, or None.
    """

    value: float
    why: str = ""
    figure: float | None = None


def rate_doubt(result: ImageResult) -> DoubtRating:
    """The strongest reason to doubt a result.

    A doubt that the run reported counts 1; a kept mask without pixels 0.95; prompts without any kept mask
    0.9; two kept masks with an IoU of at least 0.5, as of one object that was found twice, their IoU; the lowest
    score, stability and IoU of an output format 1 minus their value; the lowest confidence of a prompt half of 1
    minus its value; the share of masks dropped by filters a quarter of that share. A failed image has no masks to
    doubt: it is listed among the failures.
    """
    return max(_find_reasons(result), key=lambda reason: reason.value, default=DoubtRating(0.0))


def _find_reasons(result: ImageResult) -> Iterator[DoubtRating]:
    kept = result.kept
    if result.status == "rejected":
        return
    if result.status in ("failed", "quarantined"):
        yield DoubtRating(0.0, "failed")
        return
    if result.doubts:
        yield DoubtRating(1.0, "doubts", len(result.doubts))
    if not kept and result.masks:
        yield DoubtRating(0.9, "dropped_all", len(result.masks))
    elif not kept and result.prompts:
        yield DoubtRating(0.9, "nothing")
    if any(mask.box is None for mask in kept):
        yield DoubtRating(0.95, "no_pixels")
    if (overlap := _find_overlap(kept)) >= SAME:
        yield DoubtRating(overlap, "overlap", overlap)
    yield from _doubt_lowest("score", (mask.score for mask in kept))
    yield from _doubt_lowest("stability", (mask.stability for mask in kept))
    yield from _doubt_lowest("format", (values.get("min") for values in format_iou(result).values()))
    yield from _doubt_lowest("prompt", (prompt.score for prompt in result.prompts), weight=0.5)
    if kept and len(kept) < len(result.masks):
        part = 1 - len(kept) / len(result.masks)
        yield DoubtRating(part / 4, "dropped", len(result.masks) - len(kept))


def _find_overlap(masks: Sequence[Mask]) -> float:
    """The greatest IoU of two masks of different prompts.

    Masks of everything mode do not count, since parts and wholes overlap; nor do images with many masks, because that
    would take long.
    """
    masks = [mask for mask in masks if mask.prompt is None or mask.prompt.grid is None]
    if not 2 <= len(masks) <= MOST_COMPARED:
        return 0.0
    overlap = iou(masks, masks)
    pairs = ((i, j) for j in range(len(masks)) for i in range(j))
    return max((float(overlap[i, j]) for i, j in pairs if _have_other_prompts(masks[i], masks[j])), default=0.0)


def _have_other_prompts(one: Mask, other: Mask) -> bool:
    return one.prompt is None or one.prompt != other.prompt


def _doubt_lowest(why: str, figures: Iterable[float | None], weight: float = 1.0) -> Iterator[DoubtRating]:
    known = [figure for figure in figures if finite_number(figure) is not None]
    lowest = min((figure for figure in known if figure is not None), default=None)
    if lowest is not None and lowest < 1:
        yield DoubtRating(weight * (1 - max(0.0, lowest)), why, lowest)


def format_iou(result: ImageResult) -> dict[str, Mapping[str, Any]]:
    """The note `iou` of each writer, by writer: "mean" and "min" IoU, and the number of "masks"."""
    found = {}
    for name, notes in result.notes.items():
        iou = notes.get("iou") if isinstance(notes, Mapping) else None
        if isinstance(iou, Mapping) and all(
            finite_number(iou.get(part)) is not None for part in ("mean", "min", "masks")
        ):
            found[name] = iou
    return found


def finite_number(value: Any) -> float | None:
    """A finite number, None for anything else: JSON allows neither NaN nor infinity."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value
