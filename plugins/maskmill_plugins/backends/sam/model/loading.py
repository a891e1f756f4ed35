"""Loading a checkpoint file into a model: weights are memory-mapped, and no pickled code is executed."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.sam.file_kind import recognize

from ..weights.published import MODELS
from .architecture import DECODER_HEADS, NotSamError, build_empty, read_sizes

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam as SamModel

Weights = dict[str, "torch.Tensor"]

#: Keys under which training scripts store the model beside an optimizer and the like.
WRAPPER_KEYS = ("model", "state_dict", "model_state_dict")
#: Prefixes that wrappers add to each name: torch's parallel training, torch.compile, Lightning.
PREFIXES = ("module.", "_orig_mod.", "model.")


def load_model(checkpoint: Path, decoder_heads: int | None = None) -> SamModel:
    """Build the model whose weights a file holds, of any size.

    The weights are memory-mapped, not copied, so all worker processes share one copy.

    Args:
        checkpoint: a `.pth` or `.safetensors` file.
        decoder_heads: of the decoder's attention; None takes what the file says, else 8.

    Raises:
        PipelineError: the file cannot be read, contains more than weights, or has weights of another kind of model.
    """
    weights, config = read_checkpoint(checkpoint)
    heads = decoder_heads or config.get("decoder_heads", DECODER_HEADS)
    try:
        sam = build_empty(read_sizes(weights, int(heads)))
    except (NotSamError, ValueError, TypeError) as error:
        raise PipelineError(Problem(f"{checkpoint} does not contain the weights of a SAM: {error}")) from None
    if mismatch := _find_mismatch(sam, weights):
        raise PipelineError(Problem(f"{checkpoint} does not contain the weights of a SAM: {mismatch}"))
    sam.load_state_dict(weights, assign=True)
    return sam.eval().requires_grad_(False)


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


def read_checkpoint(path: Path) -> tuple[Weights, Mapping[str, Any]]:
    """Read the tensors of a checkpoint file by name, memory-mapped, and what the file says about the model.

    Only data is read: a file that would run code when unpickled is refused.

    Raises:
        PipelineError: the file cannot be read as a checkpoint, or contains more than weights.
    """
    try:
        content, config = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    except pickle.UnpicklingError as error:
        # torch's message recommends unsafe loading, so only the offending name is taken from it.
        name = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it contains {name[1]}, but only weights are allowed" if name else "it was not written by torch.save"
        raise PipelineError(Problem(f"the checkpoint {path} is refused: {recognize(path) or reason}")) from None
    except ImportError as error:
        text = f"reading the checkpoint {path} needs the package {error.name!r}"
        raise PipelineError(Problem(text, hint='pip install "maskmill[sam]"')) from None
    except Exception as error:  # damaged files raise almost any exception
        reason = recognize(path) or str(error).strip().split(". ")[0] or type(error).__name__
        text = f"the checkpoint {path} cannot be read: {reason}"
        raise PipelineError(Problem(text, hint=_suggest_download(path))) from None
    tensors = _extract_tensors(content)
    if not tensors:
        what = "it has the state of an optimizer, not weights" if _is_optimizer(content) else "it has no named tensors"
        raise PipelineError(Problem(f"{path} is not a checkpoint of SAM: {what}"))
    return tensors, config


def _is_optimizer(content: Any) -> bool:
    return isinstance(content, dict) and {"state", "param_groups"} <= content.keys()


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
    while inner and (prefix := next((each for each in PREFIXES if all(n.startswith(each) for n in inner)), "")):
        inner = {name.removeprefix(prefix): tensor for name, tensor in inner.items()}
    # Single precision and contiguous. Published weights are both already, so they stay memory-mapped.
    return {name: tensor.float().contiguous() for name, tensor in inner.items()}


def _read_torch(path: Path) -> tuple[Any, Mapping[str, Any]]:
    import torch

    # Files in torch's older format are not zip archives and cannot be memory-mapped.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    config = content.get("config") if isinstance(content, dict) else None
    return content, config if isinstance(config, dict) else {}


def _read_safetensors(path: Path) -> tuple[Any, Mapping[str, Any]]:
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    return load_file(path), metadata or {}
