"""The original implementation: `segment_anything` itself, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from maskmill import Mask, Prompt
from maskmill.masks import stability_score
from maskmill_plugins._shared.sam.prompts import (
    STABILITY_OFFSET,
    FloatArray,
    Multimask,
    PixelArray,
    bound_score,
    decide_masks,
    stack_prompts,
)

from .segmenter import compute_input_size

if TYPE_CHECKING:
    from segment_anything.modeling import Sam as SamModel


class StockSegmenter:
    """`SamPredictor` and `SamAutomaticMaskGenerator` of `segment_anything`.

    Args:
        sam: the model, on its device.
    """

    grids_use_embedding: ClassVar[bool] = False

    def __init__(self, sam: SamModel) -> None:
        self.sam = sam
        self.predictor = SamPredictor(sam)

    def embed(self, pixels: PixelArray) -> FloatArray:
        """See `Segmenter.embed`."""
        compute_input_size(self.predictor.transform, pixels.shape[:2])
        self.predictor.set_image(pixels)
        embedding: FloatArray = self.predictor.features.cpu().numpy()
        self.predictor.reset_image()
        return embedding

    def masks(
        self, embedding: FloatArray, size: tuple[int, int], prompts: Sequence[Prompt], multimask: Multimask
    ) -> list[Mask]:
        """See `Segmenter.masks`."""
        self._set_embedding(embedding, size)
        found = [mask for prompt in prompts for mask in self._predict(prompt, multimask)]
        self.predictor.reset_image()
        return found

    def everything(self, embedding: FloatArray | None, pixels: PixelArray, prompt: Prompt) -> list[Mask]:
        """See `Segmenter.everything`; the original encodes the image itself."""
        assert prompt.grid is not None, "the prompt must have a grid"
        generator = SamAutomaticMaskGenerator(self.sam, output_mode="coco_rle", **asdict(prompt.grid))
        try:
            records = generator.generate(pixels)
        except IndexError:
            if prompt.grid.crop_n_layers:  # the generator fails if no crop has any mask
                return []
            raise
        return [
            Mask(
                size=(pixels.shape[0], pixels.shape[1]),
                counts=record["segmentation"]["counts"],
                score=bound_score(float(record["predicted_iou"])),
                stability=float(np.nan_to_num(record["stability_score"])),  # NaN for an empty mask
                prompt=prompt,
            )
            for record in records
        ]

    def close(self) -> None:
        """See `Segmenter.close`."""

    def _set_embedding(self, embedding: FloatArray, size: tuple[int, int]) -> None:
        """Put the predictor into the state that `set_image` leaves it in."""
        predictor = self.predictor
        predictor.reset_image()
        predictor.original_size = size
        predictor.input_size = compute_input_size(predictor.transform, size)
        predictor.features = torch.as_tensor(np.require(embedding, requirements="W"), device=predictor.device)
        predictor.is_image_set = True

    def _predict(self, prompt: Prompt, multimask: Multimask) -> list[Mask]:
        wanted = decide_masks(prompt, multimask)
        points, labels, box = stack_prompts([prompt])
        logits, scores, _ = self.predictor.predict(
            None if points is None else points[0],
            None if labels is None else labels[0],
            None if box is None else box[0],
            multimask_output=wanted != "one",
            return_logits=True,
        )
        threshold = self.sam.mask_threshold
        return [
            Mask.from_array(
                logits[index] > threshold,
                score=bound_score(float(scores[index])),
                stability=stability_score(logits[index], threshold, STABILITY_OFFSET),
                prompt=prompt,
            )
            for index in ([int(np.argmax(scores))] if wanted == "best" else range(len(scores)))
        ]
