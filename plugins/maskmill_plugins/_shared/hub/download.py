"""Downloading a model from the Hugging Face hub with the hub's own client, once and before any worker starts."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maskmill import PipelineError, Problem
from maskmill.plugins.stage import is_installed
from maskmill_plugins._shared.http.secrets import mask_secret

from .snapshot import ModelFiles, hub_cache, is_offline

#: Configuration, weights and vocabularies of the top folder; never pickles, which repositories hold beside them.
PATTERNS = ("*.json", "*.safetensors", "*.txt")
#: Seconds before each retry after a broken connection; the client continues where it stopped.
PAUSES = (1.0, 4.0, 15.0)
SECONDS_BETWEEN_LINES = 5.0

Say = Callable[[str], None]


def download_model(model: ModelFiles, say: Say, bar: bool = False) -> Path:
    """Download the files of a model that are missing in the hub's cache.

    The token, for gated models, is the hub's own: `HF_TOKEN`, or what `hf auth login` stored. `HF_ENDPOINT`
    names a mirror. Processes that download the same file wait for each other.

    Args:
        model: on the hub.
        say: takes progress lines.
        bar: show progress bars on standard error instead.

    Raises:
        PipelineError: it cannot be downloaded, or has no weights that are safe to load.
    """
    if not is_installed("huggingface_hub"):
        text = f"downloading {model.spelling} needs the package 'huggingface_hub'"
        raise PipelineError(Problem(text, hint='pip install "maskmill[hf]"'))
    if is_offline():
        raise PipelineError(*[problem for problem in model.check() if not problem.warning])
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = {
        "revision": model.revision,
        "cache_dir": hub_cache(),
        "endpoint": os.environ.get("HF_ENDPOINT") or None,
        "allow_patterns": list(PATTERNS),
        "ignore_patterns": ["*/*"],
    }
    if not bar:
        options["tqdm_class"] = _make_line_progress(say)
    say(f"downloading {model.spelling} from the Hugging Face hub into {hub_cache()}")
    pauses = iter(PAUSES)
    while True:
        try:
            folder = Path(snapshot_download(model.name, **options))
            break
        except Exception as error:
            problem = _explain(model, error)
            pause = next(pauses, None) if problem is None else None
            if pause is None:
                raise PipelineError(problem or _describe_failure(model, error)) from None
            say(f"{_shorten(error)}; retrying in {pause:g} s")
            time.sleep(pause)
    if model.find() is None:
        raise PipelineError(_describe_incomplete(model, folder))
    return folder


def _explain(model: ModelFiles, error: Exception) -> Problem | None:
    """What is wrong and what to do about it; None if trying again may help."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{model.name}"
    if isinstance(error, errors.GatedRepoError):
        hint = f"ask for it at {page}, then set HF_TOKEN to a token from https://huggingface.co/settings/tokens"
        return Problem(f"the model {model.name} is gated: its owners decide who may download it", hint=hint)
    if isinstance(error, errors.RevisionNotFoundError):
        return Problem(f"the model {model.name} has no revision {model.revision!r}", hint=f"see {page}/tree/main")
    if isinstance(error, errors.RepositoryNotFoundError):
        hint = f"see {page}; for a private model, set HF_TOKEN; for a folder on this machine, check its path"
        return Problem(f"the Hugging Face hub knows no model {model.name!r}", hint=hint)
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.HfHubHTTPError) and status in (401, 403):
        return Problem(f"the hub refuses to give {model.name}: {_shorten(error)}", hint="check HF_TOKEN")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EPERM):
        hint = "free some disk space" if error.errno == errno.ENOSPC else "set HF_HOME to use another folder"
        text = f"cannot write {model.name} into {hub_cache()}: {error.strerror or error}"
        return Problem(text, hint=f"{hint}; what was downloaded so far is kept")
    if isinstance(error, (ValueError, TypeError)) and not isinstance(error, OSError):
        return _describe_failure(model, error)
    return None


def _describe_failure(model: ModelFiles, error: Exception) -> Problem:
    hint = "check the connection, or HF_ENDPOINT if it is set; what was downloaded so far is kept"
    return Problem(f"cannot download the model {model.name}: {_shorten(error)}", hint=hint)


def _shorten(error: Exception) -> str:
    """The first line of an error from the client, without the user's token."""
    from huggingface_hub import get_token

    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
    text = mask_secret(str(cause), get_token()) or type(cause).__name__
    return text.strip().splitlines()[0].rstrip(" .:")


def _describe_incomplete(model: ModelFiles, folder: Path) -> Problem:
    problems = ModelFiles(str(folder)).check()
    reason = problems[0].message if problems else f"'{folder}' is incomplete"
    hint = "only models with config.json and safetensors are loaded, because other formats can run code"
    return Problem(f"the model {model.name} cannot be used: {reason}", hint=hint)


def _make_line_progress(say: Say) -> type[tqdm[Any]]:
    """A progress bar of the kind that the client expects, which writes a line every few seconds."""

    class LineProgress(tqdm):  # type: ignore[type-arg]
        said = time.monotonic()

        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*args, **options)

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            kind = type(self)
            if self.unit == "B" and self.n and self.total and time.monotonic() - kind.said > SECONDS_BETWEEN_LINES:
                kind.said = time.monotonic()
                say(f"{self.n / 1e6:.0f} of {self.total / 1e6:.0f} MB")

    return LineProgress
