"""OmDet-Turbo: each class is a text of its own, and one sentence names them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskmill_plugins._shared.hub.loading import load_pretrained, load_processor
from maskmill_plugins._shared.sam.device import pick_device

from .boxes import join_passes, to_pixels
from .merge import FloatArray
from .questions import split_passes

#: Tokens of a text; transformers' processor cuts off the rest.
MOST_TOKENS = 77
#: The sentence around the classes.
TASK = "Detect {}."


class OmDetTurbo:
    """As many passes as the sentence needs, which transformers' processor would cut off."""

    def __init__(self, folder: Path, classes: Mapping[str, str], device: str) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self.model = load_pretrained(AutoModelForZeroShotObjectDetection, folder, pick_device(device))
        self.processor = load_processor(AutoProcessor, folder)
        labels = list(classes)
        room = min(MOST_TOKENS, self.model.config.text_config.max_position_embeddings)
        frame = self._count(TASK.format(""))
        lengths = {label: self._count(f", {text}") - self._count("") for label, text in classes.items()}
        self.classes = len(labels)
        self.passes: list[tuple[list[int], dict[str, Any]]] = []
        for group in split_passes(lengths, room - frame):
            texts = [classes[label] for label in group]
            self.passes.append(([labels.index(label) for label in group], self._encode(texts, room)))
        # The model keeps the texts' features; with all of them, they are computed once and the same for every image.
        self.model.language_cache_class.capacity = len(labels)
        self.model.language_cache_prompt.capacity = len(self.passes)

    def _count(self, text: str) -> int:
        return len(self.processor.tokenizer(text)["input_ids"])

    def _encode(self, texts: list[str], room: int) -> dict[str, Any]:
        import torch

        encoded: dict[str, Any] = {"classes_structure": torch.tensor([len(texts)])}
        for name, lines in (("classes", texts), ("tasks", [TASK.format(", ".join(texts))])):
            tokens = self.processor.tokenizer(lines, padding="max_length", max_length=room, return_tensors="pt")
            for key in ("input_ids", "attention_mask"):
                encoded[f"{name}_{key}"] = tokens[key]
        return {name: tensor.to(self.model.device) for name, tensor in encoded.items()}

    def detect(self, pixels: npt.NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
        """See `Detector.detect`."""
        import torch

        height, width = pixels.shape[:2]
        found = []
        with torch.inference_mode():
            picture = self.processor.image_processor(pixels, return_tensors="pt", input_data_format="channels_last").to(
                self.model.device
            )
            for columns, encoded in self.passes:
                output = self.model(pixel_values=picture["pixel_values"], **encoded)
                scores = output.decoder_class_logits[0].sigmoid().double().cpu().numpy()
                boxes = to_pixels(output.decoder_coord_logits[0], width, height)
                found.append((columns, boxes, scores[:, : len(columns)]))
        return join_passes(found, self.classes)
