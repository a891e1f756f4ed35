"""Detectors that know the classes of their training only, such as DETR and RT-DETR with the 80 classes of COCO."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from maskmill import Problem
from maskmill.errors import suggest_name
from maskmill_plugins._shared.hub.loading import load_pretrained, load_processor
from maskmill_plugins._shared.sam.device import pick_device

from .merge import FloatArray


class FixedClasses:
    """The classes of the user are chosen among those of the model."""

    def __init__(self, folder: Path, config: Mapping[str, Any], classes: Mapping[str, str], device: str) -> None:
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        self.model = load_pretrained(AutoModelForObjectDetection, folder, pick_device(device))
        self.processor = load_processor(AutoImageProcessor, folder)
        known = list_names(config)
        self.columns = {known[question.lower()]: place for place, question in enumerate(classes.values())}
        self.classes = len(classes)

    def detect(self, pixels: npt.NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
        """See `Detector.detect`."""
        import torch

        with torch.inference_mode():
            picture = self.processor(pixels, return_tensors="pt", input_data_format="channels_last")
            output = self.model(**picture.to(self.model.device))
            size = [pixels.shape[:2]]
            found = self.processor.post_process_object_detection(output, threshold=0.0, target_sizes=size)[0]
        numbers = found["labels"].tolist()
        wanted = [index for index, number in enumerate(numbers) if number in self.columns]
        scores = np.zeros((len(wanted), self.classes))
        scores[range(len(wanted)), [self.columns[numbers[index]] for index in wanted]] = found["scores"][wanted].cpu()
        boxes: FloatArray = found["boxes"][wanted].double().cpu().numpy()
        return boxes, scores


def list_names(config: Mapping[str, Any]) -> dict[str, int]:
    """The number of each class of a model by its name in small letters."""
    names = config.get("id2label") or {}
    return {str(name).lower(): int(number) for number, name in names.items()}


def check_names(known: Mapping[str, int], classes: Mapping[str, str]) -> list[Problem]:
    """A problem for each question that is no class of the model, or that two labels share.

    Args:
        known: the model's classes, in small letters.
        classes: what is asked for each label.
    """
    problems = []
    for label, question in classes.items():
        same = next(other for other, text in classes.items() if text.lower() == question.lower())
        if question.lower() not in known:
            text = f"find: {question!r} is none of the {len(known)} classes that this model knows"
            problems.append(Problem(text, hint=suggest_name(question.lower(), sorted(known))))
        elif same != label:
            problems.append(Problem(f"find: {same!r} and {label!r} ask for the same class, {question!r}"))
    return problems
