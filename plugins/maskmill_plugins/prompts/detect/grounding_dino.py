"""Grounding DINO, MM Grounding DINO and LLMDet: one text names all classes, each token has a score of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskmill_plugins._shared.hub.loading import load_pretrained, load_processor
from maskmill_plugins._shared.sam.device import pick_device

from .boxes import join_passes, to_pixels
from .merge import FloatArray
from .questions import check_known, split_passes

#: Tokens that begin and end a text.
ENDS = 2


class GroundingDino:
    """A class scores as its best token does.

    transformers' own post-processing names a box by joining the tokens above a threshold ("cat dog", "##cycle"); here
    the tokens of each class are known from their places in the text, so that a label is always the user's.
    """

    def __init__(self, folder: Path, classes: Mapping[str, str], device: str) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self.model = load_pretrained(AutoModelForZeroShotObjectDetection, folder, pick_device(device))
        self.processor = load_processor(AutoProcessor, folder)
        tokenizer, labels = self.processor.tokenizer, list(classes)
        phrases = {label: to_phrase(question) for label, question in classes.items()}
        tokens = {label: tokenizer(f"{phrase}.", add_special_tokens=False) for label, phrase in phrases.items()}
        unknown = tokenizer.unk_token_id
        check_known(labels, lambda label: ((ids := tokens[label]["input_ids"][:-1]).count(unknown), len(ids)))
        lengths = {label: len(found["input_ids"]) for label, found in tokens.items()}
        self.classes = len(labels)
        self.passes: list[tuple[list[int], Any, list[list[int]]]] = []
        for group in split_passes(lengths, self.model.config.max_text_len - ENDS):
            text, spans = join_phrases([phrases[label] for label in group])
            encoded = tokenizer(text, return_tensors="pt", return_offsets_mapping=True, return_token_type_ids=True)
            places = find_tokens(encoded.pop("offset_mapping")[0].tolist(), spans)
            self.passes.append(([labels.index(label) for label in group], encoded.to(self.model.device), places))

    def detect(self, pixels: npt.NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
        """See `Detector.detect`."""
        import torch

        height, width = pixels.shape[:2]
        found = []
        with torch.inference_mode():
            picture = self.processor.image_processor(pixels, return_tensors="pt", input_data_format="channels_last").to(
                self.model.device
            )
            for columns, encoded, places in self.passes:
                output = self.model(**picture, **encoded)
                scores = score_classes(output.logits[0].sigmoid(), places)
                found.append((columns, to_pixels(output.pred_boxes[0], width, height), scores))
        return join_passes(found, self.classes)


def to_phrase(question: str) -> str:
    """A question as the text has it: in small letters, without the signs that separate classes."""
    return " ".join(question.lower().replace(".", " ").replace("?", " ").split())


def join_phrases(phrases: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The text that names all classes, "a cat. a dog.", and where each phrase begins and ends in it."""
    text, spans = "", []
    for phrase in phrases:
        spans.append((len(text), len(text) + len(phrase)))
        text += f"{phrase}. "
    return text.rstrip(), spans


def find_tokens(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The tokens of each phrase.

    Args:
        offsets: where each token begins and ends in the text; empty for special tokens.
        spans: of the phrases.
    """
    return [
        [index for index, (begin, end) in enumerate(offsets) if start <= begin < end <= stop] for start, stop in spans
    ]


def score_classes(by_token: Any, places: Sequence[Sequence[int]]) -> FloatArray:
    """The score of each class (queries, classes): that of its best token.

    Args:
        by_token: tensor (queries, tokens), from 0 to 1.
        places: the tokens of each class.
    """
    values = by_token.double().cpu().numpy()
    return np.stack([values[:, list(tokens)].max(axis=1) for tokens in places], axis=1)
