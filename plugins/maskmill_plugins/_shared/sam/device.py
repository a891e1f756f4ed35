"""Where a model computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from maskmill import PipelineError, Problem

if TYPE_CHECKING:
    import torch

#: The option of this name.
Device = Literal["auto", "cpu", "cuda", "mps"]


def pick_device(wanted: str) -> torch.device:
    """The device to compute on.

    Raises:
        PipelineError: it is not available here.
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        wanted = next(name for name, there in available.items() if there)
    if not available[wanted]:
        there = ", ".join(name for name in available if available[name])
        raise PipelineError(
            Problem(f"PyTorch finds no {wanted} device on this machine, only {there}", hint="device: auto")
        )
    return torch.device(wanted)
