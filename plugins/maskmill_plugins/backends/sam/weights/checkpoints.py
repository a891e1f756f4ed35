"""Checkpoint files on this machine: where they are searched, which ones exist, and whether they were verified."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from maskmill import PipelineError, Problem
from maskmill.files import write_atomic
from maskmill.plugins.stage import digest
from maskmill_plugins._shared.cache_folder import cache_folder

from .published import MODELS

#: Searched below the pipeline file's folder and below the working directory.
USUAL_FOLDERS = ("", "weights", "checkpoints")
SUFFIXES = (".pth", ".safetensors")


def weights_folder() -> Path:
    """Where downloads go, and where the user may put other checkpoints to use them by name."""
    return cache_folder() / "weights"


def torch_hub_folder() -> Path:
    """Where `torch.hub` stores its downloads, by torch's own rules but without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")  # noqa: PTH118 - "~" is expanded below
    return Path(os.path.expanduser(os.path.expandvars(home)), "hub", "checkpoints")  # noqa: PTH111 - never raises


def list_search_folders(folder: Path | None = None) -> Iterator[Path]:
    """The folders to search, in order: the pipeline file's, the working directory, torch hub's cache, ours."""
    for root in [Path()] if folder is None else [folder, Path()]:
        yield from (root / name for name in USUAL_FOLDERS)
    yield torch_hub_folder()
    yield weights_folder()


def find_published(model: str, folder: Path | None = None) -> Path | None:
    """The published checkpoint of a model, searched by file name; None if it is not on this machine.

    Args:
        model: a key of `MODELS`.
        folder: the pipeline file's, searched first.
    """
    candidates = (place / MODELS[model].file for place in list_search_folders(folder))
    return next((path for path in candidates if path.is_file()), None)


def find_checkpoint(name: str) -> Path:
    """The checkpoint of a published model, in our weights folder, or at a path.

    Args:
        name: a key of `MODELS`, a file name, or a path.

    Raises:
        PipelineError: there is no such file.
    """
    found = find_published(name) if name in MODELS else None
    for path in [found] if found else [weights_folder() / name, Path(name)]:
        if path.is_file():
            return path
    hint = f"maskmill weights pull {name}" if name in MODELS else "maskmill weights list"
    raise PipelineError(Problem(f"no weights named {name!r} on this machine", hint=hint))


def list_own() -> Iterator[Path]:
    """The user's own checkpoints in our weights folder, by name."""
    published = {model.file for model in MODELS.values()}
    for path in sorted(weights_folder().glob("*")):
        if path.suffix in SUFFIXES and path.name not in published:
            yield path


def list_checkpoints() -> Iterator[Path]:
    """Every checkpoint that `auto` or a name could select, each file once."""
    seen = set()
    for place in list_search_folders():
        for model in MODELS.values():
            path = place / model.file
            if path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path
    yield from list_own()


def read_expected_sha256(path: Path) -> str:
    """The sha256 that a file should have: the published one, or that in a file `NAME.sha256` beside it.

    Such a file is what `sha256sum NAME > NAME.sha256` writes. "" if neither is known.
    """
    for model in MODELS.values():
        if model.file == path.name:
            return model.sha256
    try:
        record = path.with_name(f"{path.name}.sha256").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return (record.split() or [""])[0]


def mark_verified(path: Path, sha256: str) -> None:
    """Record that this file was read and had this content, for `is_verified`."""
    with contextlib.suppress(OSError):  # without a writable cache, it is verified again next time
        write_atomic(_verified_mark(path, sha256), f"{sha256}  {path}\n".encode("utf-8", "backslashreplace"))


def is_verified(path: Path, sha256: str) -> bool:
    """Whether the file had this content when it was last read, and is unchanged since."""
    return _verified_mark(path, sha256).is_file()


def _verified_mark(path: Path, sha256: str) -> Path:
    stat = path.stat()
    return weights_folder() / "verified" / digest([str(path.resolve()), stat.st_size, stat.st_mtime_ns, sha256])
