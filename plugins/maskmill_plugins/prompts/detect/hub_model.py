"""A detector of the transformers library: a model of the hub, or a folder with its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from maskmill import PipelineError, Problem
from maskmill.plugins.packages import is_installed
from maskmill.plugins.stage import Network
from maskmill.plugins.threads import worker_threads
from maskmill_plugins._shared.hub.download import download_model
from maskmill_plugins._shared.hub.identity import compute_model_id
from maskmill_plugins._shared.hub.snapshot import CONFIG, ModelFiles, list_weights, read_json

from .detectors import FAMILIES, Detector, Family, load_detector, needs_timm
from .fixed_classes import check_names, list_names


@dataclass(frozen=True, slots=True)
class HubModel:
    """See `DetectorModel`."""

    requires: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "transformers", "safetensors")
    extra: ClassVar[str] = "hf"

    files: ModelFiles

    def check_files(self) -> list[Problem]:
        """What is wrong with the files, or a warning that they will be downloaded."""
        return self.files.check()

    def check_classes(self, classes: Mapping[str, str]) -> list[Problem]:
        """Whether it is a detector that is known here and has these classes, as far as it is on this machine."""
        config = self.files.read_config()
        if config is None:
            return []
        name, kind = self.files.name, str(config.get("model_type"))
        if kind not in FAMILIES:
            text = f"the model {name} is of the type {kind!r}, which is no detector that is known here"
            return [Problem(text, hint=f"known types: {', '.join(FAMILIES)}")]
        if needs_timm(config) and not is_installed("timm"):
            return [Problem(f"the model {name} needs the package 'timm'", hint='pip install "maskmill[hf]"')]
        if not FAMILIES[kind].fixed:
            return []
        known = list_names(config)
        if not known:
            return [Problem("the config.json of this model has no id2label, so its classes have no names")]
        return check_names(known, classes)

    def reaches(self) -> Network:
        """The internet, if the model has to be downloaded."""
        return self.files.reaches()

    def download(self, say: Callable[[str], None]) -> bool:
        """Download the model if it is not on this machine; whether that was necessary."""
        if self.files.find() is not None:
            return False
        download_model(self.files, say)
        return True

    def compute_id(self) -> str:
        """SHA-256 over the model's files; "" as long as it has to be downloaded."""
        return "" if self.files.find() is None else compute_model_id(self.files.folder())

    def estimate_memory(self) -> int | None:
        """Peak memory of a worker; None before the download."""
        try:
            config = self.files.read_config()
            if config is None or config.get("model_type") not in FAMILIES:
                return None
            weights = sum(path.stat().st_size for path in list_weights(self.files.folder()))
        except (PipelineError, OSError):
            return None
        return self._find_family(config).memory + weights

    def load(self, classes: Mapping[str, str], device: str) -> tuple[Detector, float]:
        """The detector and its usual threshold."""
        import torch

        torch.set_num_threads(worker_threads())
        folder = self.files.folder()
        config = read_json(folder / CONFIG)
        if problems := self.check_classes(classes):
            raise PipelineError(*problems)
        return load_detector(folder, config, classes, device), self._find_family(config).threshold

    @staticmethod
    def _find_family(config: Mapping[str, Any]) -> Family:
        return FAMILIES[config["model_type"]]
