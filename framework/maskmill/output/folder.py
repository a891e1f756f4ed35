"""Folders that maskmill writes into: whether one may be used, one process at a time, nothing silently replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import filelock

from ..errors import OutputError, OutputInUseError, Problem
from ..files import find_leftovers, sha256_of, unused_name
from ..results import Artifact
from . import ledger as ledgers
from .records import RUN

LOCK = ".lock"
#: In the folder that a run works in whose output is elsewhere: where, see `mirror`.
BUCKET = "bucket.json"
#: In an output that is copied from a folder: which run is working there.
MARKER = ".maskmill-run.json"
#: In an output on a shared drive that a run does not work in: the folder that it works in.
STATE = ".maskmill-state.json"
#: The journal of an export, in its folder, hidden from programs that read the folder; its name in older exports.
JOURNAL, OLD_JOURNAL = ".export.jsonl", "export.jsonl"
JOURNALS = (JOURNAL, OLD_JOURNAL)
#: With more images than this, a sweep does not search every folder of an output.
SEARCHED = 20_000
#: Folders in a run's output that are no part of the run: made from it by commands, never touched by a rerun.
EXPORTS, EVALUATION = "exports", "evaluation"
OTHERS = (EXPORTS, EVALUATION)
#: The files with the numbers of `maskmill evaluate` and `maskmill compare`, each in the folder of its report.
EVALUATED, COMPARED = "evaluation.json", "comparison.json"
REPORTS = {EVALUATED: "an evaluation", COMPARED: "a comparison"}
#: What `s3://bucket` leaves as a part of a path; a drive's name has one letter.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
#: Names by which `describe_own` recognises a folder that we made.
OWN = frozenset({ledgers.NAME, RUN, *JOURNALS, *REPORTS})


def check_folder(folder: Path, is_ours: Callable[[Path], bool], maker: str) -> list[Problem]:
    """Why files must not be written into a folder; cheap, and creates nothing.

    Args:
        folder: may be missing.
        is_ours: whether a folder that holds files was made by us and may be used again.
        maker: what makes such folders, for the message, such as "a run".
    """
    if scheme := next(filter(_SCHEME.fullmatch, folder.parts), ""):
        text = f"'{scheme}//' is the address of a server, which cannot be written to here; expected a folder"
        hint = "only the output of a run can be s3://, gs:// or az://; write to a folder, and upload it afterwards"
        return [Problem(text, hint=hint)]
    if folder.exists() and not folder.is_dir():
        return [Problem(f"'{folder}' is a file; expected a folder")]
    if folder.is_dir() and not is_ours(folder):
        others = sorted(path.name for path in folder.iterdir() if path.name not in (LOCK, MARKER))
        if others:
            text = f"the folder '{folder}' contains files that are not from {maker} ({others[0]!r}, ...)"
            return [Problem(text, hint="give an empty or a new folder, so that nothing of yours is overwritten")]
    return []


def check_output(output: Path) -> list[Problem]:
    """Why a run must not write into a folder."""
    return check_folder(output, is_run, "a run")


def check_outside_runs(folder: Path) -> None:
    """Refuse a folder that belongs to a run.

    Raises:
        OutputError: it lies in the output folder of a run, but not below its `exports`.
    """
    place = folder.absolute()
    for above in (place, *place.parents):
        if (above / ledgers.NAME).exists():
            inside = place.relative_to(above).parts
            if len(inside) < 2 or inside[0] != EXPORTS:
                hint = f"leave out -o, or give '{above / EXPORTS / 'NAME'}' or a new folder"
                raise OutputError(Problem(f"'{folder}' belongs to the run in '{above}'", hint=hint))
            return


def is_run(output: Path) -> bool:
    """Whether a run made this folder: it has a ledger or, where that was deleted, the run's description."""
    if any((output / name).exists() for name in (ledgers.NAME, BUCKET, STATE)):
        return True
    try:
        return bool({"schema", "pipeline", "fingerprint"} <= json.loads((output / RUN).read_bytes()).keys())
    except (OSError, ValueError, AttributeError):
        return False


def describe_own(folder: Path, name: str) -> str:
    """What of ours a folder is, by a file in it; "" if that file is somebody else's.

    Args:
        folder: the folder.
        name: of a file in it, one of `OWN`.
    """
    if name == ledgers.NAME:
        return "the output folder of a run"
    if name == RUN:
        return "the output folder of a run" if is_run(folder) else ""
    try:
        with (folder / name).open(encoding="utf-8") as lines:
            head = json.loads(next(lines, "") if name in JOURNALS else lines.read())
        known = {"schema", "maskmill"} if name in JOURNALS else {"schema"}
        ours = isinstance(head, dict) and known <= head.keys()
    except (OSError, ValueError, RecursionError):
        return ""
    if name in JOURNALS:
        return "an export" if ours else ""
    return f"the report of {REPORTS[name]}" if ours and (folder / "index.html").is_file() else ""


def file_state(path: Path, artifact: Artifact) -> Literal["the same", "changed", "gone"]:
    """Whether a file is still as it was written.

    Raises:
        OSError: it cannot be read.
    """
    try:
        same = path.stat().st_size == artifact.bytes and sha256_of(path) == artifact.sha256
    except FileNotFoundError:
        return "gone"
    return "the same" if same else "changed"


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn an OSError into an `OutputError` that names the folder."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write to '{folder}': {error.strerror or error}") from error


@contextmanager
def lock_folder(folder: Path, busy: Problem) -> Iterator[None]:
    """Hold an existing folder against other processes; the lock is released when the process ends, however it ends.

    Args:
        folder: the folder.
        busy: the problem to report if another process holds it.

    Raises:
        OutputInUseError: another process holds it.
        OutputError: the lock cannot be written.
    """
    lock = filelock.FileLock(folder / LOCK)
    with writing_to(folder):
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise OutputInUseError(busy) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claim(output: Path, fresh: bool = False) -> Iterator[str]:
    """Hold the output folder against other runs.

    Args:
        output: the folder, made if it does not exist.
        fresh: move an existing run aside first.

    Yields:
        A notice for the user, or "".

    Raises:
        OutputInUseError: another run holds it.
        OutputError: it cannot be written, or it holds other files.
    """
    if problems := [*check_output(output), *_check_state(output)]:
        raise OutputError(*problems)
    busy = Problem(f"another run is using '{output}'", hint="wait for it to end, or give another output")
    notice = ""
    with writing_to(output):
        output.mkdir(parents=True, exist_ok=True)
        if fresh and is_run(output):
            with lock_folder(output, busy):
                pass
            aside = output.rename(unused_name(output, ".old-"))
            output.mkdir()
            notice = f"--fresh: the earlier run is kept in {aside}"
    with lock_folder(output, busy):
        yield notice


def _check_state(output: Path) -> list[Problem]:
    """Why a folder must not be worked in: it is the copy of another one."""
    try:
        owner = json.loads((output / STATE).read_bytes())
        text = f"'{output}' is written by runs that work in {owner['folder']} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return []
    hint = f"give --state {owner['folder']} there; to work in '{output}' itself, delete '{output / STATE}'"
    return [Problem(text, hint=hint)]


def is_claimed(output: Path) -> bool:
    """Whether a run is working in this folder now."""
    if not (output / LOCK).exists():  # locking would make the file
        return False
    lock = filelock.FileLock(output / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    except OSError:  # a read-only folder
        return False
    lock.release()
    return False


def clean_up(output: Path, ledger: ledgers.Ledger) -> None:
    """Remove the temporary files of a run that was killed; from here on the folder counts as unclean."""
    if ledger.meta("clean") is False:
        remove_leftovers(output, is_small(ledger))
    ledger.set_meta("clean", False)


def is_small(ledger: ledgers.Ledger) -> bool:
    """Whether every folder of this output can be searched in a moment."""
    return sum(ledger.counts().values()) <= SEARCHED


def remove_leftovers(output: Path, deep: bool = True) -> None:
    """Remove the temporary files of killed processes; only while no process of a run is working.

    Files below `exports` and `evaluation` belong to commands, which may be working now. Of many images, only the
    places where maskmill itself leaves them are searched.
    """
    for path in find_leftovers(output, deep):
        if path.relative_to(output).parts[0] not in OTHERS:
            path.unlink(missing_ok=True)
