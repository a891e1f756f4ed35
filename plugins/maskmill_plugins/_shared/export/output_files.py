"""Output files of formats that match an image and its annotations by the name without suffix.

`sub/a.jpg` and `sub/a.png` would share one annotation file. The worker that writes one does not know of
the other, so this is detected at the end, when all keys are known: `StemTable`.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from maskmill import Artifact, OutputError, Problem
from maskmill.files import TEMPORARY_PREFIX, atomic_path, sha256_of, write_atomic


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
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", prefix=TEMPORARY_PREFIX, dir=folder)


class StemTable:
    """The stems of a dataset, in a temporary file to limit memory use; a context manager."""

    def __enter__(self) -> Self:
        self._database = sqlite3.connect("")  # SQLite's own temporary file
        self._database.execute("CREATE TABLE stems (stem TEXT PRIMARY KEY, key TEXT) WITHOUT ROWID")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, stem: str, key: str) -> None:
        """Add a stem.

        Raises:
            OutputError: another image has the same stem, ignoring case.
        """
        row = (stem.casefold(), key.encode("utf-8", "surrogateescape"))
        try:
            self._database.execute("INSERT INTO stems VALUES (?, ?)", row)
        except sqlite3.IntegrityError:
            ((other,),) = self._database.execute("SELECT key FROM stems WHERE stem = ?", row[:1])
            text = f"{other.decode('utf-8', 'surrogateescape')!r} and {key!r} would share the annotation file {stem!r}"
            raise OutputError(
                Problem(text, hint="set names: full for this writer (export: --set names=full)")
            ) from None

    def remove_outdated(self, folder: Path, listing: Path, files: Sequence[str], suffix: str = "") -> None:
        """Remove the files (paths with `{}` for the stem) of stems that an earlier listing has and this table lacks."""
        if listing.is_file():
            with listing.open(encoding="utf-8") as lines:
                for stem in self.find_missing(line.rstrip("\n").removesuffix(suffix) for line in lines):
                    for file in files:
                        remove_file(folder, file.format(stem))

    def find_missing(self, before: Iterable[str]) -> Iterator[str]:
        """The stems of an earlier run that are not in this table."""
        for stem in before:
            if not self._database.execute("SELECT 1 FROM stems WHERE stem = ?", (stem.casefold(),)).fetchone():
                yield stem


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
