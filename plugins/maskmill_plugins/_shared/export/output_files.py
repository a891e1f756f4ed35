"""Names for formats that tie an image to its annotations by the name without suffix, and what stands under them.

`sub/a.jpg` and `sub/a.png` would then share one annotation file. The worker that writes one of
them cannot know of the other, so this shows at the end, when all keys go by: `Listing`.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Self

from maskmill import Artifact, OutputError, Problem
from maskmill.files import TEMPORARY_PREFIX, sha256_of, write_atomic


def save_as(folder: Path, path: str, data: bytes) -> Artifact:
    """Write a file atomically under exactly this path, which `stem_path` has made safe."""
    write_atomic(folder / path, data)
    return Artifact(path, hashlib.sha256(data).hexdigest(), len(data))


def describe_file(folder: Path, path: str) -> Artifact:
    """The artifact that a file is which was written piece by piece."""
    return Artifact(path, sha256_of(folder / path), (folder / path).stat().st_size)


def temporary_file(folder: Path) -> IO[str]:
    """A text file that nobody else sees, on the output's disk: for what can be written only when all is known."""
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", prefix=TEMPORARY_PREFIX, dir=folder)


class StemTable:
    """The stems of a dataset, in a temporary file, so that memory does not grow with them; a context manager."""

    def __enter__(self) -> Self:
        self._database = sqlite3.connect("")  # SQLite's own temporary file
        self._database.execute("CREATE TABLE stems (stem TEXT PRIMARY KEY, key TEXT) WITHOUT ROWID")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, stem: str, key: str) -> None:
        """Take one in.

        Raises:
            OutputError: another image has the same stem, but for upper and lower case.
        """
        row = (stem.casefold(), key.encode("utf-8", "surrogateescape"))
        try:
            self._database.execute("INSERT INTO stems VALUES (?, ?)", row)
        except sqlite3.IntegrityError:
            ((other,),) = self._database.execute("SELECT key FROM stems WHERE stem = ?", row[:1])
            text = f"{other.decode('utf-8', 'surrogateescape')!r} and {key!r} would share the annotations {stem!r}"
            raise OutputError(Problem(text, hint="give this writer names: full (export: --set names=full)")) from None

    def gone(self, before: Iterable[str]) -> Iterator[str]:
        """Those of an earlier listing that this one lacks."""
        for stem in before:
            if not self._database.execute("SELECT 1 FROM stems WHERE stem = ?", (stem.casefold(),)).fetchone():
                yield stem


def remove_file(folder: Path, path: str) -> None:
    """Remove a file that an earlier run made, and the folders below `folder` that it leaves empty.

    A path that leads out of the folder is passed over: the listing it comes from may have been edited.
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
