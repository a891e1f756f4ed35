"""Loading a model of the SAM family and what prepares pictures for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskmill_plugins._shared.hub.loading import load_pretrained, load_processor

from .families import CONCEPTS, Family


class NoPositions(nn.Module):
    """In place of the positions that SAM 2's neck computes for the memory of videos, and nothing else uses."""

    def forward(
        self, shape: torch.Size, device: torch.device, dtype: torch.dtype, mask: Tensor | None = None
    ) -> Tensor:
        """No numbers, in as many dimensions as the features have."""
        return torch.empty(*shape[:2], 0, 0, device=device, dtype=dtype)


def load_model(folder: Path, family: Family, device: torch.device) -> Any:
    """The model in evaluation mode, in single precision; see `load_pretrained`."""
    import transformers

    model = load_pretrained(getattr(transformers, family.model), folder, device, attn_implementation="sdpa")
    neck: Any = getattr(model.vision_encoder, "neck", None)
    if family not in CONCEPTS.values() and hasattr(neck, "position_encoding"):
        neck.position_encoding = NoPositions()
    return model


def fuse_branches(model: Any) -> None:
    """Make one convolution of the branches of each layer in EdgeTAM's encoder, as RepViT is meant to be used.

    The numbers differ by rounding. Convolutions of a CPU are faster with the channels last.

    Reference: Wang et al., RepViT, arXiv:2307.09283, section 3.
    """
    from timm.utils.model import reparameterize_model

    backbone = model.vision_encoder.backbone
    backbone.timm_model = reparameterize_model(backbone.timm_model)
    model.vision_encoder.to(memory_format=torch.channels_last)


def load_image_processor(folder: Path, family: Family) -> Any:
    """What prepares pictures for the model; see `load_processor`."""
    import transformers

    return load_processor(getattr(transformers, family.image_processor), folder)
