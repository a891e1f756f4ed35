"""The folder of an export: claimed, its own, and never anybody else's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from ..errors import OutputError, Problem
from ..files import sha256_of
from ..output.folder import EXPORTS, LOCK
from ..output.ledger import NAME as LEDGER
from ..results import Artifact
from ..version import __version__

JOURNAL = "export.jsonl"
_HINT = "give another folder (-o), or move those files away, so that nothing of yours is overwritten"


class Journal:
    """What an export writes about itself: a first line (what made it), a line an image, a last line (its end).

    Args:
        folder: of the export.
        about: for the first line.

    Attributes:
        files: written so far.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.files = 0
        self._path = folder / JOURNAL
        self._file = self._path.open("w", encoding="utf-8", newline="\n")
        self._line({"schema": 1, "maskmill": __version__, **about})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, entry: Mapping[str, Any]) -> None:
        """An image: key, artifacts as [path, sha256, bytes], notes, failure."""
        self.files += len(entry["artifacts"])
        self._line(entry)

    def end(self, artifacts: Sequence[Artifact], counts: Mapping[str, int]) -> None:
        """All is written; these are the files about the whole dataset."""
        self.files += len(artifacts)
        self._line({"finished": True, **counts, "artifacts": [[a.path, a.sha256, a.bytes] for a in artifacts]})
        self._file.close()

    def entries(self) -> Iterator[dict[str, Any]]:
        """The images written so far, in their order."""
        self._file.flush()
        with self._path.open(encoding="utf-8") as lines:
            next(lines)
            yield from map(json.loads, lines)

    def _line(self, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=str) + "\n")


def inside_a_run(folder: Path) -> None:
    """Refuse a folder that is a run's own.

    Raises:
        OutputError: it lies in the output folder of a run, outside of `exports`.
    """
    place = folder.absolute()
    for above in (place, *place.parents):
        if (above / LEDGER).exists():
            inside = place.relative_to(above).parts
            if len(inside) < 2 or inside[0] != EXPORTS:
                text = f"'{folder}' belongs to the run in '{above}'"
                raise OutputError(
                    Problem(text, hint=f"leave -o out, or give '{above / EXPORTS / 'NAME'}' or a new folder")
                )
            return


@contextmanager
def claimed(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder against other exports, empty: an earlier export is removed, one cut short moved aside.

    Raises:
        OutputError: another export is at work there, or it holds files that no export made.
    """
    try:
        _ready(folder, say)
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise OutputError(f"another export is writing into '{folder}'") from None
    except OSError as error:
        raise OutputError(f"cannot write to '{folder}': {error.strerror or error}") from error
    failed = True
    try:
        yield
        failed = False
    finally:
        lock.release()
        if failed and all(path.name in (LOCK, JOURNAL) for path in folder.iterdir()):  # before its first file
            shutil.rmtree(folder)


def _ready(folder: Path, say: Callable[[str], None]) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"'{folder}' is a file; a folder was expected")
    if not folder.exists() or all(path.name == LOCK for path in folder.iterdir()):
        return
    with filelock.FileLock(folder / LOCK).acquire(timeout=0):
        if not (folder / JOURNAL).is_file():
            first = next(path.name for path in folder.iterdir() if path.name != LOCK)
            raise OutputError(Problem(f"'{folder}' holds files that no export made ({first!r}, ...)", hint=_HINT))
        finished = _check(folder)
    if finished:
        shutil.rmtree(folder)
        return
    number = 1
    while (aside := folder.with_name(f"{folder.name}.unfinished-{number}")).exists():
        number += 1
    folder.rename(aside)
    say(f"an export that was cut short is now {aside}; delete it when you like")


def _check(folder: Path) -> bool:
    """Whether a finished export is here, as it was written; False if it was cut short.

    Raises:
        OutputError: it was changed since, or something was added to it.
    """
    known = 0
    finished = False
    with (folder / JOURNAL).open(encoding="utf-8") as lines:
        next(lines, None)
        for line in lines:
            try:
                entry = json.loads(line)
                files = entry["artifacts"]
                finished = bool(entry.get("finished"))
            except (ValueError, KeyError, TypeError, AttributeError):
                return False
            for path, sha256, size in files:
                known += _unchanged(folder / path, sha256, size)
    if not finished:
        return False
    there = sum(path.is_file() for path in folder.rglob("*")) - sum(
        (folder / name).exists() for name in (LOCK, JOURNAL)
    )
    if there != known:
        text = f"'{folder}' holds {there - known} file{'s' if there - known > 1 else ''} that its export did not make"
        raise OutputError(Problem(text, hint=_HINT))
    return True


def _unchanged(path: Path, sha256: str, size: int) -> bool:
    """True if the file is as it was written, False if it is gone."""
    try:
        if path.stat().st_size == size and sha256_of(path) == sha256:
            return True
    except FileNotFoundError:
        return False
    raise OutputError(Problem(f"'{path}' was changed after it was exported", hint=_HINT))
