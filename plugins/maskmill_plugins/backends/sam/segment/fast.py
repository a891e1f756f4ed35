"""The fast way: the parts of it put together, from pixels and prompts to masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from maskmill import Mask, Prompt

from ..model.decoder import FastDecoder, ImageSide, Wanted
from ..model.encoder import FastEncoder
from .everything import everything
from .segmenter import STABILITY_OFFSET, FloatArray, Multimask, PixelArray, alike, as_arrays, input_size
from .upsample import Upsampler

if TYPE_CHECKING:
    from segment_anything.modeling import Sam as SamModel

#: Prompts decoded together on a GPU. On a CPU one after another is as fast, and then no
#: prompt's rounding depends on its neighbours.
PROMPTS_ON_GPU = 64


class FastSegmenter:
    """The same masks, but for pixels whose logit is within rounding of the threshold.

    Args:
        sam: the model, on its device; its weights are shared, so they must not move.
        prompts_at_a_time: how many are decoded together; None leaves the choice to the device.
    """

    grids_use_embedding: ClassVar[bool] = True

    def __init__(self, sam: SamModel, prompts_at_a_time: int | None = None) -> None:
        self.sam = sam
        self.transform = ResizeLongestSide(sam.image_encoder.img_size)
        self.encoder = FastEncoder(sam.image_encoder)
        self.decoder = FastDecoder(sam)
        self.threshold: float = sam.mask_threshold
        self.prompts_at_a_time = prompts_at_a_time or (1 if sam.device.type == "cpu" else PROMPTS_ON_GPU)

    def embed(self, pixels: PixelArray) -> FloatArray:
        """See `Segmenter.embed`."""
        input_size(self.transform, pixels.shape[:2])
        resized = torch.as_tensor(self.transform.apply_image(pixels), device=self.sam.device)
        with torch.inference_mode():
            embedding = self.encoder(self.sam.preprocess(resized.permute(2, 0, 1).contiguous()[None]))
        return embedding.cpu().numpy()

    def masks(
        self, embedding: FloatArray, size: tuple[int, int], prompts: Sequence[Prompt], multimask: Multimask
    ) -> list[Mask]:
        """See `Segmenter.masks`."""
        image, upsampler = self.prepare(embedding, size)
        found: dict[int, list[Mask]] = {}
        for numbers, wanted in alike(prompts, multimask, self.prompts_at_a_time):
            together = [prompts[number] for number in numbers]
            answers = self._answer(image, upsampler, together, wanted)
            found.update(zip(numbers, answers, strict=True))
        return [mask for number in range(len(prompts)) for mask in found[number]]

    def everything(self, embedding: FloatArray | None, pixels: PixelArray, prompt: Prompt) -> list[Mask]:
        """See `Segmenter.everything`."""
        assert embedding is not None, "the caller has it"
        return everything(self, pixels, embedding, prompt)

    def prepare(self, embedding: FloatArray, size: tuple[int, int]) -> tuple[ImageSide, Upsampler]:
        """What all prompts of a photo of this size (height, width) share."""
        features = torch.as_tensor(np.require(embedding, requirements="W"), device=self.sam.device)
        image = self.decoder.image_side(features)
        side, inside = self.transform.target_length, input_size(self.transform, size)
        return image, Upsampler(4 * embedding.shape[-1], side, inside, size)

    def embed_points(self, points: npt.NDArray[np.float64], size: tuple[int, int]) -> Tensor:
        """Sparse embeddings (n, tokens, C) of one foreground point each.

        Args:
            points: float64 (n, 2), x and y in pixels.
            size: (height, width) of the photo.
        """
        scaled = torch.as_tensor(self.transform.apply_coords(points, size), device=self.sam.device)[:, None]
        labels = torch.ones(scaled.shape[:2], dtype=torch.int, device=self.sam.device)
        with torch.inference_mode():
            sparse: Tensor = self.sam.prompt_encoder(points=(scaled, labels), boxes=None, masks=None)[0]
        return sparse

    def _answer(
        self, image: ImageSide, upsampler: Upsampler, prompts: Sequence[Prompt], wanted: Wanted
    ) -> list[list[Mask]]:
        """The masks of prompts with equally many points each."""
        logits, scores = self.decoder(image, self._embed_prompts(prompts, upsampler.size), wanted)
        logits, scores = logits.cpu(), scores.cpu()
        threshold = self.threshold
        answers = []
        for row, prompt in enumerate(prompts):
            crops = [upsampler.crop(one, threshold - STABILITY_OFFSET) for one in logits[row]]
            answers.append(
                [
                    Mask(
                        size=upsampler.size,
                        counts=crop.rle(threshold),
                        score=float(score),
                        stability=crop.stability(threshold, STABILITY_OFFSET),
                        prompt=prompt,
                    )
                    for crop, score in zip(crops, scores[row], strict=True)
                ]
            )
        return answers

    def _embed_prompts(self, prompts: Sequence[Prompt], size: tuple[int, int]) -> Tensor:
        """The prompt encoder's sparse embeddings, (n, tokens, C), scaled as `SamPredictor.predict` does."""
        points, labels, boxes = as_arrays(prompts)

        def tensor(array: npt.NDArray[Any], dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(array, dtype=dtype, device=self.sam.device)

        given = None
        if points is not None and labels is not None:
            given = (tensor(self.transform.apply_coords(points, size), torch.float), tensor(labels, torch.int))
        corners = None if boxes is None else tensor(self.transform.apply_boxes(boxes, size), torch.float)
        with torch.inference_mode():
            sparse: Tensor = self.sam.prompt_encoder(points=given, boxes=corners, masks=None)[0]
        return sparse
