"""All objects of a text, or like those in some boxes, by SAM 3.

Reference: Carion et al., SAM 3: Segment Anything with Concepts, arXiv:2511.16719.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cachetools
import numpy as np
import torch
from torch import Tensor

from maskmill import Mask, Prompt, PromptError
from maskmill_plugins._shared.hub import loading
from maskmill_plugins._shared.sam.device import Precision, compute_in
from maskmill_plugins._shared.sam.prompts import FloatArray, PixelArray, bound_score
from maskmill_plugins._shared.sam.upsample import Upsampler

#: SAM 3 makes masks of probabilities.
THRESHOLD = 0.5
#: The same shift of the threshold, in logits, as for SAM's stability score.
STABILITY_OFFSET = 1 / (1 + float(np.exp(-1.0))) - THRESHOLD
#: The text that stands for "like those in the boxes", as in the model's own code.
LIKE_THESE = "visual"
#: Texts whose features are kept.
TEXTS = 256
#: Share of the model's queries above which objects have probably been missed.
NEARLY_ALL = 0.9


def load_processor(folder: Path) -> Any:
    """What prepares pictures and texts for the model; see `_shared.hub.loading.load_processor`."""
    import transformers

    return loading.load_processor(transformers.Sam3Processor, folder)


class ConceptSegmenter:
    """Finds what transformers finds in the same picture for the same text.

    Args:
        model: a `Sam3Model` on its device.
        processor: of the model.
        threshold: lowest score of an object.
        precision: of the image encoder.
    """

    def __init__(self, model: Any, processor: Any, threshold: float, precision: Precision = "float32") -> None:
        self.model = model
        self.processor = processor
        self.threshold = threshold
        self.precision = precision
        self._texts: cachetools.LRUCache[str, tuple[Any, Tensor]] = cachetools.LRUCache(TEXTS)
        self._positions: tuple[Tensor | None, ...] = ()

    def embed(self, pixels: PixelArray) -> list[FloatArray]:
        """Encode an image, once for all texts: three float32 arrays.

        Args:
            pixels: uint8 (H, W, 3) RGB.
        """
        inputs = self.processor.image_processor(
            images=np.array(pixels), return_tensors="pt", input_data_format="channels_last"
        )
        with torch.inference_mode(), compute_in(self.precision, self.model.device):
            made = self.model.get_vision_features(inputs["pixel_values"].to(self.model.device))
        return [part.float().cpu().numpy() for part in made.fpn_hidden_states[:-1]]  # the model never uses the last one

    def masks(
        self,
        embedding: Sequence[FloatArray],
        size: tuple[int, int],
        prompts: Sequence[Prompt],
        report: Callable[[str], None],
    ) -> list[Mask]:
        """The objects of each text, in the prompts' order and then the model's.

        Args:
            embedding: from `embed`.
            size: (height, width) of the image.
            prompts: each with a text, exemplars, or both.
            report: takes a line about objects that may be missing.

        Raises:
            PromptError: a text is too long for the model.
        """
        seen = self._restore(embedding)
        return [mask for prompt in prompts for mask in self._find(seen, size, prompt, report)]

    def close(self) -> None:
        """There is nothing to end."""

    def _restore(self, embedding: Sequence[FloatArray]) -> Any:
        """The encoder's output; its positions depend on nothing but the shapes, and are computed once."""
        from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

        parts = [torch.from_numpy(np.require(part, requirements="W")).to(self.model.device) for part in embedding]
        if not self._positions:
            encode = self.model.vision_encoder.neck.position_encoding
            with torch.inference_mode():
                made = [encode(part.shape, part.device, part.dtype) for part in parts]
            self._positions = (*made, None)
        return Sam3VisionEncoderOutput(fpn_hidden_states=(*parts, None), fpn_position_encoding=self._positions)

    def _find(self, seen: Any, size: tuple[int, int], prompt: Prompt, report: Callable[[str], None]) -> Iterator[Mask]:
        text, mask = self._embed_text(prompt.text or LIKE_THESE)
        boxes = self._normalise_boxes(prompt, size)
        with torch.inference_mode():
            answer = self.model(vision_embeds=seen, text_embeds=text, attention_mask=mask, **boxes)
            scores = answer.pred_logits[0].sigmoid()
            if answer.presence_logits is not None:
                scores = scores * answer.presence_logits[0].sigmoid()
            chosen = (scores > self.threshold).nonzero()[:, 0]
            if len(chosen) >= NEARLY_ALL * len(scores):
                what = repr(prompt.text) if prompt.text else "like the exemplars"
                report(f"{what}: {len(chosen)} objects, and the model finds {len(scores)} at most")
            logits = answer.pred_masks[0][chosen].cpu()
        # SAM 3's logits are as wide as high; transformers upscales probabilities, in one step.
        side = logits.shape[-1]
        upsampler = Upsampler(side, side, (side, side), size)
        for one, score in zip(logits, scores[chosen].tolist(), strict=True):
            crop = upsampler.crop(one.sigmoid(), THRESHOLD - STABILITY_OFFSET)
            yield Mask(
                size=size,
                counts=crop.encode_rle(THRESHOLD),
                score=bound_score(score),
                stability=crop.compute_stability(THRESHOLD, STABILITY_OFFSET),
                prompt=prompt,
            )

    def _normalise_boxes(self, prompt: Prompt, size: tuple[int, int]) -> dict[str, Tensor]:
        """The exemplars as the model takes them: centre, width and height as fractions of the image."""
        if not prompt.exemplars:
            return {}
        boxes = torch.tensor([each.box.xyxy for each in prompt.exemplars], dtype=torch.float32)
        boxes /= torch.tensor([size[1], size[0]] * 2)
        near, far = boxes[:, :2], boxes[:, 2:]
        labels = torch.tensor([[each.label for each in prompt.exemplars]])
        given = {"input_boxes": torch.cat([(near + far) / 2, far - near], dim=1)[None], "input_boxes_labels": labels}
        return {name: value.to(self.model.device) for name, value in given.items()}

    def _embed_text(self, text: str) -> tuple[Any, Tensor]:
        """The features of a text, and which of its tokens count."""
        if text not in self._texts:
            longest = self.model.config.text_config.max_position_embeddings
            tokens = self.processor.tokenizer(text)["input_ids"]
            if len(tokens) > longest:
                problem = f"the text {text!r} has {len(tokens)} tokens, and SAM 3 reads {longest} at most"
                raise PromptError(f"{problem}; use fewer words")
            inputs = self.processor(text=text, return_tensors="pt").to(self.model.device)
            with torch.inference_mode():
                features = self.model.get_text_features(**inputs)
            self._texts[text] = features, inputs["attention_mask"]
        return self._texts[text]
