"""The output folder: claimed by one run at a time, never anybody else's, never silently replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from ..errors import OutputError, Problem
from ..files import leftovers
from . import ledger as ledgers
from .records import RUN

LOCK = ".lock"
#: Folders in a run's output that are no part of the run: made of it by commands, never touched by a rerun.
EXPORTS, EVALUATION = "exports", "evaluation"
OTHERS = (EXPORTS, EVALUATION)


def problems(output: Path) -> list[Problem]:
    """Why a run could not write there; cheap, and creates nothing."""
    if output.exists() and not output.is_dir():
        return [Problem(f"the output '{output}' is a file; a folder was expected")]
    if output.is_dir() and not _is_run(output):
        others = [path.name for path in output.iterdir() if path.name != LOCK]
        if others:
            text = f"the output folder '{output}' holds files that are not from a run ({others[0]!r}, ...)"
            return [Problem(text, hint="give an empty or a new folder, so that nothing of yours is overwritten")]
    return []


def _is_run(output: Path) -> bool:
    """Whether a run made this folder: it has a ledger or, where that was deleted, the run's description."""
    if (output / ledgers.NAME).exists():
        return True
    try:
        return bool({"schema", "pipeline", "fingerprint"} <= json.loads((output / RUN).read_bytes()).keys())
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def claim(output: Path, fresh: bool = False) -> Iterator[str]:
    """Hold the output folder against other runs; the lock falls with the process, however it ends.

    Args:
        output: the folder, made if it does not exist.
        fresh: move an existing run aside first.

    Yields:
        What the user should know, or "".

    Raises:
        OutputError: another run holds it, or it cannot be written.
    """
    if found := problems(output):
        raise OutputError(*found)
    notice = ""
    try:
        output.mkdir(parents=True, exist_ok=True)
        if fresh and _is_run(output):
            notice = _move_aside(output)
        lock = filelock.FileLock(output / LOCK)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        text = f"another run is working in '{output}'"
        raise OutputError(Problem(text, hint="wait for it to end, or give another output")) from None
    except OSError as error:
        raise OutputError(f"cannot write to '{output}': {error.strerror or error}") from error
    try:
        yield notice
    finally:
        lock.release()


def is_claimed(output: Path) -> bool:
    """Whether a run is working in this folder now."""
    lock = filelock.FileLock(output / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # a folder that may only be read
        return False
    lock.release()
    return False


def _move_aside(output: Path) -> str:
    with filelock.FileLock(output / LOCK).acquire(timeout=0):
        pass
    number = 1
    while (aside := output.with_name(f"{output.name}.old-{number}")).exists():
        number += 1
    output.rename(aside)
    output.mkdir()
    return f"--fresh: the earlier run is kept in {aside}"


def sweep(output: Path, ledger: ledgers.Ledger) -> None:
    """Remove the temporary files of a run that was killed; the folder counts as unclean from here on."""
    if ledger.meta("clean") is False:
        remove_leftovers(output)
    ledger.set_meta("clean", False)


def remove_leftovers(output: Path) -> None:
    """Remove the temporary files of processes that were killed; only while none is at work.

    What is below `exports` belongs to commands that may be at work while a run is.
    """
    for path in leftovers(output):
        if path.relative_to(output).parts[0] not in OTHERS:
            path.unlink(missing_ok=True)
