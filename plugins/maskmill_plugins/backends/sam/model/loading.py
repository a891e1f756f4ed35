"""Loading a checkpoint file into a model: weights are memory-mapped, and no pickled code is executed."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskmill import PipelineError, Problem

from ..weights.published import MODELS

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam as SamModel

Weights = dict[str, "torch.Tensor"]

#: Keys under which training scripts store the model beside an optimizer and the like.
WRAPPER_KEYS = ("model", "state_dict", "model_state_dict")
#: Prefix that torch's parallel wrappers add to each name.
PARALLEL_PREFIX = "module."


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


def load_model(model: str, checkpoint: Path) -> SamModel:
    """Build a model with the weights of a file.

    The weights are memory-mapped, not copied, so all worker processes share one copy.

    Args:
        model: a key of `MODELS`.
        checkpoint: a `.pth` or `.safetensors` file.

    Raises:
        PipelineError: the file cannot be read, contains more than weights, or has weights of another model.
    """
    weights = read_weights(checkpoint)
    sam = _build_empty(model)
    if mismatch := _find_mismatch(sam, weights):
        others = [name for name in MODELS if name != model and not _find_mismatch(_build_empty(name), weights)]
        if others:
            raise PipelineError(
                Problem(
                    f"{checkpoint} has the weights of {others[0]}, not of {model}", hint=f"write `model: {others[0]}`"
                )
            )
        raise PipelineError(Problem(f"{checkpoint} does not match the model SAM {model}: {mismatch}"))
    sam.load_state_dict(weights, assign=True)
    return sam.eval().requires_grad_(False)


def _build_empty(model: str) -> SamModel:
    """The model without memory for its weights."""
    import segment_anything
    import torch

    with torch.device("meta"):
        return segment_anything.sam_model_registry[model](None)


def _find_mismatch(sam: SamModel, weights: Weights) -> str:
    """The first difference between these weights and those the model expects, "" if there is none."""
    expected = {name: tuple(tensor.shape) for name, tensor in sam.state_dict().items()}
    for name, shape in expected.items():
        if name not in weights:
            return f"{name} is missing"
        if tuple(weights[name].shape) != shape:
            return f"{name} has the shape {list(weights[name].shape)}, not {list(shape)}"
    extra = sorted(set(weights) - set(expected))
    return f"{extra[0]} is unknown" if extra else ""


def read_weights(path: Path) -> Weights:
    """Read the tensors of a checkpoint file by name, memory-mapped.

    Only data is read: a file that would run code when unpickled is refused.

    Raises:
        PipelineError: the file cannot be read as a checkpoint, or contains more than weights.
    """
    try:
        weights = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except pickle.UnpicklingError as error:
        # torch's message recommends unsafe loading, so only the offending name is taken from it.
        name = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it contains {name[1]}, but only weights are allowed" if name else "it was not written by torch.save"
        raise PipelineError(Problem(f"the checkpoint {path} is refused: {reason}")) from None
    except ImportError as error:
        text = f"reading the checkpoint {path} needs the package {error.name!r}"
        raise PipelineError(Problem(text, hint='pip install "maskmill[sam]"')) from None
    except Exception as error:  # damaged files raise almost any exception
        reason = str(error).strip().split(". ")[0] or type(error).__name__
        text = f"the checkpoint {path} cannot be read: {reason}"
        raise PipelineError(Problem(text, hint=_suggest_download(path))) from None
    tensors = _extract_tensors(weights)
    if not tensors:
        raise PipelineError(Problem(f"{path} is not a checkpoint of SAM: it has no named tensors"))
    return tensors


def _suggest_download(path: Path) -> str:
    """A hint for a file with a published name but the wrong size, "" for any other file."""
    name, published = next(((name, one) for name, one in MODELS.items() if one.file == path.name), ("", None))
    if published is None or not path.is_file() or path.stat().st_size == published.bytes:
        return ""
    size = f"it has {path.stat().st_size} bytes, the published file has {published.bytes}"
    return f"{size}: delete it, then run: maskmill weights pull {name}"


def _extract_tensors(data: Any) -> Weights:
    """The model's weights in a training script's file, which may store them beside other things; {} if none."""
    import torch

    if not isinstance(data, dict):
        return {}
    inner = next((data[name] for name in WRAPPER_KEYS if isinstance(data.get(name), dict)), data)
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in inner.items()):
        return {}
    # Single precision and contiguous. Published weights are both already, so they stay memory-mapped.
    return {name.removeprefix(PARALLEL_PREFIX): tensor.float().contiguous() for name, tensor in inner.items()}


def _read_torch(path: Path) -> Any:
    import torch

    # Files in torch's older format are not zip archives and cannot be memory-mapped.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)
