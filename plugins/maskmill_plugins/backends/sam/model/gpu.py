"""The encoder on a GPU, in half precision and compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskmill import ImageError

from .encoder import FastEncoder

if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT


class TunedEncoder(FastEncoder):
    """The fast encoder in another precision, or compiled; float32 goes in and comes out.

    The decoder stays in float32: it takes little of the time, and its logits decide every pixel.

    Args:
        encoder: the original, on its device; its weights are converted in place.
        half: compute in float16.
        compiled: by `torch.compile`, at the first image: this takes up to minutes.
        backend: what compiles, as `torch.compile` names it.
    """

    def __init__(self, encoder: ImageEncoderViT, half: bool, compiled: bool, backend: str = "inductor") -> None:
        self.dtype = torch.float16 if half else torch.float32
        super().__init__(encoder.to(self.dtype))
        for block in self.blocks:
            block.relative = block.relative.clone()  # made in inference mode, which compilers do not take
        encode = FastEncoder.__call__.__wrapped__  # type: ignore[attr-defined]  # without inference mode, too
        self._encode = torch.compile(encode, backend=backend, dynamic=False) if compiled else encode

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `FastEncoder.__call__`.

        Raises:
            ImageError: float16 could not hold the numbers of this image.
        """
        with torch.inference_mode(False), torch.no_grad():
            embedding: Tensor = self._encode(self, pixels.to(self.dtype, copy=True)).float()
        if self.dtype == torch.float16 and not embedding.isfinite().all():
            raise ImageError("the encoder overflows in half precision on this image; use `half: false`")
        return embedding
