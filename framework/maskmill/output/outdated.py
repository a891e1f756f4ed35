"""Which files of earlier runs the last run would not make, from what the records say that we made.

Two kinds: the files of images that left the dataset, and files about the whole dataset that the last writing of
these files did not make. Images that a narrower run (`--only`, `--limit`) did not reach have not left the dataset.
"""

from __future__ import annotations

import os
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from ..results import Artifact, Outdated
from .ledger import Ledger
from .store import read_files, result_path

META = "outdated"
PAGE = 512


@dataclass(frozen=True, slots=True)
class GoneImage:
    """An image that left the dataset.

    Attributes:
        key: the image.
        files: of writers, paths below the output folder, without those that an image of the dataset has now.
        result: path of its stored result, "" if there is none or an image of the dataset has it now.
    """

    key: str
    files: tuple[Artifact, ...]
    result: str


class OutdatedFiles:
    """Finds the outdated files of a run, which must not change meanwhile; a context manager.

    A file that a current result lists, too, is never outdated: `a.jpg` and `a.png` may have one label file after
    another. All stored results are read for that, but only if there are candidates.

    Args:
        output: the output folder.
        ledger: of it.
    """

    def __init__(self, output: Path, ledger: Ledger) -> None:
        self._output = output
        self._ledger = ledger
        self._claims = sqlite3.connect("")  # a temporary file of SQLite: memory does not grow with the run

    def __enter__(self) -> Self:
        self._claims.execute("CREATE TABLE candidates (folded TEXT PRIMARY KEY) WITHOUT ROWID")
        self._claims.execute("CREATE TABLE claims (folded TEXT, path TEXT, PRIMARY KEY (folded, path)) WITHOUT ROWID")
        candidates = ((_fold(path),) for path in self._candidates())
        self._claims.executemany("INSERT OR IGNORE INTO candidates VALUES (?)", candidates)
        if self._claims.execute("SELECT 1 FROM candidates").fetchone():
            sql = "INSERT OR IGNORE INTO claims SELECT folded, ? FROM candidates WHERE folded = ?"
            self._claims.executemany(sql, ((path, _fold(path)) for path in self._current()))
        return self

    def __exit__(self, *exception: object) -> None:
        self._claims.close()

    def _candidates(self) -> Iterator[str]:
        for key in _gone_keys(self._ledger):
            yield self._result_of(key)
            yield from (file.path for file in read_files(self._output, key) or ())
        yield from (file.path for file in self._ledger.files.outdated())

    def _current(self) -> Iterator[str]:
        for row in self._ledger.rows():
            yield self._result_of(row.key)
            yield from (file.path for file in read_files(self._output, row.key) or ())
        yield from (file.path for file in self._ledger.files.current())

    def _result_of(self, key: str) -> str:
        return result_path(Path(), key).as_posix()

    def _is_claimed(self, path: str) -> bool:
        """Whether this file is one of the current ones, also where the system ignores case in names."""
        for (other,) in self._claims.execute("SELECT path FROM claims WHERE folded = ?", (_fold(path),)):
            with suppress(OSError):
                if other == path or (self._output / other).samefile(self._output / path):
                    return True
        return False

    def images(self) -> Iterator[GoneImage]:
        """The images that left the dataset, in key order; they may be forgotten meanwhile."""
        for key in _gone_keys(self._ledger):
            found = read_files(self._output, key) or ()
            files = tuple(file for file in found if not self._is_claimed(file.path))
            result = self._result_of(key)
            yield GoneImage(key, files, "" if self._is_claimed(result) else result)

    def removed(self) -> Iterator[str]:
        """Paths of files of these images that are not there any more: a writer has removed them."""
        for image in self.images():
            yield from (file.path for file in image.files if self._size(file.path) is None)

    def files(self) -> Iterator[Artifact]:
        """The outdated files about the whole dataset, in the order of their paths; they may be forgotten meanwhile."""
        before = self._ledger.files.outdated()
        return (file for file in before if not self._is_claimed(file.path))

    def count(self) -> Outdated:
        """How much of it is there."""
        files = size = images = 0
        writers: set[str] = set()
        for image in self.images():
            sizes = [self._size(path) for path in (*(file.path for file in image.files), image.result) if path]
            there = [each for each in sizes if each is not None]
            files, size, images = files + len(there), size + sum(there), images + bool(there)
        for file in self.files():
            if (found := self._size(file.path)) is not None:
                files, size = files + 1, size + found
                writers.add(file.path.partition("/")[0])
        return Outdated(files, size, images, tuple(sorted(writers)))

    def _size(self, path: str) -> int | None:
        try:
            return os.lstat(self._output / path).st_size
        except OSError:
            return None


def count_outdated(output: Path, ledger: Ledger, again: bool) -> Outdated:
    """Count the outdated files, and store the numbers for `read_outdated`.

    Args:
        output: the output folder.
        ledger: of it.
        again: also if neither the images nor the files about the whole dataset changed since the last time.
    """
    basis = [(ledger.meta("finished") or {}).get("state"), ledger.files.writing, _count_gone(ledger)]
    known = ledger.meta(META)
    if known is not None and known["basis"] == basis and not again:
        return read_outdated(ledger)
    with OutdatedFiles(output, ledger) as found:
        counted = found.count()
    ledger.set_meta(META, {"basis": basis, **asdict(counted)})
    ledger.commit()
    return counted


def read_outdated(ledger: Ledger) -> Outdated:
    """The numbers as of the end of the last complete run or `prune`."""
    known: dict[str, Any] = ledger.meta(META) or {}
    return Outdated(
        int(known.get("files", 0)),
        int(known.get("bytes", 0)),
        int(known.get("images", 0)),
        tuple(known.get("writers", ())),
    )


def mark_due(ledger: Ledger, keys: Sequence[str]) -> None:
    """Record at once that files of these images may be missing: each is looked at again if it is listed again."""
    for key in keys:
        ledger.write("UPDATE images SET fingerprint = '' WHERE key = ?", (key,))
    ledger.commit()


def forget_images(ledger: Ledger, keys: Sequence[str]) -> None:
    """Remove all that is recorded of these images; durable at the next commit."""
    for table in ("images", "attempts", "doubts", "results", "made_on"):
        for key in keys:
            ledger.write(f"DELETE FROM {table} WHERE key = ?", (key,))  # noqa: S608 - our tables


def _gone_keys(ledger: Ledger) -> Iterator[str]:
    """The images that the last complete listing of the dataset no longer had, in key order, lazily."""
    sql, last = f"SELECT key FROM images WHERE key > ? AND listing < ? ORDER BY key LIMIT {PAGE}", ""  # noqa: S608
    while found := ledger.read(sql, (last, ledger.complete_listing)):
        yield from (key for (key,) in found)
        last = found[-1][0]


def _count_gone(ledger: Ledger) -> int:
    ((count,),) = ledger.read("SELECT COUNT(*) FROM images WHERE listing < ?", (ledger.complete_listing,))
    return int(count)


def _fold(path: str) -> str:
    """A path as systems compare it that ignore case or the composition of letters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
