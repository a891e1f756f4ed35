"""What both ways to compute have in common: their contract, and how prompts are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from maskmill import ImageError, Mask, Prompt
from maskmill.prompts import CANDIDATES

if TYPE_CHECKING:
    from ..model.decoder import Wanted

FloatArray = npt.NDArray[np.float32]
PixelArray = npt.NDArray[np.uint8]
Multimask = Literal["auto", "all", "off"]

#: How far the stability score moves the threshold, up and down.
STABILITY_OFFSET = 1.0


class Segmenter(Protocol):
    """What the stage needs of either way.

    Class attributes:
        grids_use_embedding: False if `everything` encodes the photo itself.
    """

    grids_use_embedding: ClassVar[bool]

    def embed(self, pixels: PixelArray) -> FloatArray:
        """The encoder's output, float32 (1, C, G, G), for a photo uint8 (H, W, 3) RGB.

        Raises:
            ImageError: the photo is too long and thin.
        """

    def masks(
        self, embedding: FloatArray, size: tuple[int, int], prompts: Sequence[Prompt], multimask: Multimask
    ) -> list[Mask]:
        """The masks of points and boxes, in the prompts' order.

        Args:
            embedding: from `embed`.
            size: (height, width) of the photo.
            prompts: with points and/or a box each.
            multimask: the option of this name.
        """

    def everything(self, embedding: FloatArray | None, pixels: PixelArray, prompt: Prompt) -> list[Mask]:
        """All masks of a photo, as `SamAutomaticMaskGenerator` finds them.

        Args:
            embedding: from `embed`; None only if `grids_use_embedding` is False.
            pixels: the photo, uint8 (H, W, 3) RGB.
            prompt: with a `grid`.
        """


def input_size(transform: Any, size: Sequence[int]) -> tuple[int, int]:
    """(height, width) of a photo once its longer side is the model's input side.

    Args:
        transform: a `ResizeLongestSide`.
        size: (height, width) of the photo.

    Raises:
        ImageError: nothing would be left of the shorter side.
    """
    height, width = transform.get_preprocess_shape(*size, transform.target_length)
    if min(height, width) < 1:
        raise ImageError(f"{size[1]}×{size[0]} pixels are too long and thin for SAM")
    return int(height), int(width)


def masks_wanted(prompt: Prompt, multimask: Multimask) -> Wanted:
    """Which of SAM's masks answer a prompt: three candidates, the best of them, or the one for clear prompts."""
    if multimask == "all" or prompt.pick is not None:
        return "three"
    ambiguous = len(prompt.points) == 1 and prompt.box is None
    return "best" if multimask == "auto" and ambiguous else "one"


def alike(prompts: Sequence[Prompt], multimask: Multimask, most: int) -> list[tuple[list[int], Wanted]]:
    """Numbers of prompts that can be decoded together, at most so many, and which masks they want."""
    groups: dict[tuple[int, bool, Wanted], list[int]] = {}
    for number, prompt in enumerate(prompts):
        kind = (len(prompt.points), prompt.box is not None, masks_wanted(prompt, multimask))
        groups.setdefault(kind, []).append(number)
    return [
        (numbers[start : start + most], wanted)
        for (_, _, wanted), numbers in groups.items()
        for start in range(0, len(numbers), most)
    ]


def as_arrays(
    prompts: Sequence[Prompt],
) -> tuple[npt.NDArray[np.float64] | None, npt.NDArray[np.int64] | None, npt.NDArray[np.float64] | None]:
    """Prompts alike as arrays: points (n, k, 2) as x and y, their labels (n, k), boxes xyxy (n, 4); None if none."""
    points = np.array([[(point.x, point.y) for point in prompt.points] for prompt in prompts], dtype=np.float64)
    labels = np.array([[point.label for point in prompt.points] for prompt in prompts], dtype=np.int64)
    boxes = np.array([prompt.box.xyxy for prompt in prompts if prompt.box], dtype=np.float64)
    return (points, labels, boxes if boxes.size else None) if labels.size else (None, None, boxes)


def picked(masks: Sequence[Mask], multimask: Multimask) -> list[Mask]:
    """Of three candidates the one that its prompt picks, unless all are wanted."""
    if multimask == "all":
        return list(masks)
    kept, number, before = [], 0, None
    for mask in masks:
        number = number + 1 if mask.prompt is before else 0
        before = mask.prompt
        if mask.prompt is None or mask.prompt.pick in (None, number % CANDIDATES):
            kept.append(mask)
    return kept
