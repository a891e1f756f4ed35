"""From prompts to what a model of the Segment Anything family gets, and which of its masks are the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from maskmill import Mask, Prompt
from maskmill.geometry import OVERSHOOT
from maskmill.prompts import CANDIDATES

FloatArray = npt.NDArray[np.float32]
PixelArray = npt.NDArray[np.uint8]
#: The option of this name.
Multimask = Literal["auto", "all", "off"]
#: The unambiguous mask, three candidates, or the best of them.
WantedMasks = Literal["one", "three", "best"]

#: How far the stability score moves the threshold up and down.
STABILITY_OFFSET = 1.0


def decide_masks(prompt: Prompt, multimask: Multimask) -> WantedMasks:
    """Decide which of SAM's masks to return: three candidates, the best of them, or the unambiguous one."""
    if multimask == "all" or prompt.pick is not None:
        return "three"
    ambiguous = len(prompt.points) == 1 and prompt.box is None
    return "best" if multimask == "auto" and ambiguous else "one"


def batch_prompts(prompts: Sequence[Prompt], multimask: Multimask, size: int) -> list[tuple[list[int], WantedMasks]]:
    """Group prompts that can be decoded together: the indices of at most `size` prompts, and which masks to return."""
    groups: dict[tuple[int, bool, WantedMasks], list[int]] = {}
    for index, prompt in enumerate(prompts):
        kind = (len(prompt.points), prompt.box is not None, decide_masks(prompt, multimask))
        groups.setdefault(kind, []).append(index)
    return [
        (indices[start : start + size], wanted)
        for (_, _, wanted), indices in groups.items()
        for start in range(0, len(indices), size)
    ]


def compute_in_batches(
    prompts: Sequence[Prompt],
    multimask: Multimask,
    size: int,
    compute: Callable[[Sequence[Prompt], WantedMasks], list[list[Mask]]],
    run: Callable[..., Iterable[list[list[Mask]]]],
) -> list[Mask]:
    """The masks of all prompts, in the prompts' order, computed in the batches of `batch_prompts`.

    Args:
        prompts: each with points, a box, or both.
        multimask: the option of this name.
        size: prompts at once, at most.
        compute: the masks of each prompt of a batch.
        run: as `map`; calls a function for each batch, such as `DecodingThreads.map`.
    """
    batches = batch_prompts(prompts, multimask, size)
    found: dict[int, list[Mask]] = {}
    computed = run(lambda batch: compute([prompts[index] for index in batch[0]], batch[1]), batches)
    for (indices, _), masks in zip(batches, computed, strict=True):
        found.update(zip(indices, masks, strict=True))
    return [mask for index in range(len(prompts)) for mask in found[index]]


def stack_prompts(
    prompts: Sequence[Prompt],
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.int64] | None, npt.NDArray[np.float64] | None]:
    """Stack prompts of one kind: points (n, k, 2) as x and y, their labels (n, k), boxes xyxy (n, 4); None if none."""
    points = np.array([[(point.x, point.y) for point in prompt.points] for prompt in prompts], dtype=np.float64)
    labels = np.array([[point.label for point in prompt.points] for prompt in prompts], dtype=np.int64)
    boxes = np.array([prompt.box.xyxy for prompt in prompts if prompt.box], dtype=np.float64)
    return (points, labels, boxes if boxes.size else None) if labels.size else (None, None, boxes)


def keep_picked(masks: Sequence[Mask], multimask: Multimask) -> list[Mask]:
    """Drop the candidates that a prompt's `pick` does not name, unless all are wanted."""
    if multimask == "all":
        return list(masks)
    kept, number, before = [], 0, None
    for mask in masks:
        number = number + 1 if mask.prompt is before else 0
        before = mask.prompt
        if mask.prompt is None or mask.prompt.pick in (None, number % CANDIDATES):
            kept.append(mask)
    return kept


def bound_score(iou: float) -> float:
    """The predicted IoU in the bounds of a score: SAM estimates it without any, a fine-tuned one at times far off."""
    return min(max(iou, -OVERSHOOT), 1 + OVERSHOOT)
