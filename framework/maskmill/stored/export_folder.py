"""The folder of an export and its journal."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Self

from ..errors import OutputError, Problem
from ..files import unused_name, walk_files
from ..output.folder import JOURNAL, JOURNALS, LOCK, check_folder, file_state, lock_folder, writing_to
from ..results import Artifact
from ..version import __version__
from ..wording import count_noun
from .export_worker import ExportedImage

_HINT = "give another folder (-o), or move those files away, so that nothing of yours is overwritten"


class Journal:
    """The record of an export: what made it, a line per image, a line per file about the whole dataset, its end.

    Args:
        path: of the file; see `choose_journal`.
        about: for the first line.

    Attributes:
        files: number of files written so far.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.files = 0
        self._path = path
        self._file = self._path.open("w", encoding="utf-8", newline="\n")
        self._images = 0
        self._write_line({"schema": 1, "maskmill": __version__, **about})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def add(self, image: ExportedImage) -> None:
        """Write the line of an image."""
        self.files += len(image.artifacts)
        failure = None if image.failure is None else asdict(image.failure)
        artifacts = [astuple(artifact) for artifact in image.artifacts]
        self._write_line({"key": image.key, "artifacts": artifacts, "notes": image.notes, "failure": failure})
        self._images += 1

    def add_file(self, file: Artifact) -> None:
        """Write the line of a file about the whole dataset."""
        self.files += 1
        self._write_line({"artifacts": [astuple(file)]})

    def end(self, counts: Mapping[str, int]) -> None:
        """The export is complete."""
        self._write_line({"finished": True, **counts, "artifacts": []})
        self._file.close()

    def entries(self) -> Iterator[dict[str, Any]]:
        """The images written so far, in their order; files may be added meanwhile."""
        self._file.flush()
        with self._path.open(encoding="utf-8") as lines:
            yield from map(json.loads, itertools.islice(lines, 1, self._images + 1))

    def _write_line(self, values: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=str) + "\n")


def choose_journal(folder: Path, beside: bool) -> Path:
    """Where the journal of a new export is.

    Args:
        folder: of the export.
        beside: whether the folder must hold nothing but the writer's files (`Writer.folder_is_read`).
    """
    return _beside(folder) if beside else folder / JOURNAL


def _beside(folder: Path) -> Path:
    return folder.absolute().with_name(f".{folder.absolute().name}{JOURNAL}")


def find_journal(folder: Path) -> Path | None:
    """The journal of the export in a folder, None if there is no export."""
    if not folder.is_dir():
        return None
    places = (*(folder / name for name in JOURNALS), _beside(folder))
    return next((path for path in places if path.is_file()), None)


@contextmanager
def claim_export(folder: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder against other exports, empty: an earlier export is removed, an unfinished one moved aside.

    Raises:
        OutputError: another export is at work there, or it holds files that no export made.
    """
    if problems := check_folder(folder, lambda folder: find_journal(folder) is not None, "an export"):
        raise OutputError(*problems)
    busy = Problem(f"another export is writing into '{folder}'")
    with writing_to(folder):
        if (journal := find_journal(folder)) is not None:
            with lock_folder(folder, busy):
                finished = _is_finished(folder, journal)
            if finished:
                shutil.rmtree(folder)
                journal.unlink(missing_ok=True)
            else:
                aside = folder.rename(unused_name(folder, ".unfinished-"))
                if journal.exists():
                    journal.rename(_beside(aside))
                log(f"an unfinished export is now in {aside}; it can be deleted")
        folder.mkdir(parents=True, exist_ok=True)
    interrupted = False
    try:
        with lock_folder(folder, busy):
            interrupted = True
            yield
            interrupted = False
    finally:
        if interrupted and all(path.name in (LOCK, JOURNAL) for path in folder.iterdir()):  # before its first file
            shutil.rmtree(folder)
            _beside(folder).unlink(missing_ok=True)


def _is_finished(folder: Path, journal: Path) -> bool:
    """Whether a finished export is here, as it was written; False if it was interrupted.

    Raises:
        OutputError: a file of it was changed, or files were added.
    """
    known = 0
    finished = False
    with journal.open(encoding="utf-8") as lines:
        next(lines, None)
        for line in lines:
            try:
                entry = json.loads(line)
                artifacts = [Artifact(*values) for values in entry["artifacts"]]
                finished = bool(entry.get("finished"))
            except (ValueError, KeyError, TypeError, AttributeError):
                return False
            for artifact in artifacts:
                path = folder / artifact.path
                state = file_state(path, artifact)
                if state == "changed":
                    raise OutputError(Problem(f"'{path}' was changed after it was exported", hint=_HINT))
                known += state == "the same"
    if not finished:
        return False
    own = sum(path.exists() for path in {folder / LOCK, *(folder / name for name in JOURNALS if name == journal.name)})
    if others := sum(1 for _ in walk_files(folder)) - own - known:
        text = f"'{folder}' holds {count_noun(others, 'file')} that its export did not make"
        raise OutputError(Problem(text, hint=_HINT))
    return True
