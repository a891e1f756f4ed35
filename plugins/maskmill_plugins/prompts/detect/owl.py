"""OWLv2 and OWL-ViT: each class is a text of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from maskmill import PipelineError
from maskmill_plugins._shared.hub.loading import load_pretrained, load_processor
from maskmill_plugins._shared.sam.device import pick_device

from .boxes import to_pixels
from .merge import FloatArray
from .questions import check_known, describe_too_long


class Owl:
    """All classes are asked for at once, however many there are."""

    def __init__(self, folder: Path, classes: Mapping[str, str], device: str) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self.model = load_pretrained(AutoModelForZeroShotObjectDetection, folder, pick_device(device))
        self.processor = load_processor(AutoProcessor, folder)
        #: OWLv2 sees the picture padded to a square, at its lower and right side; OWL-ViT sees it squeezed.
        self.padded = self.model.config.model_type == "owlv2"
        tokenizer, room = self.processor.tokenizer, self.model.config.text_config.max_position_embeddings
        tokens = {label: tokenizer(question)["input_ids"] for label, question in classes.items()}
        if problems := [describe_too_long(label, len(ids), room) for label, ids in tokens.items() if len(ids) > room]:
            raise PipelineError(*problems)
        unknown = -1 if tokenizer.unk_token_id in tokenizer("")["input_ids"] else tokenizer.unk_token_id
        check_known(list(classes), lambda label: ((ids := tokens[label][1:-1]).count(unknown), len(ids)))
        encoded = tokenizer(list(classes.values()), padding="max_length", max_length=room, return_tensors="pt")
        self.text = {name: encoded[name].to(self.model.device) for name in ("input_ids", "attention_mask")}

    def detect(self, pixels: npt.NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
        """See `Detector.detect`."""
        import torch

        height, width = pixels.shape[:2]
        if self.padded:
            height = width = max(height, width)
        with torch.inference_mode():
            picture = self.processor.image_processor(pixels, return_tensors="pt", input_data_format="channels_last").to(
                self.model.device
            )
            output = self.model(pixel_values=picture["pixel_values"], **self.text)
        scores: FloatArray = output.logits[0].sigmoid().double().cpu().numpy()
        return to_pixels(output.pred_boxes[0], width, height), scores
