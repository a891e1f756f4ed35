"""What the queue knows of each result, and a cache of it, so that many results need not be read at each start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from maskmill import ImageResult
from maskmill.corrections import digest_masks
from maskmill_plugins._shared.cache_folder import cache_folder
from maskmill_plugins._shared.doubt_rating import finite_number, rate_doubt

#: Part of the table's name: ratings of another version are not read.
VERSION = 2
Stat = tuple[int, int]


class RatedObject(NamedTuple):
    """A kept mask: its index among the masks of the result, its label, its score."""

    mask: int
    label: str | None
    score: float | None


class Rating(NamedTuple):
    """What the queue knows of a result.

    Attributes:
        doubt: 0 to 1.
        why: the reason, see `DoubtRating`.
        figure: the number behind it.
        digest: of its masks, `digest_masks`.
        dropped: number of masks that filters dropped.
        objects: the kept masks.
    """

    doubt: float
    why: str
    figure: float | None
    digest: str
    dropped: int
    objects: tuple[RatedObject, ...]

    @classmethod
    def of(cls, result: ImageResult) -> Rating:
        """The rating of a result."""
        found = rate_doubt(result)
        kept = result.kept
        objects = tuple(RatedObject(mask.index, mask.label, finite_number(mask.score)) for mask in kept)
        dropped = len(result.masks) - len(kept)
        return cls(found.value, found.why, found.figure, digest_masks(result), dropped, objects)

    def to_text(self) -> str:
        """JSON."""
        return json.dumps(self, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Rating:
        """The inverse of `to_text`."""
        doubt, why, figure, digest, dropped, objects = json.loads(text)
        return cls(doubt, why, figure, digest, dropped, tuple(RatedObject(*one) for one in objects))


class RatingCache:
    """Ratings on disk, in the cache folder; a context manager. Without a writable cache folder it keeps nothing.

    Args:
        output: the output folder of the run.
    """

    def __init__(self, output: Path) -> None:
        name = hashlib.sha256(str(output.absolute()).encode("utf-8", "surrogatepass")).hexdigest()[:24]
        self._path = cache_folder() / "review" / f"{name}.sqlite"
        self._connection: sqlite3.Connection | None = None

    @property
    def lease_file(self) -> Path:
        """Where the leases of the run's images are kept."""
        return self._path.with_suffix(".leases.json")

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError, sqlite3.Error):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self._path, check_same_thread=False, timeout=2)
            connection.execute("PRAGMA synchronous = OFF")  # it may be lost
            columns = "key TEXT PRIMARY KEY, bytes INTEGER, mtime INTEGER, rating TEXT"
            connection.execute(f"CREATE TABLE IF NOT EXISTS ratings_{VERSION} ({columns}) WITHOUT ROWID")
            self._connection = connection
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def read(self) -> Iterator[tuple[str, Stat, Rating]]:
        """(key, size and time of the result's file, its rating) of each result that was rated."""
        if self._connection is None:
            return
        with contextlib.suppress(sqlite3.Error, ValueError, TypeError):  # damaged: they are rated again
            for key, size, mtime, text in self._connection.execute(f"SELECT * FROM ratings_{VERSION}"):  # noqa: S608
                yield key, (size, mtime), Rating.from_text(text)

    def write(self, ratings: Iterable[tuple[str, Stat, Rating]]) -> None:
        """Keep ratings."""
        if self._connection is None:
            return
        rows = [(key, *stat, rating.to_text()) for key, stat, rating in ratings if _is_encodable(key)]
        with contextlib.suppress(sqlite3.Error), self._connection:
            insert = f"INSERT OR REPLACE INTO ratings_{VERSION} VALUES (?, ?, ?, ?)"  # noqa: S608
            self._connection.executemany(insert, rows)


def _is_encodable(key: str) -> bool:
    """False for file names that are no valid Unicode, which SQLite cannot hold."""
    return key == key.encode("utf-8", "replace").decode()
