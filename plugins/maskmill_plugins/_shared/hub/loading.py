"""Loading a model with transformers: from files on this machine, from safetensors only, no weight left at random."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.sam.file_kind import recognize

from .snapshot import list_weights

if TYPE_CHECKING:
    import torch

#: No file is fetched here: what is missing was downloaded before the workers started, or is an error.
LOCAL_ONLY = {"local_files_only": True, "trust_remote_code": False}
#: Ends of names of buffers that older checkpoints lack and that decide nothing.
UNUSED = ("num_batches_tracked", "position_ids")


def load_pretrained(model_class: Any, folder: Path, device: torch.device, **options: Any) -> Any:
    """A model in evaluation mode, in single precision.

    Args:
        model_class: of transformers, with `from_pretrained`.
        folder: with config.json and safetensors.
        device: where to put it.
        options: further ones of `from_pretrained`.

    Raises:
        PipelineError: a file is damaged, or the weights do not fit the configuration.
    """
    import torch
    import transformers

    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    options |= {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True, **LOCAL_ONLY}
    try:
        with _offline():
            model, report = model_class.from_pretrained(folder, **options)
    except ImportError as error:
        package = error.name or _first_line(error)
        raise PipelineError(Problem(f"the model '{folder}' needs the package {package!r}")) from None
    except Exception as error:  # damaged files raise almost any exception
        raise PipelineError(Problem(f"the model '{folder}' cannot be loaded: {_explain(folder, error)}")) from None
    # transformers fills what is missing, or does not fit, with random numbers.
    missing = sorted(name for name in map(str, report["missing_keys"]) if not name.endswith(UNUSED))
    if wrong := missing or sorted(map(str, report.get("mismatched_keys", ()))):
        text = f"the weights in '{folder}' do not fit its config.json: {len(wrong)} are missing or of another size"
        raise PipelineError(Problem(f"{text}, such as {wrong[0]}", hint="download the model again"))
    return model.eval().requires_grad_(False).to(device)


def load_processor(processor_class: Any, folder: Path) -> Any:
    """What prepares pictures and texts for a model.

    Raises:
        PipelineError: its files are missing or damaged.
    """
    try:
        return processor_class.from_pretrained(folder, **LOCAL_ONLY)
    except Exception as error:
        text = f"the processor or tokenizer in '{folder}' cannot be loaded: {_first_line(error)}"
        hint = "the folder needs all files of the model, as the hub has them"
        raise PipelineError(Problem(text, hint=hint)) from None


@contextmanager
def _offline() -> Iterator[None]:
    """Nothing is fetched from the hub, also by libraries that transformers calls, such as timm."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _explain(folder: Path, error: Exception) -> str:
    for path in list_weights(folder):
        if kind := recognize(path):
            return f"{path.name}: {kind}"
    return _first_line(error)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
