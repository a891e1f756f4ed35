"""The fast implementation, from pixels and prompts to masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from maskmill import Mask, Prompt
from maskmill_plugins._shared.sam.decoder_parts import ImageFeatures
from maskmill_plugins._shared.sam.decoding_threads import DecodingThreads
from maskmill_plugins._shared.sam.everything_mode import find_all_masks
from maskmill_plugins._shared.sam.prompts import (
    STABILITY_OFFSET,
    FloatArray,
    Multimask,
    PixelArray,
    WantedMasks,
    bound_score,
    compute_in_batches,
    stack_prompts,
)
from maskmill_plugins._shared.sam.upsample import Upsampler

from ..model.decoder import make_decoder
from ..model.encoder import FastEncoder
from .segmenter import compute_input_size

if TYPE_CHECKING:
    from segment_anything.modeling import Sam as SamModel

#: Prompts decoded together on a GPU. On a CPU, decoding them one by one is as fast, and makes the
#: rounding of a prompt's mask independent of the other prompts.
GPU_BATCH = 64
#: Numbers of image tokens of the points of a grid that are decoded together on a CPU: one point with the published
#: models, several with small ones, whose single operations take less time than starting them.
GRID_NUMBERS = 2**18


class FastSegmenter:
    """Computes the masks of `segment_anything`, except for pixels whose logit is within rounding of the threshold.

    Args:
        sam: the model, on its device; its weights are shared, so it must stay there.
        batch_size: how many prompts are decoded together; None: 1 on a CPU, else `GPU_BATCH`.
        threads: how many such batches are decoded at the same time on a CPU, and how many masks of a GPU are upscaled
            at the same time; the masks do not depend on it.
    """

    grids_use_embedding: ClassVar[bool] = True

    def __init__(self, sam: SamModel, batch_size: int | None = None, threads: int = 1) -> None:
        self.sam = sam
        self.transform = ResizeLongestSide(sam.image_encoder.img_size)
        self.encoder = FastEncoder(sam.image_encoder)
        self.decoder = make_decoder(sam)
        self.threshold: float = sam.mask_threshold
        on_cpu = sam.device.type == "cpu"
        self.batch_size = batch_size or (1 if on_cpu else GPU_BATCH)
        at_once = max(1, GRID_NUMBERS // self.decoder.positions.numel())
        self.grid_batch = batch_size or (at_once if on_cpu else GPU_BATCH)
        self.threads = DecodingThreads(threads if on_cpu else 1)
        self.mask_threads = DecodingThreads(1 if on_cpu else threads)

    def embed(self, pixels: PixelArray) -> FloatArray:
        """See `Segmenter.embed`."""
        compute_input_size(self.transform, pixels.shape[:2])
        resized = torch.as_tensor(self.transform.apply_image(pixels), device=self.sam.device)
        with torch.inference_mode():
            embedding = self.encoder(self.sam.preprocess(resized.permute(2, 0, 1).contiguous()[None]))
        return embedding.cpu().numpy()

    def masks(
        self, embedding: FloatArray, size: tuple[int, int], prompts: Sequence[Prompt], multimask: Multimask
    ) -> list[Mask]:
        """See `Segmenter.masks`."""
        image, upsampler = self.threads.run(lambda: self.prepare(embedding, size))
        decode = partial(self._decode, image, upsampler)
        run = partial(self.threads.map, numbers=self.decoder.positions.numel())
        return compute_in_batches(prompts, multimask, self.batch_size, decode, run)

    def everything(self, embedding: FloatArray | None, pixels: PixelArray, prompt: Prompt) -> list[Mask]:
        """See `Segmenter.everything`."""
        assert embedding is not None, "grids_use_embedding is True"
        return find_all_masks(self, pixels, embedding, prompt)

    def close(self) -> None:
        """See `Segmenter.close`."""
        self.threads.close()
        self.mask_threads.close()

    def prepare(self, embedding: FloatArray, size: tuple[int, int]) -> tuple[ImageFeatures, Upsampler]:
        """Compute what all prompts of an image of this size (height, width) share."""
        features = torch.as_tensor(np.require(embedding, requirements="W"), device=self.sam.device)
        image = self.decoder.prepare_image(features)
        side, inside = self.transform.target_length, compute_input_size(self.transform, size)
        return image, Upsampler(4 * embedding.shape[-1], side, inside, size)

    def embed_points(self, points: npt.NDArray[np.float64], size: tuple[int, int]) -> Tensor:
        """Encode prompts of one foreground point each: sparse embeddings (n, tokens, C).

        Args:
            points: float64 (n, 2), x and y in pixels.
            size: (height, width) of the image.
        """
        scaled = torch.as_tensor(self.transform.apply_coords(points, size), device=self.sam.device)[:, None]
        labels = torch.ones(scaled.shape[:2], dtype=torch.int, device=self.sam.device)
        with torch.inference_mode():
            sparse: Tensor = self.sam.prompt_encoder(points=(scaled, labels), boxes=None, masks=None)[0]
        return sparse

    def _decode(
        self, image: ImageFeatures, upsampler: Upsampler, prompts: Sequence[Prompt], wanted: WantedMasks
    ) -> list[list[Mask]]:
        """Compute the masks of a batch from `compute_in_batches`."""
        logits, scores = self.decoder(image, self.embed_prompts(prompts, upsampler.size), wanted)
        logits, scores = logits.cpu(), scores.cpu()
        threshold = self.threshold

        def make_masks(row: int) -> list[Mask]:
            crops = [upsampler.crop(one, threshold - STABILITY_OFFSET) for one in logits[row]]
            return [
                Mask(
                    size=upsampler.size,
                    counts=crop.encode_rle(threshold),
                    score=bound_score(float(score)),
                    stability=crop.compute_stability(threshold, STABILITY_OFFSET),
                    prompt=prompts[row],
                )
                for crop, score in zip(crops, scores[row], strict=True)
            ]

        return self.mask_threads.map(make_masks, range(len(prompts)))

    def embed_prompts(self, prompts: Sequence[Prompt], size: tuple[int, int]) -> Tensor:
        """Encode prompts, scaled as by `SamPredictor.predict`: sparse embeddings (n, tokens, C)."""
        points, labels, boxes = stack_prompts(prompts)

        def tensor(array: npt.NDArray[Any], dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(array, dtype=dtype, device=self.sam.device)

        given = None
        if points is not None and labels is not None:
            given = (tensor(self.transform.apply_coords(points, size), torch.float), tensor(labels, torch.int))
        corners = None if boxes is None else tensor(self.transform.apply_boxes(boxes, size), torch.float)
        with torch.inference_mode():
            sparse: Tensor = self.sam.prompt_encoder(points=given, boxes=corners, masks=None)[0]
        return sparse
