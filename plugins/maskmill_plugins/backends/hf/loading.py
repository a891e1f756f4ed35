"""Loading a model of the SAM family and what prepares pictures for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskmill_plugins._shared.hub.loading import load_pretrained, load_processor

from .families import Family

if TYPE_CHECKING:
    import torch


def load_model(folder: Path, family: Family, device: torch.device) -> Any:
    """The model in evaluation mode, in single precision; see `load_pretrained`."""
    import transformers

    return load_pretrained(getattr(transformers, family.model), folder, device, attn_implementation="sdpa")


def load_image_processor(folder: Path, family: Family) -> Any:
    """What prepares pictures for the model; see `load_processor`."""
    import transformers

    return load_processor(getattr(transformers, family.image_processor), folder)
