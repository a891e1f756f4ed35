"""From a checkpoint file to a model: weights mapped from the file, never unpickled as code."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskmill import PipelineError, Problem

from ..weights.checkpoints import MODELS

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam as SamModel

Weights = dict[str, "torch.Tensor"]

#: Under which names training scripts keep the model beside an optimizer and the like.
WRAPPERS = ("model", "state_dict", "model_state_dict")
#: What torch's parallel wrappers put before each name.
PARALLEL = "module."


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
        raise PipelineError(Problem(f"PyTorch finds no {wanted} device here, only {there}", hint="device: auto"))
    return torch.device(wanted)


def load_model(model: str, checkpoint: Path) -> SamModel:
    """Build a model and give it the weights of a file.

    The weights are mapped from the file, not copied: processes share one copy of them.

    Args:
        model: a key of `MODELS`.
        checkpoint: a `.pth` or `.safetensors` file.

    Raises:
        PipelineError: the file cannot be read, holds more than weights, or weights of another model.
    """
    weights = read_weights(checkpoint)
    sam = _skeleton(model)
    if misfit := _misfit(sam, weights):
        others = [name for name in MODELS if name != model and not _misfit(_skeleton(name), weights)]
        if others:
            raise PipelineError(
                Problem(f"{checkpoint} holds {others[0]}, not {model}", hint=f"write `model: {others[0]}`")
            )
        raise PipelineError(Problem(f"{checkpoint} holds no weights of SAM {model}: {misfit}"))
    sam.load_state_dict(weights, assign=True)
    return sam.eval().requires_grad_(False)


def architecture(checkpoint: Path) -> str:
    """The key of `MODELS` whose weights a file holds.

    Raises:
        PipelineError: as of `load_model`, and if it fits none of them.
    """
    weights = read_weights(checkpoint)
    misfits = {model: _misfit(_skeleton(model), weights) for model in MODELS}
    for model, misfit in misfits.items():
        if not misfit:
            return model
    raise PipelineError(Problem(f"{checkpoint} holds no weights of SAM: {misfits['vit_b']}"))


def _skeleton(model: str) -> SamModel:
    """The architecture without memory for its weights."""
    import segment_anything
    import torch

    with torch.device("meta"):
        return segment_anything.sam_model_registry[model](None)


def _misfit(sam: SamModel, weights: Weights) -> str:
    """The first reason why these weights do not fit the architecture, "" if they do."""
    wanted = {name: tuple(tensor.shape) for name, tensor in sam.state_dict().items()}
    for name, shape in wanted.items():
        if name not in weights:
            return f"{name} is missing"
        if tuple(weights[name].shape) != shape:
            return f"{name} has the shape {list(weights[name].shape)}, not {list(shape)}"
    extra = sorted(set(weights) - set(wanted))
    return f"{extra[0]} is unknown" if extra else ""


def read_weights(path: Path) -> Weights:
    """The tensors of a checkpoint file by name, mapped from the file.

    Only data is read: a file that would run code when unpickled is refused.

    Raises:
        PipelineError: the file cannot be read as a checkpoint, or holds more than weights.
    """
    try:
        weights = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except pickle.UnpicklingError as error:
        # torch's own text goes on to recommend unsafe loading, so only the offending name is taken from it.
        name = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it holds {name[1]}, and only weights are loaded" if name else "it was not written by torch.save"
        raise PipelineError(Problem(f"the checkpoint {path} is refused: {why}")) from None
    except ImportError as error:
        text = f"the checkpoint {path} cannot be read without the package {error.name!r}"
        raise PipelineError(Problem(text, hint='pip install "maskmill[sam]"')) from None
    except Exception as error:  # damaged files raise nearly anything
        what = str(error).strip().split(". ")[0] or type(error).__name__
        raise PipelineError(Problem(f"the checkpoint {path} cannot be read: {what}", hint=_cut_short(path))) from None
    found = _named_tensors(weights)
    if not found:
        raise PipelineError(Problem(f"{path} is no checkpoint of SAM: it does not hold tensors by name"))
    return found


def _cut_short(path: Path) -> str:
    """What to do about a file with a published name and another size, "" if it is none."""
    name, published = next(((name, one) for name, one in MODELS.items() if one.file == path.name), ("", None))
    if published is None or not path.is_file() or path.stat().st_size == published.bytes:
        return ""
    size = f"it has {path.stat().st_size} bytes, the published file {published.bytes}"
    return f"{size}: delete it, then: maskmill weights pull {name}"


def _named_tensors(data: Any) -> Weights:
    """The model's weights in what a training script has saved: as such, or beside other things; {} if none."""
    import torch

    if not isinstance(data, dict):
        return {}
    inner = next((data[name] for name in WRAPPERS if isinstance(data.get(name), dict)), data)
    if not all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in inner.items()):
        return {}
    # Single precision and contiguous, as published weights are; those stay mapped.
    return {name.removeprefix(PARALLEL): tensor.float().contiguous() for name, tensor in inner.items()}


def _read_torch(path: Path) -> Any:
    import torch

    # Files in torch's older format are no zip archives and cannot be mapped.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)
