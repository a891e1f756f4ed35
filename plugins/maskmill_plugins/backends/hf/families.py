"""The kinds of models that the backend `hf` computes, by the `model_type` of their config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from maskmill import PipelineError, Problem

GB = 1_000_000_000
Task = Literal["auto", "instances", "concepts"]


@dataclass(frozen=True, slots=True)
class Family:
    """How models of one kind are loaded and used.

    Attributes:
        model: its class in transformers.
        image_processor: the class in transformers that prepares pictures.
        pads: the picture keeps its shape and is padded to a square; else it is squeezed into one.
        has_generator: its authors published a generator of all masks, which defines everything mode.
        keeps_order: its three candidates have a fixed order, so that `pick` means something.
        has_fast_decoder: our decoder computes what the model's own does.
        memory: bytes that a process needs beside the weights, measured on a CPU.
    """

    model: str
    image_processor: str
    pads: bool = False
    has_generator: bool = False
    keeps_order: bool = True
    has_fast_decoder: bool = True
    memory: int = 2 * GB


_SAM = Family("SamModel", "SamImageProcessor", pads=True, has_generator=True, memory=int(2.6 * GB))
_SAM_HQ = Family(
    "SamHQModel", "SamImageProcessor", pads=True, keeps_order=False, has_fast_decoder=False, memory=int(2.6 * GB)
)
_SAM2 = Family("Sam2Model", "Sam2ImageProcessor", has_generator=True, memory=int(1.6 * GB))
_EDGETAM = Family("EdgeTamModel", "Sam2ImageProcessor", has_generator=True, memory=int(1.2 * GB))
_SAM3_TRACKER = Family("Sam3TrackerModel", "Sam3ImageProcessor")
_SAM3 = Family("Sam3Model", "Sam3ImageProcessor", has_fast_decoder=False)

#: Models that make a mask of each box or set of points. What is published as a model for video, as all SAM 2.1 are,
#: contains the model for images.
INSTANCES: Mapping[str, Family] = {
    "sam": _SAM,
    "sam_hq": _SAM_HQ,
    "sam2": _SAM2,
    "sam2_video": _SAM2,
    "edgetam": _EDGETAM,
    "edgetam_video": _EDGETAM,
    "sam3_tracker": _SAM3_TRACKER,
    "sam3_tracker_video": _SAM3_TRACKER,
    "sam3_video": _SAM3_TRACKER,
    "sam3": _SAM3_TRACKER,
}
#: Models that find all objects of a text.
CONCEPTS: Mapping[str, Family] = {"sam3": _SAM3, "sam3_video": _SAM3}


def find_family(config: Mapping[str, Any], name: str, task: Task) -> tuple[Family, bool]:
    """The family of a model, and whether it works on texts.

    Args:
        config: the model's config.json.
        name: of the model, for messages.
        task: the option of this name.

    Raises:
        PipelineError: models of this kind are not supported, or not for this task.
    """
    kind = str(config.get("model_type"))
    if kind not in INSTANCES:
        supported = ", ".join(INSTANCES)
        text = f"{name} is a model of type {kind!r}, which the backend hf does not support"
        raise PipelineError(Problem(text, hint=f"it supports the model types {supported}"))
    if task == "concepts" and kind not in CONCEPTS:
        text = f"task: concepts needs a model that understands texts, and {name} is of type {kind!r}"
        raise PipelineError(Problem(text, hint="use a SAM 3 model, such as facebook/sam3, or remove `task`"))
    is_concepts = task == "concepts" or (task == "auto" and kind in CONCEPTS)
    return (CONCEPTS if is_concepts else INSTANCES)[kind], is_concepts
