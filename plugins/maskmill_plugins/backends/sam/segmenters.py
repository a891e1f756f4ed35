"""Two ways from pixels and prompts to masks: `segment_anything`'s own, and the fast one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from maskmill import ImageError, Mask, Prompt
from maskmill.masks import stability_score

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam as SamModel

    from .decoder import ImageSide, Wanted
    from .upsample import Upsampler

FloatArray = npt.NDArray[np.float32]
PixelArray = npt.NDArray[np.uint8]
Multimask = Literal["auto", "all", "off"]

#: How far the stability score moves the threshold, up and down.
STABILITY_OFFSET = 1.0
#: Prompts decoded together on a GPU. On a CPU one after another is as fast, and then no
#: prompt's rounding depends on its neighbours.
PROMPTS_ON_GPU = 64


class Segmenter(Protocol):
    """What the stage needs of either way."""

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

    def everything(self, embedding: FloatArray, pixels: PixelArray, prompt: Prompt) -> list[Mask]:
        """All masks of a photo, as `SamAutomaticMaskGenerator` finds them.

        Args:
            embedding: from `embed`.
            pixels: the photo, uint8 (H, W, 3) RGB.
            prompt: with a `grid`.
        """


class StockSegmenter:
    """`segment_anything`'s `SamPredictor`, bit for bit.

    Args:
        sam: the model, on its device.
    """

    def __init__(self, sam: SamModel) -> None:
        from segment_anything import SamPredictor

        self.sam = sam
        self.predictor = SamPredictor(sam)

    def embed(self, pixels: PixelArray) -> FloatArray:
        """See `Segmenter.embed`."""
        input_size(self.predictor.transform, pixels.shape[:2])
        self.predictor.set_image(pixels)
        embedding: FloatArray = self.predictor.features.cpu().numpy()
        self.predictor.reset_image()
        return embedding

    def masks(
        self, embedding: FloatArray, size: tuple[int, int], prompts: Sequence[Prompt], multimask: Multimask
    ) -> list[Mask]:
        """See `Segmenter.masks`."""
        self._set_embedding(embedding, size)
        found = [mask for prompt in prompts for mask in self._answer(prompt, multimask)]
        self.predictor.reset_image()
        return found

    def everything(self, embedding: FloatArray, pixels: PixelArray, prompt: Prompt) -> list[Mask]:
        """See `Segmenter.everything`; the original has no use for the embedding."""
        from segment_anything import SamAutomaticMaskGenerator

        assert prompt.grid is not None, "only prompts with a grid come here"
        generator = SamAutomaticMaskGenerator(self.sam, output_mode="coco_rle", **asdict(prompt.grid))
        return [
            Mask(
                size=(pixels.shape[0], pixels.shape[1]),
                counts=record["segmentation"]["counts"],
                score=float(record["predicted_iou"]),
                stability=float(np.nan_to_num(record["stability_score"])),  # of an empty mask it is not a number
                prompt=prompt,
            )
            for record in generator.generate(pixels)
        ]

    def _set_embedding(self, embedding: FloatArray, size: tuple[int, int]) -> None:
        """Put the predictor into the state that `set_image` leaves it in."""
        import torch

        predictor = self.predictor
        predictor.reset_image()
        predictor.original_size = size
        predictor.input_size = input_size(predictor.transform, size)
        predictor.features = torch.as_tensor(embedding, device=predictor.device)
        predictor.is_image_set = True

    def _answer(self, prompt: Prompt, multimask: Multimask) -> list[Mask]:
        wanted = masks_wanted(prompt, multimask)
        points, labels, box = as_arrays([prompt])
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
                score=float(scores[index]),
                stability=stability_score(logits[index], threshold, STABILITY_OFFSET),
                prompt=prompt,
            )
            for index in ([int(np.argmax(scores))] if wanted == "best" else range(len(scores)))
        ]


class FastSegmenter:
    """The same masks, but for pixels whose logit is within rounding of the threshold.

    Args:
        sam: the model, on its device; its weights are shared, so they must not move.
        prompts_at_a_time: how many are decoded together; None leaves the choice to the device.
    """

    def __init__(self, sam: SamModel, prompts_at_a_time: int | None = None) -> None:
        from segment_anything.utils.transforms import ResizeLongestSide

        from .decoder import FastDecoder
        from .encoder import FastEncoder

        self.sam = sam
        self.transform = ResizeLongestSide(sam.image_encoder.img_size)
        self.encoder = FastEncoder(sam.image_encoder)
        self.decoder = FastDecoder(sam)
        self.threshold: float = sam.mask_threshold
        self.prompts_at_a_time = prompts_at_a_time or (1 if sam.device.type == "cpu" else PROMPTS_ON_GPU)

    def embed(self, pixels: PixelArray) -> FloatArray:
        """See `Segmenter.embed`."""
        import torch

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

    def everything(self, embedding: FloatArray, pixels: PixelArray, prompt: Prompt) -> list[Mask]:
        """See `Segmenter.everything`."""
        from .everything import everything

        return everything(self, pixels, embedding, prompt)

    def prepare(self, embedding: FloatArray, size: tuple[int, int]) -> tuple[ImageSide, Upsampler]:
        """What all prompts of a photo of this size (height, width) share."""
        import torch

        from .upsample import Upsampler

        image = self.decoder.image_side(torch.as_tensor(embedding, device=self.sam.device))
        side, inside = self.transform.target_length, input_size(self.transform, size)
        return image, Upsampler(4 * embedding.shape[-1], side, inside, size)

    def embed_points(self, points: npt.NDArray[np.float64], size: tuple[int, int]) -> torch.Tensor:
        """Sparse embeddings (n, tokens, C) of one foreground point each.

        Args:
            points: float64 (n, 2), x and y in pixels.
            size: (height, width) of the photo.
        """
        import torch

        scaled = torch.as_tensor(self.transform.apply_coords(points, size), device=self.sam.device)[:, None]
        labels = torch.ones(scaled.shape[:2], dtype=torch.int, device=self.sam.device)
        with torch.inference_mode():
            sparse: torch.Tensor = self.sam.prompt_encoder(points=(scaled, labels), boxes=None, masks=None)[0]
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

    def _embed_prompts(self, prompts: Sequence[Prompt], size: tuple[int, int]) -> torch.Tensor:
        """The prompt encoder's sparse embeddings, (n, tokens, C), scaled as `SamPredictor.predict` does."""
        import torch

        points, labels, boxes = as_arrays(prompts)

        def tensor(array: npt.NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
            return torch.as_tensor(array, dtype=dtype, device=self.sam.device)

        given = None
        if points is not None and labels is not None:
            given = (tensor(self.transform.apply_coords(points, size), torch.float), tensor(labels, torch.int))
        corners = None if boxes is None else tensor(self.transform.apply_boxes(boxes, size), torch.float)
        with torch.inference_mode():
            sparse: torch.Tensor = self.sam.prompt_encoder(points=given, boxes=corners, masks=None)[0]
        return sparse


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
    if multimask == "all":
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
