"""Output files of datasets: written as a whole, listed with the keys of their images, removed when outdated.

Formats that match an image and its annotations by the name without suffix give `sub/a.jpg` and `sub/a.png` one
annotation file. The worker that writes one does not know of the other, so this is detected at the end, when all
keys are known: `ImageTable`.
"""

from __future__ import annotations

import hashlib
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


def save_as(folder: Path, path: str, data: bytes) -> Artifact:
    """Write a file atomically to exactly this path, which `stem_path` has made safe."""
    write_atomic(folder / path, data)
    return Artifact(path, hashlib.sha256(data).hexdigest(), len(data))


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

    It is used to find two images that share a file, and to remove the files of images that left the dataset.
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
            unfinished = stack.enter_context(atomic_path(self._folder / LIST))
            self._write = stack.enter_context(write_table(unfinished, self._columns, errors="surrogateescape"))
            self._database = sqlite3.connect("")  # SQLite's own temporary file
            stack.callback(self._database.close)
            self._database.execute("CREATE TABLE files (path TEXT PRIMARY KEY, key TEXT) WITHOUT ROWID")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, key: str, *cells: str) -> None:
        """Add an image: its texts, then its files, "" for a file that there is not.

        Raises:
            OutputError: another image has one of the files.
        """
        for path in filter(None, cells[len(cells) - len(self._files) :]):
            row = (_encode(path.casefold()), _encode(key))
            try:
                self._database.execute("INSERT INTO files VALUES (?, ?)", row)
            except sqlite3.IntegrityError:
                ((other,),) = self._database.execute("SELECT key FROM files WHERE path = ?", row[:1])
                text = f"{other.decode('utf-8', 'surrogateescape')!r} and {key!r} would share the file {path!r}"
                raise OutputError(Problem(text, hint=self._hint)) from None
        self._write((key, *cells))

    def remove_outdated(self) -> None:
        """Remove the files that the earlier `images.csv` lists and this one does not."""
        before = self._folder / LIST
        if not before.is_file():
            return
        for row in read_table(before, errors="surrogateescape"):
            for path in (row.get(column) or "" for column in self._files):
                found = self._database.execute("SELECT 1 FROM files WHERE path = ?", (_encode(path.casefold()),))
                if path and found.fetchone() is None:
                    remove_file(self._folder, path)


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
