"""What the fast and the original implementation share: their protocol, and the size of the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from maskmill import ImageError, Mask, Prompt
from maskmill_plugins._shared.sam.prompts import FloatArray, Multimask, PixelArray

if TYPE_CHECKING:
    from segment_anything.modeling import Sam as SamModel


class Segmenter(Protocol):
    """What the backend needs from an implementation.

    Class attributes:
        grids_use_embedding: False if `everything` encodes the image itself.

    Attributes:
        sam: the model.
    """

    grids_use_embedding: ClassVar[bool]
    sam: SamModel

    def embed(self, pixels: PixelArray) -> FloatArray:
        """Encode an image, uint8 (H, W, 3) RGB: float32 (1, C, G, G).

        Raises:
            ImageError: the image is too narrow for the model.
        """

    def masks(
        self, embedding: FloatArray, size: tuple[int, int], prompts: Sequence[Prompt], multimask: Multimask
    ) -> list[Mask]:
        """Compute the masks of points and boxes, in the prompts' order.

        Args:
            embedding: from `embed`.
            size: (height, width) of the image.
            prompts: each with points, a box, or both.
            multimask: the option of this name.
        """

    def everything(self, embedding: FloatArray | None, pixels: PixelArray, prompt: Prompt) -> list[Mask]:
        """Find all masks of an image, as `SamAutomaticMaskGenerator` does.

        Args:
            embedding: from `embed`; None only if `grids_use_embedding` is False.
            pixels: the image, uint8 (H, W, 3) RGB.
            prompt: with a `grid`.
        """

    def close(self) -> None:
        """End the threads, if it has any; it cannot be used afterwards."""


def compute_input_size(transform: Any, size: Sequence[int]) -> tuple[int, int]:
    """(height, width) of an image after its longer side is resized to the model's input side.

    Args:
        transform: a `ResizeLongestSide`.
        size: (height, width) of the image.

    Raises:
        ImageError: the shorter side would be less than a pixel.
    """
    height, width = transform.get_preprocess_shape(*size, transform.target_length)
    if min(height, width) < 1:
        raise ImageError(f"{size[1]}×{size[0]} pixels are too long and narrow for SAM")
    return int(height), int(width)
