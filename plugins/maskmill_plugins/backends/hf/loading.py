"""Loading a model with transformers: from files on this machine only, and only from safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.hub.snapshot import list_weights
from maskmill_plugins._shared.sam.file_kind import recognize

from .families import Family

if TYPE_CHECKING:
    import torch

#: No file is fetched here: what is missing was downloaded before the workers started, or is an error.
LOCAL_ONLY = {"local_files_only": True, "trust_remote_code": False}


def load_model(folder: Path, family: Family, device: torch.device) -> Any:
    """The model in evaluation mode, in single precision.

    Args:
        folder: with config.json and safetensors.
        family: of the model.
        device: where to put it.

    Raises:
        PipelineError: a file is damaged, or the weights are not those of such a model.
    """
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model, report = getattr(transformers, family.model).from_pretrained(
            folder,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="sdpa",
            output_loading_info=True,
            **LOCAL_ONLY,
        )
    except ImportError as error:
        package = error.name or str(error).strip().splitlines()[0]
        raise PipelineError(Problem(f"the model '{folder}' needs the package {package!r}")) from None
    except Exception as error:  # damaged files raise almost any exception
        raise PipelineError(Problem(f"the model '{folder}' cannot be loaded: {_explain(folder, error)}")) from None
    # transformers fills what is missing with random numbers.
    if missing := sorted(map(str, report["missing_keys"])):
        text = f"the weights in '{folder}' are not those of a {family.model}: {missing[0]} is missing"
        raise PipelineError(Problem(text))
    return model.eval().requires_grad_(False).to(device)


def _explain(folder: Path, error: Exception) -> str:
    for path in list_weights(folder):
        if kind := recognize(path):
            return f"{path.name}: {kind}"
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def load_image_processor(folder: Path, family: Family) -> Any:
    """What prepares pictures for the model.

    Raises:
        PipelineError: its configuration is damaged.
    """
    import transformers

    try:
        return getattr(transformers, family.image_processor).from_pretrained(folder, **LOCAL_ONLY)
    except Exception as error:
        text = f"the image processor of the model '{folder}' cannot be read: {_explain(folder, error)}"
        raise PipelineError(Problem(text)) from None
