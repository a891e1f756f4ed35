"""Where a model computes."""

from __future__ import annotations

import importlib.util
import runpy
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from maskmill import PipelineError, Problem

if TYPE_CHECKING:
    import torch

#: The option of this name.
Device = Literal["auto", "cpu", "cuda", "mps"]
#: How precisely an encoder computes.
Precision = Literal["float32", "bfloat16", "float16"]


def may_use_cuda(wanted: str) -> bool:
    """Whether this option can mean a CUDA device; does not import torch.

    A build of PyTorch for NVIDIA's GPUs names their version in `torch/version.py`, which needs no other module.
    """
    spec = importlib.util.find_spec("torch") if wanted in ("auto", "cuda") else None
    version = Path(spec.origin).with_name("version.py") if spec is not None and spec.origin else None
    return version is not None and version.is_file() and bool(runpy.run_path(str(version)).get("cuda"))


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


def compute_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Within it, torch computes in this precision where that is safe (autocast); weights stay in single precision."""
    import torch

    return nullcontext() if precision == "float32" else torch.autocast(device.type, getattr(torch, precision))
