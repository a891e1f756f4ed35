"""What is doubtful about the prompts of an image, found by comparing them with each other, the image and the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ..geometry import Box
from ..prompts import Prompt
from ..results import Doubt

#: Default of `conflict_iou`: boxes that overlap at least this much are taken for the same object.
CONFLICT_IOU = 0.9
#: Pixels that a box may reach beyond the image without a doubt: coordinates are rounded, and some formats count from 1.
CLIPPED_PIXELS = 1.0
#: Side in pixels of the model's input below which an object is too small. Segment Anything computes masks at a quarter
#: of its input's side, where such an object has 2 × 2 pixels.
SMALLEST_SIDE = 8.0
#: Examples in a message.
SHOWN = 3


def check_prompts(
    given: Sequence[Prompt],
    fitted: Sequence[Prompt],
    size: tuple[int, int],
    conflict_iou: float | None = CONFLICT_IOU,
    input_side: int | None = None,
) -> Iterator[Doubt]:
    """The doubts about the prompts of one image, at most one of each code.

    Args:
        given: as the sources made them, in pixels.
        fitted: the same, as the backend gets them.
        size: (height, width) of the image.
        conflict_iou: IoU from which on two boxes must not have different labels; None: not compared.
        input_side: longer side in pixels to which the model scales an image, None if unknown or if it does not.
    """
    if message := _describe_clipped(given, size):
        yield Doubt("clipped", message, "prompts")
    if conflict_iou is not None and (message := _describe_conflicts(fitted, conflict_iou)):
        yield Doubt("conflict", message, "prompts")
    if input_side is not None and (message := _describe_too_small(fitted, size, input_side)):
        yield Doubt("too_small", message, "prompts")


def _describe_clipped(given: Sequence[Prompt], size: tuple[int, int]) -> str:
    height, width = size
    clipped = [
        box
        for box in (prompt.box for prompt in given)
        if box is not None and max(-box.x1, -box.y1, box.x2 - width, box.y2 - height) > CLIPPED_PIXELS
    ]
    boxes = [f"the box {_format_box(box)}" for box in clipped]
    return _list_examples(boxes, f"reached beyond the image of {width}×{height} pixels") if boxes else ""


def _describe_conflicts(prompts: Sequence[Prompt], threshold: float) -> str:
    labelled = [prompt for prompt in prompts if prompt.box is not None and prompt.label is not None]
    if len({prompt.label for prompt in labelled}) < 2:
        return ""
    boxes = np.array([prompt.box.xyxy for prompt in labelled if prompt.box], dtype=np.float64)
    found = []
    for first, prompt in enumerate(labelled):
        overlap = _compute_iou(boxes[first], boxes[first + 1 :])
        for offset in np.flatnonzero(overlap >= threshold):
            other = labelled[first + 1 + offset]
            if other.label != prompt.label:
                place = _format_box(prompt.box)  # type: ignore[arg-type]
                found.append(f"{prompt.label!r} and {other.label!r} at {place} (IoU {overlap[offset]:.2f})")
    return _list_examples(found, "name the same object") if found else ""


def _describe_too_small(prompts: Sequence[Prompt], size: tuple[int, int], input_side: int) -> str:
    scale = input_side / max(size)
    boxes = [prompt.box for prompt in prompts if prompt.box is not None]
    small = sorted((box for box in boxes if box.area**0.5 * scale < SMALLEST_SIDE), key=lambda box: box.area)
    if not small:
        return ""
    width, height = small[0].x2 - small[0].x1, small[0].y2 - small[0].y1
    count = f"{len(small)} of {len(boxes)} boxes are" if len(boxes) > 1 else "the box is"
    which = "the smallest, " if len(small) > 1 else ""
    return (
        f"{count} too small for the model: {which}{_format_box(small[0])} has {width:.0f}×{height:.0f} pixels, and"
        f" {width * scale:.1f}×{height * scale:.1f} in the model's input of {input_side} pixels"
    )


def _compute_iou(box: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """IoU of a box xyxy, (4,), with others, (n, 4): (n,)."""
    corner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(corner, 0.0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    whole: npt.NDArray[np.float64] = shared / (np.prod(box[2:] - box[:2]) + areas - shared)
    return whole


def _format_box(box: Box) -> str:
    return "[" + ", ".join(f"{number:.6g}" for number in box.xyxy) + "]"


def _list_examples(examples: Sequence[str], verb: str) -> str:
    more = f" and {len(examples) - SHOWN} more" if len(examples) > SHOWN else ""
    return f"{'; '.join(examples[:SHOWN])}{more} {verb}"
