"""The weights that lie on this machine: which there are, what they should be, and how others are added."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from maskmill import PipelineError, Problem
from maskmill.files import TEMPORARY_PREFIX, replace, safe_part, sha256_of, write_atomic

from ..model.loading import architecture
from .checkpoints import MODELS, find_checkpoint, mark_verified, usual_places, weights_folder

#: Of a file that was added: its sha256 when it was, as the program sha256sum writes it.
RECORD = ".sha256"
SUFFIXES = (".pth", ".safetensors")


def find(name: str) -> Path:
    """The file of a model, of an added checkpoint, or at a path.

    Raises:
        PipelineError: there is none.
    """
    found = find_checkpoint(name) if name in MODELS else None
    candidates = [found] if found else [weights_folder() / name, Path(name)]
    for path in candidates:
        if path.is_file():
            return path
    hint = f"maskmill weights pull {name}" if name in MODELS else "maskmill weights list"
    raise PipelineError(Problem(f"there are no weights {name!r} here", hint=hint))


def added() -> Iterator[Path]:
    """The user's own files in our cache, by name."""
    published = {model.file for model in MODELS.values()}
    for path in sorted(weights_folder().glob("*")):
        if path.suffix in SUFFIXES and path.name not in published and not path.name.startswith(TEMPORARY_PREFIX):
            yield path


def everything() -> Iterator[Path]:
    """All that `auto` or a name could find, each file once."""
    seen = set()
    for place in usual_places():
        for model in MODELS.values():
            path = place / model.file
            if path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path
    yield from added()


def expected(path: Path) -> str:
    """The sha256 that a file should have, "" if nobody knows."""
    for model in MODELS.values():
        if model.file == path.name:
            return model.sha256
    try:
        record = path.with_name(path.name + RECORD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return (record.split() or [""])[0]


def take(file: Path, name: str) -> tuple[Path, str, str]:
    """Copy a checkpoint into our cache, and record what it is.

    Args:
        file: read as weights alone; one that would run code is refused.
        name: what it is called there.

    Returns:
        Where it lies now, its sha256, and the key of `MODELS` whose architecture it has.

    Raises:
        PipelineError: it holds no weights of SAM, the name cannot be, or the cache cannot be written.
    """
    if name != safe_part(name) or Path(name).suffix not in SUFFIXES:
        raise PipelineError(Problem(f"{name!r} cannot be the name of a checkpoint", hint="--name my-model.pth"))
    model = architecture(file)
    target = weights_folder() / name
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{safe_part(name)[:40]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sha256 = _copied(file, temporary)
        _check_name(target, sha256)
        # The record first: a kill in between leaves a record without a file, never a file without one.
        write_atomic(target.with_name(name + RECORD), f"{sha256}  {name}\n".encode())
        replace(temporary, target)
    except OSError as error:
        text = f"cannot write {name} into {target.parent}: {error.strerror or error}"
        raise PipelineError(Problem(text, hint="MASKMILL_CACHE names another folder")) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    mark_verified(target, sha256)
    return target, sha256, model


def _copied(file: Path, temporary: Path) -> str:
    """Copy a file; the sha256 of what arrived."""
    shutil.copyfile(file, temporary)
    with temporary.open("rb+") as copy:
        os.fsync(copy.fileno())
    return sha256_of(temporary)


def _check_name(target: Path, sha256: str) -> None:
    """Refuse to pass for Meta's file, or to replace another one."""
    published = next((model for model in MODELS.values() if model.file == target.name), None)
    if published and sha256 != published.sha256:
        text = f"this is not Meta's {target.name}: its sha256 is {sha256}, not {published.sha256}"
        raise PipelineError(Problem(text, hint="give it another name: --name my-model.pth"))
    if target.exists() and sha256_of(target) != sha256:
        raise PipelineError(Problem(f"{target} exists and is another file", hint="--name another.pth"))
