"""Loading a detector from a folder: safetensors only, no code of the repository, and no weight left at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.sam.device import pick_device

#: Ends of names of buffers that older checkpoints lack and that decide nothing.
UNUSED = ("num_batches_tracked", "position_ids")


def load_pretrained(model_class: Any, folder: Path, device: str) -> Any:
    """A model in float32, ready to compute.

    Args:
        model_class: with `from_pretrained`, of transformers.
        folder: with config.json and safetensors.
        device: auto, cpu, cuda or mps.

    Raises:
        PipelineError: the weights do not fit the configuration, or the device is not available.
    """
    import torch
    import transformers

    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    place = pick_device(device)
    try:
        model, loaded = model_class.from_pretrained(
            folder,
            use_safetensors=True,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except ImportError as error:
        raise PipelineError(Problem(f"'{folder}' cannot be loaded: {_first_line(error)}")) from error
    except Exception as error:  # of safetensors, of a size that does not fit
        raise PipelineError(Problem(f"the weights in '{folder}' cannot be loaded: {_first_line(error)}")) from error
    missing = sorted(name for name in loaded["missing_keys"] if not name.endswith(UNUSED))
    if wrong := missing or sorted(map(str, loaded.get("mismatched_keys", ()))):
        text = f"the weights in '{folder}' do not fit its config.json: {len(wrong)} are missing or of another size"
        raise PipelineError(Problem(f"{text}, such as {wrong[0]}", hint="download the model again"))
    return model.eval().requires_grad_(False).to(place)


def load_processor(processor_class: Any, folder: Path) -> Any:
    """The processor of a model: how it wants pictures, and its tokenizer.

    Raises:
        PipelineError: its files are missing or damaged.
    """
    try:
        return processor_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        text = f"the processor or tokenizer in '{folder}' cannot be loaded: {_first_line(error)}"
        raise PipelineError(
            Problem(text, hint="the folder needs all files of the model, as the hub has them")
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
