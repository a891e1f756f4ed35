"""Output files of datasets: written as a whole, listed with the keys of their images, removed when outdated.

Formats that match an image and its annotations by the name without suffix give `sub/a.jpg` and `sub/a.png` one
annotation file. The worker that writes one does not know of the other, so this is detected at the end, when all
keys are known: `ImageTable`.
"""

from __future__ import annotations

import filecmp
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from maskmill import Artifact, OutputError, Problem
from maskmill.files import TEMPORARY_PREFIX, atomic_path, sha256_of, write_atomic
from maskmill.tables import read_table, write_table

LIST = "images.csv"
_BATCH = 200


def save_as(folder: Path, path: str, data: bytes) -> Artifact:
    """Write a file atomically to exactly this path, which `stem_path` has made safe; one with this content stays."""
    target = folder / path
    if not _has_content(target, data):
        write_atomic(target, data)
    return Artifact(path, hashlib.sha256(data).hexdigest(), len(data))


def _has_content(path: Path, data: bytes) -> bool:
    """Whether a file has this content."""
    try:
        with path.open("rb", buffering=0) as file:
            return os.fstat(file.fileno()).st_size == len(data) and file.read() == data
    except OSError:
        return False


def describe_file(folder: Path, path: str) -> Artifact:
    """The artifact of a file that was written incrementally."""
    return Artifact(path, sha256_of(folder / path), (folder / path).stat().st_size)


def save_lines(folder: Path, path: str, lines: Iterable[str]) -> Artifact:
    """Write lines, each with its end, atomically to exactly this path."""
    with atomic_path(folder / path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(lines)
    return describe_file(folder, path)


def temporary_file(folder: Path) -> IO[str]:
    """An anonymous text file on the output's disk, for data that must wait until all images are known."""
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", prefix=TEMPORARY_PREFIX, dir=folder)


class ImageTable:
    """`images.csv`: the key of each image with its files; a context manager, at whose end the file is replaced.

    It is used to find two images that share a file, and to remove, at the end, the files of images that left the
    dataset.
    Memory does not grow with the images.

    Args:
        folder: of the writer.
        texts: columns that follow `key`, such as `split`.
        files: columns with paths of files, relative to the folder; they must be unique, ignoring case.
        hint: what to do about two images that share a file.
    """

    def __init__(
        self, folder: Path, texts: Sequence[str], files: Sequence[str], hint: str = "rename one of them"
    ) -> None:
        self._hint = hint
        self._folder = folder
        self._columns = ("key", *texts, *files)
        self._files = files
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._unfinished = stack.enter_context(atomic_path(self._folder / LIST))
            self._database = sqlite3.connect("")  # SQLite's own temporary file
            stack.callback(self._database.close)
            for table in ("files", "before"):
                self._database.execute(f"CREATE TABLE {table} (path TEXT PRIMARY KEY, key TEXT) WITHOUT ROWID")
            self._added: list[tuple[bytes, bytes, str]] = []
            stack.push(self._remove_outdated)
            self._write = stack.enter_context(write_table(self._unfinished, self._columns, errors="surrogateescape"))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self.check()

    def add(self, key: str, *cells: str) -> None:
        """Add an image: its texts, then its files, "" for a file that there is not.

        Raises:
            OutputError: two of the images added so far have the same file.
        """
        for path in filter(None, cells[len(cells) - len(self._files) :]):
            self._added.append((_encode(path.casefold()), _encode(key), path))
        self._write((key, *cells))
        if len(self._added) >= _BATCH:
            self.check()

    def check(self) -> None:
        """Find two images that share a file; many are looked at at once, which takes a fraction of the time.

        Raises:
            OutputError: there are two.
        """
        before = self._database.total_changes
        rows = ((folded, key) for folded, key, _ in self._added)
        self._database.executemany("INSERT OR IGNORE INTO files VALUES (?, ?)", rows)
        if self._database.total_changes - before < len(self._added):
            self._report_shared()
        self._added.clear()

    def _report_shared(self) -> None:
        seen: dict[bytes, bytes] = {}
        for folded, key, path in self._added:
            ((first,),) = self._database.execute("SELECT key FROM files WHERE path = ?", (folded,))
            if (other := seen.setdefault(folded, first)) != key or first != key:
                names = [name.decode("utf-8", "surrogateescape") for name in (other, key)]
                text = f"{names[0]!r} and {names[1]!r} would share the file {path!r}"
                raise OutputError(Problem(text, hint=self._hint))

    def _remove_outdated(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the files that the earlier `images.csv` lists and the new one does not, unless something failed."""
        before = self._folder / LIST
        if kind is not None or not before.is_file() or filecmp.cmp(before, self._unfinished, shallow=False):
            return
        rows = read_table(before, errors="surrogateescape")
        paths = (path for row in rows for column in self._files if (path := row.get(column)))
        listed = ((_encode(path.casefold()), _encode(path)) for path in paths)
        self._database.executemany("INSERT OR IGNORE INTO before VALUES (?, ?)", listed)
        sql = "SELECT key FROM before WHERE path NOT IN (SELECT path FROM files) ORDER BY path"
        for (path,) in self._database.execute(sql):
            remove_file(self._folder, path.decode("utf-8", "surrogateescape"))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def remove_file(folder: Path, path: str) -> None:
    """Remove a file of an earlier run, and the folders below `folder` that become empty.

    A path outside the folder is ignored, because the list it comes from may have been edited.
    """
    target = folder / path
    if not path or ".." in PurePosixPath(path).parts or not target.resolve().is_relative_to(folder.resolve()):
        return
    target.unlink(missing_ok=True)
    with suppress(OSError):  # not empty
        for parent in target.parents:
            if parent == folder:
                break
            parent.rmdir()
