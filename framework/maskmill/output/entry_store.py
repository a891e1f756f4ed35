"""What each image adds to the files about the whole dataset: `entries.sqlite` in the output folder.

The workers make these entries with the results, so that a writer's `finish_entries` needs no result at the end. The
file is only a store: an entry that is missing, or was made from another result or with other options, is made anew.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from ..files import TEMPORARY_PREFIX

NAME = "entries.sqlite"
BATCH = 256
PAGE = 256
SECONDS_BETWEEN_COMMITS = 1.0
#: A key after all others.
LAST = "\U0010ffff"

_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
  writer TEXT NOT NULL,
  key BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  mtime INTEGER NOT NULL,
  made_with TEXT NOT NULL,
  finished INTEGER NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (writer, key)
) WITHOUT ROWID;
"""
_PUT = """
INSERT INTO entries VALUES (?, ?, ?, ?, ?, 0, ?)
ON CONFLICT (writer, key) DO UPDATE SET
  bytes = excluded.bytes,
  mtime = excluded.mtime,
  finished = CASE WHEN data = excluded.data AND made_with = excluded.made_with THEN finished ELSE 0 END,
  made_with = excluded.made_with,
  data = excluded.data
"""


class DamagedEntriesError(Exception):
    """The file is damaged; `EntryStore.reset` makes a new one."""


@contextmanager
def _finding_damage() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise DamagedEntriesError(str(error)) from error
        raise


@dataclass(frozen=True, slots=True)
class Origin:
    """What an entry was made from.

    Attributes:
        result: size and modification time of the stored result.
        made_with: fingerprint of the writer that made it.
    """

    result: tuple[int, int]
    made_with: str


#: Of entries in a temporary store.
TEMPORARY = Origin((-1, -1), "")


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """What one image adds to the files of one writer.

    Attributes:
        key: the image.
        finished: whether it was part of the last complete writing.
        data: what the writer made.
    """

    key: str
    finished: bool
    data: bytes


class EntryStore:
    """The entries of one output folder; a context manager. A damaged file is replaced by an empty one.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending = 0
        self._committed_at = time.monotonic()

    @classmethod
    @contextmanager
    def temporary(cls, folder: Path) -> Iterator[Self]:
        """A store that is removed at the end; in `folder`, because it may be as large as the files made from it."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=folder) as made, cls(Path(made) / NAME) as store:
            yield store

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        """Opened at first use: a run that is refused leaves no file."""
        try:
            with _finding_damage():
                return self._connect()
        except DamagedEntriesError:
            self._remove()
            return self._connect()

    def _remove(self) -> None:
        for name in (self._path.name, f"{self._path.name}-journal"):
            self._path.with_name(name).unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_TABLE)
            connection.execute("SELECT writer, key, bytes, mtime, made_with, finished, data FROM entries LIMIT 1")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if "_connection" not in vars(self):
            return
        with contextlib.suppress(sqlite3.Error):  # what is lost is made anew
            self.commit()
        self._connection.close()

    def reset(self) -> None:
        """Forget everything: the file turned out to be damaged."""
        self._connection.close()
        self._remove()
        self._connection = self._connect()

    def put(self, writer: str, key: str, origin: Origin, data: bytes) -> None:
        """Store an entry; durable at the next commit.

        Args:
            writer: name of the writer's folder.
            key: the image.
            origin: what it was made from.
            data: what the writer made.
        """
        values = (writer, _encode(key), *origin.result, origin.made_with, data)
        try:
            with _finding_damage():
                self._begin()
                self._connection.execute(_PUT, values)
        except DamagedEntriesError:
            self.reset()
            self._begin()
            self._connection.execute(_PUT, values)
        self._pending += 1
        if self._pending >= BATCH or time.monotonic() - self._committed_at > SECONDS_BETWEEN_COMMITS:
            self.commit()

    def commit(self) -> None:
        """Make what was stored durable."""
        if "_connection" in vars(self) and self._connection.in_transaction:
            self._connection.execute("COMMIT")
        self._pending = 0
        self._committed_at = time.monotonic()

    def find_origins(self, writer: str, keys: Sequence[str], after: str = "") -> dict[str, Origin]:
        """What the entries of these sorted keys were made from; those of other keys from `after` on are removed."""
        sql = "SELECT key, bytes, mtime, made_with FROM entries WHERE writer = ? AND key > ? AND key <= ?"
        with _finding_damage():
            rows = self._connection.execute(sql, (writer, _encode(after), _encode(keys[-1]))).fetchall()
            found = {_decode(key): Origin((size, mtime), made_with) for key, size, mtime, made_with in rows}
            for key in found.keys() - set(keys):
                self._begin()
                self._connection.execute("DELETE FROM entries WHERE writer = ? AND key = ?", (writer, _encode(key)))
                del found[key]
        return found

    def forget_after(self, writer: str, key: str) -> None:
        """Remove the entries of keys after this one."""
        with _finding_damage():
            self._begin()
            self._connection.execute("DELETE FROM entries WHERE writer = ? AND key > ?", (writer, _encode(key)))

    def read(self, writer: str, first: str = "", last: str = LAST) -> Iterator[StoredEntry]:
        """The entries of one writer in key order, one at a time, from one key to another; none may be put meanwhile."""
        sql = "SELECT key, finished, data FROM entries WHERE writer = ? AND key BETWEEN ? AND ? ORDER BY key"
        with _finding_damage():
            for key, finished, data in self._connection.execute(sql, (writer, _encode(first), _encode(last))):
                yield StoredEntry(_decode(key), bool(finished), data)

    def count(self, writer: str) -> int:
        """How many entries one writer has."""
        ((count,),) = self._connection.execute("SELECT COUNT(*) FROM entries WHERE writer = ?", (writer,))
        return int(count)

    def end(self, writers: Iterable[str]) -> None:
        """A writing is complete: the entries of these writers are part of it, those of others are removed."""
        names = list(writers)
        marks = ",".join("?" * len(names))
        with _finding_damage():
            self._begin()
            self._connection.execute(f"DELETE FROM entries WHERE writer NOT IN ({marks})", names)  # noqa: S608
            self._connection.execute("UPDATE entries SET finished = 1 WHERE finished = 0")
            self.commit()

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")


def _encode(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _decode(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
