"""A mask of each box or set of points, by a model of transformers.

References: Kirillov et al., Segment Anything, arXiv:2304.02643; Ke et al., Segment Anything in High Quality,
arXiv:2306.01567; Ravi et al., SAM 2, arXiv:2408.00714; Zhou et al., EdgeTAM, arXiv:2501.07256.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from maskmill import ImageError, Mask, Prompt, PromptError
from maskmill_plugins._shared.sam.decoder_parts import ImageFeatures
from maskmill_plugins._shared.sam.decoding_threads import DecodingThreads
from maskmill_plugins._shared.sam.device import Precision, compute_in
from maskmill_plugins._shared.sam.prompts import (
    STABILITY_OFFSET,
    FloatArray,
    Multimask,
    PixelArray,
    WantedMasks,
    bound_score,
    compute_in_batches,
    keep_picked,
    stack_prompts,
)
from maskmill_plugins._shared.sam.upsample import Upsampler

from .families import Family
from .fast_decoder import make_decoder
from .loading import fuse_branches

#: Prompts decoded together on a GPU. One by one on a CPU, a mask does not depend on the other prompts, not even in
#: its last bits, and memory stays small.
GPU_BATCH = 64
THRESHOLD = 0.0


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """What all prompts of an image share.

    Attributes:
        embedding: the arrays of `InstanceSegmenter.embed`, on the device.
        features: what the fast decoder computes of them; None without it.
        scale: from pixels of the image to pixels of the model's input, in x and y.
    """

    embedding: Sequence[Tensor]
    features: ImageFeatures | None
    scale: tuple[float, float]


class InstanceSegmenter:
    """Computes the masks that transformers computes from the same picture and prompts.

    Upscaling differs by rounding: a pixel whose logit is within rounding of zero may have another value.

    Args:
        model: on its device.
        image_processor: of the model.
        family: of the model.
        hq_token_only: of SAM-HQ, take the mask of its high-quality token alone.
        fast: decode with `FastDecoder` where the family has it: the same logits, except for rounding.
        threads: how many prompts the fast decoder works on at the same time on a CPU, and how many masks of a GPU are
            upscaled at the same time; the masks do not depend on it.
        batch_size: how many prompts are decoded together; None: 1 on a CPU, else `GPU_BATCH`.
        precision: of the image encoder.
    """

    threshold = THRESHOLD

    def __init__(
        self,
        model: Any,
        image_processor: Any,
        family: Family,
        hq_token_only: bool = False,
        *,
        fast: bool = True,
        threads: int = 1,
        batch_size: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        self.precision = precision
        self.model = model
        self.family = family
        self.image_processor = image_processor
        self.hq_token_only = hq_token_only
        size = image_processor.size
        self.side = int(size["longest_edge"] if family.pads else size["height"])
        on_cpu = model.device.type == "cpu"
        self.batch_size = self.grid_batch = batch_size or (1 if on_cpu else GPU_BATCH)
        self.fast = make_decoder(model) if fast and family.has_fast_decoder else None
        self.channels_last = bool(self.fast) and on_cpu and "EdgeTam" in family.model
        if self.channels_last:
            fuse_branches(model)
        self.threads = DecodingThreads(threads if on_cpu and self.fast else 1)  # transformers has threads of its own
        self.mask_threads = DecodingThreads(1 if on_cpu else threads)
        # As transformers' own processors make them; Apple's GPUs have no double precision.
        self._precision = torch.float64 if family.pads and model.device.type != "mps" else torch.float32

    def embed(self, pixels: PixelArray) -> list[FloatArray]:
        """Encode an image.

        Args:
            pixels: uint8 (H, W, 3) RGB.

        Returns:
            float32 arrays, as many as the family has.

        Raises:
            ImageError: the image is too narrow for the model.
        """
        self._find_inside(pixels.shape[:2])
        prepared = self.image_processor(
            images=np.array(pixels), return_tensors="pt", input_data_format="channels_last"
        )["pixel_values"].to(self.model.device)
        if self.channels_last:
            prepared = prepared.to(memory_format=torch.channels_last)
        with torch.inference_mode(), compute_in(self.precision, self.model.device):
            made = self.model.get_image_embeddings(prepared)
        if isinstance(made, tuple):  # SAM-HQ: the decoder uses the first of the intermediate layers only
            made = [made[0], made[1][0]]
        return [part.float().cpu().contiguous().numpy() for part in (made if isinstance(made, list) else [made])]

    def masks(
        self, embedding: Sequence[FloatArray], size: tuple[int, int], prompts: Sequence[Prompt], multimask: Multimask
    ) -> list[Mask]:
        """Compute the masks of points and boxes, in the prompts' order.

        Args:
            embedding: from `embed`.
            size: (height, width) of the image.
            prompts: each with points, a box, or both.
            multimask: the option of this name.

        Raises:
            PromptError: a prompt picks one of three candidates, and the model has them in no fixed order.
        """
        if not self.family.keeps_order and any(prompt.pick is not None for prompt in prompts):
            text = f"{self.family.model} sorts its candidates by predicted IoU, so `pick` would mean another mask"
            raise PromptError(f"{text}; remove `pick`")
        image, upsampler = self.threads.run(lambda: self.prepare(embedding, size))
        compute = partial(self._compute, image, upsampler)
        run = partial(self.threads.map, numbers=embedding[0 if self.family.pads else -1].size)
        masks = compute_in_batches(prompts, multimask, self.batch_size, compute, run)
        return keep_picked(masks, multimask)

    def prepare(self, embedding: Sequence[FloatArray], size: tuple[int, int]) -> tuple[PreparedImage, Upsampler]:
        """Compute what all prompts of an image of this size (height, width) share."""
        height, width = self._find_inside(size)
        parts = [torch.from_numpy(np.require(part, requirements="W")).to(self.model.device) for part in embedding]
        features = None
        if self.fast is not None:
            *fine, coarse = parts
            features = self.fast.prepare_image(coarse, tuple(fine))
        image = PreparedImage(parts, features, (width / size[1], height / size[0]))
        # The decoder's logits are four times as wide as the embedding; SAM 2's last array is the coarsest.
        side = 4 * parts[0 if self.family.pads else -1].shape[-1]
        if self.family.pads:
            return image, Upsampler(side, self.side, (height, width), size)
        return image, Upsampler(side, side, (side, side), size)

    def embed_points(self, points: npt.NDArray[np.float64], size: tuple[int, int]) -> Tensor:
        """Prompts of one foreground point each, for `decoder`: (n, 1, 2) as x and y of the model's input."""
        height, width = self._find_inside(size)
        return self._scale(points[:, None], (width / size[1], height / size[0]))

    def decoder(
        self, image: PreparedImage, prompts: Tensor, wanted: WantedMasks, min_score: float
    ) -> tuple[Tensor, Tensor]:
        """Decode points from `embed_points`: logits (n, k, S, S) and predicted IoUs (n, k)."""
        labels = torch.ones(1, *prompts.shape[:2], dtype=torch.int64, device=prompts.device)
        return self._decode(image, {"input_points": prompts[None], "input_labels": labels}, wanted, min_score)

    def _find_inside(self, size: Sequence[int]) -> tuple[int, int]:
        """(height, width) of an image of this size in the model's input.

        Raises:
            ImageError: the shorter side would be less than a pixel.
        """
        if not self.family.pads:
            return self.side, self.side
        scale = self.side / max(size)
        height, width = int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)
        if min(height, width) < 1:
            raise ImageError(f"{size[1]}×{size[0]} pixels are too long and narrow for SAM")
        return height, width

    def _scale(self, points: npt.NDArray[np.float64], scale: tuple[float, float]) -> Tensor:
        scaled = torch.from_numpy(points).to(self._precision)
        for axis in (0, 1):
            scaled[..., axis] *= scale[axis]
        return scaled.to(self.model.device)

    def _compute(
        self, image: PreparedImage, upsampler: Upsampler, prompts: Sequence[Prompt], wanted: WantedMasks
    ) -> list[list[Mask]]:
        """The masks of prompts of one kind."""
        points, labels, boxes = stack_prompts(prompts)
        given: dict[str, Tensor] = {}
        if points is not None and labels is not None:
            given["input_points"] = self._scale(points, image.scale)[None]
            given["input_labels"] = torch.from_numpy(labels)[None].to(self.model.device)
        if boxes is not None:
            given["input_boxes"] = self._scale(boxes.reshape(-1, 2, 2), image.scale).flatten(1)[None]
        logits, scores = self._decode(image, given, wanted)
        logits, scores = logits.cpu(), scores.cpu()

        def make_masks(row: int) -> list[Mask]:
            found = zip(logits[row], scores[row], strict=True)
            return [self._make_mask(upsampler, one, float(score), prompts[row]) for one, score in found]

        return self.mask_threads.map(make_masks, range(len(prompts)))

    def close(self) -> None:
        """End the threads; it cannot be used afterwards."""
        self.threads.close()
        self.mask_threads.close()

    def _decode(
        self, image: PreparedImage, given: dict[str, Tensor], wanted: WantedMasks, min_score: float = -math.inf
    ) -> tuple[Tensor, Tensor]:
        if self.fast is not None and image.features is not None:
            names = ("input_points", "input_labels", "input_boxes", "input_masks")
            with torch.inference_mode():
                sparse = self.model.prompt_encoder(**{name: given.get(name) for name in names})[0][0]
            return self.fast(image.features, sparse, wanted, min_score)
        options: dict[str, Any] = dict(given)
        options["image_embeddings"] = image.embedding[0] if self.family.pads else list(image.embedding)
        if not self.family.keeps_order:  # SAM-HQ
            options |= {"intermediate_embeddings": list(image.embedding[1:]), "hq_token_only": self.hq_token_only}
        with torch.inference_mode():
            answer = self.model(**options, multimask_output=wanted != "one")
        logits, scores = answer.pred_masks[0], answer.iou_scores[0]
        if wanted == "best":
            best = scores.argmax(1)[:, None]
            logits, scores = (
                logits.gather(1, best[..., None, None].expand(-1, 1, *logits.shape[2:])),
                scores.gather(1, best),
            )
        return logits, scores

    def _make_mask(self, upsampler: Upsampler, logits: Tensor, score: float, prompt: Prompt) -> Mask:
        crop = upsampler.crop(logits, THRESHOLD - STABILITY_OFFSET)
        return Mask(
            size=upsampler.size,
            counts=crop.encode_rle(THRESHOLD),
            score=bound_score(score),
            stability=crop.compute_stability(THRESHOLD, STABILITY_OFFSET),
            prompt=prompt,
        )
