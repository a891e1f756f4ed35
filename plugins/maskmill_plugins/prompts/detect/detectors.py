"""The families of detectors: which model types they are, and what a user has to know about each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from maskmill import Problem
from maskmill.plugins.stage import Network

from .merge import FloatArray


class Detector(Protocol):
    """A loaded model that knows what it is asked for."""

    def detect(self, pixels: npt.NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
        """What the model finds in a picture, without any threshold.

        Args:
            pixels: uint8 (H, W, 3) RGB.

        Returns:
            Boxes (n, 4), left, top, right, bottom in pixels, and the scores of each class (n, classes), 0 to 1,
            the classes in the order of the user.
        """


class DetectorModel(Protocol):
    """A model by its name in the pipeline, not loaded yet."""

    @property
    def requires(self) -> tuple[str, ...]:
        """Packages it needs."""

    @property
    def extra(self) -> str:
        """The extra of maskmill that installs them."""

    def check_files(self) -> list[Problem]:
        """What is wrong with its files, or a warning that they will be downloaded."""

    def check_classes(self, classes: Mapping[str, str]) -> list[Problem]:
        """What is wrong with the model, or with what is asked for each label, as far as this can be known.

        Raises:
            PipelineError: the files cannot be read.
        """

    def reaches(self) -> Network:
        """The internet, if it has to be downloaded."""

    def download(self, say: Callable[[str], None]) -> bool:
        """Download it if it is not on this machine; whether that was necessary.

        Raises:
            PipelineError: it cannot be downloaded.
        """

    def compute_id(self) -> str:
        """SHA-256 over its files; "" as long as it has to be downloaded."""

    def estimate_memory(self) -> int | None:
        """Peak bytes of a worker; None if unknown."""

    def load(self, classes: Mapping[str, str], device: str) -> tuple[Detector, float]:
        """The detector, with what it is asked for, and the usual lowest score of its boxes.

        Args:
            classes: what to ask for each label.
            device: auto, cpu, cuda or mps.

        Raises:
            PipelineError: it cannot be loaded, or cannot take these questions.
        """


@dataclass(frozen=True, slots=True)
class Family:
    """What is common to the detectors of one architecture.

    Attributes:
        threshold: usual lowest score of a box.
        memory: peak bytes of a worker, beside the weights, measured on a CPU with published sizes.
        fixed: whether it finds only the classes it was trained on.
    """

    threshold: float
    memory: int
    fixed: bool = False


_DINO = Family(0.3, 2_400_000_000)
_OWL = Family(0.2, 1_200_000_000)
_OMDET = Family(0.3, 1_100_000_000)
_COCO = Family(0.5, 1_200_000_000, fixed=True)
#: By `model_type` in config.json. LLMDet is of the type `mm-grounding-dino`.
FAMILIES: Mapping[str, Family] = {
    "grounding-dino": _DINO,
    "mm-grounding-dino": _DINO,
    "omdet-turbo": _OMDET,
    "owlv2": _OWL,
    "owlvit": _OWL,
    **dict.fromkeys(("conditional_detr", "d_fine", "deformable_detr", "detr", "rt_detr", "rt_detr_v2", "yolos"), _COCO),
}


def needs_timm(config: Mapping[str, Any]) -> bool:
    """Whether a model has a backbone of the package `timm`."""
    backbone = config.get("backbone_config")
    if backbone is None and config.get("use_timm_backbone") is None:
        return config.get("model_type") == "omdet-turbo"  # its default
    return bool(config.get("use_timm_backbone")) or str((backbone or {}).get("model_type")).startswith("timm")


def load_detector(folder: Path, config: Mapping[str, Any], classes: Mapping[str, str], device: str) -> Detector:
    """Load a detector and hand it what it is asked for.

    Args:
        folder: with all files of the model.
        config: content of its config.json, of a type in `FAMILIES`.
        classes: what to ask for each label.
        device: auto, cpu, cuda or mps.

    Raises:
        PipelineError: it cannot be loaded, or cannot take these questions.
    """
    family = FAMILIES[config["model_type"]]
    if family.fixed:
        from .fixed_classes import FixedClasses

        return FixedClasses(folder, config, classes, device)
    if family is _DINO:
        from .grounding_dino import GroundingDino

        return GroundingDino(folder, classes, device)
    if family is _OMDET:
        from .omdet_turbo import OmDetTurbo

        return OmDetTurbo(folder, classes, device)
    from .owl import Owl

    return Owl(folder, classes, device)
