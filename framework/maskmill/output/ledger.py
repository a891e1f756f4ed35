"""The record of finished images: one SQLite file in the output folder, written only by the driver.

A row is small (status, fingerprint, the file's size and time); the result of an image is in
`results/<key>.json`, written before its row. Rows are committed in batches: what is lost when the
process is killed is computed again, bit for bit the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from ..errors import OutputError, Problem
from ..results import FINISHED, STATUSES, Failure, ImageResult, LedgerRow, Status
from .file_table import TABLE, FileTable
from .hosts import TABLES as HOSTS, HostTable
from .store import load_result

NAME = "ledger.sqlite"
SCHEMA = 1
BATCH = 64
PAGE = 512
SECONDS_BETWEEN_COMMITS = 1.0
#: `LedgerRow.bytes` and `mtime` of an image whose file was not compared with its result yet.
UNKNOWN = -2
#: Primary result codes of SQLite that mean a damaged file; the others are about the disk or other programs.
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
#: Higher format numbers are damage, not a newer version.
_LAST_SCHEMA = 1000

_TABLES = (
    """
CREATE TABLE IF NOT EXISTS images (
  key TEXT PRIMARY KEY,
  status TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  mtime INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  seconds REAL NOT NULL,
  listing INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS attempts (key TEXT PRIMARY KEY, lost INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS doubts (key TEXT NOT NULL, code TEXT NOT NULL, PRIMARY KEY (key, code)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, bytes INTEGER NOT NULL, mtime INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
    + TABLE
    + HOSTS
)


class DamagedLedgerError(OutputError):
    """The file is no ledger any more; `rebuild.rebuild_ledger` makes a new one.

    Attributes:
        damage: what is wrong with it.
    """

    def __init__(self, path: Path, damage: str) -> None:
        hint = "run the pipeline again: the file is put aside, and made anew from the stored results"
        super().__init__(Problem(f"{path} is damaged: {damage}", hint=hint))
        self.damage = damage


class Ledger:
    """The ledger of one output folder; a context manager.

    Attributes:
        listing: number of the current or last listing of the dataset.
        files: the files about the whole dataset.
        hosts: the machines that made the results, where they are told apart.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection
        self._pending = 0
        self._tables: frozenset[str] = frozenset()
        self._committed_at = time.monotonic()
        self.files = FileTable(self)
        self.hosts = HostTable(self)
        self.listing = int(self.meta("listing", 0))
        # Ledgers of earlier versions that are opened for reading have no such table.
        table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'doubts'"
        self._has_doubts = connection.execute(table).fetchone() is not None and (
            connection.execute("SELECT 1 FROM doubts LIMIT 1").fetchone() is not None
        )

    @classmethod
    def create(cls, folder: Path) -> Ledger:
        """Open the ledger for writing, making it if there is none.

        Raises:
            DamagedLedgerError: the file is not a ledger.
            OutputError: it is from a newer maskmill, or cannot be used now.
        """
        folder.mkdir(parents=True, exist_ok=True)
        return cls._open(folder, _TABLES)

    @classmethod
    def open_existing(cls, folder: Path) -> Ledger:
        """Open the ledger of an existing run, for reading.

        Raises:
            DamagedLedgerError: the file is not a ledger any more.
            OutputError: the folder holds no run.
        """
        if not (folder / NAME).is_file():
            raise OutputError(Problem(f"'{folder}' is not the output folder of a run (it has no {NAME})"))
        return cls._open(folder)

    @classmethod
    def in_memory(cls, folder: Path) -> Ledger:
        """An empty ledger that is not stored, of the results in this folder."""
        return cls._open(folder, _TABLES, ":memory:")

    @classmethod
    def _open(cls, folder: Path, script: str = "", database: str = "") -> Ledger:
        # No write-ahead log: it does not work on network drives, and commits are batched anyway.
        connection = sqlite3.connect(
            database or folder / NAME, timeout=30, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(script)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if script and version == 0:
                connection.execute(f"PRAGMA user_version={SCHEMA}")
            elif not 0 < version < _LAST_SCHEMA:
                raise DamagedLedgerError(folder / NAME, f"it has format {version}")
            elif version != SCHEMA:
                raise OutputError(
                    f"{folder / NAME} has format {version}; this version of maskmill reads format {SCHEMA}"
                )
            if (damage := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise DamagedLedgerError(folder / NAME, damage.replace("\n", " "))
            if not script:
                connection.execute("SELECT 1 FROM images LIMIT 1")
            return cls(folder, connection)
        except OutputError:
            connection.close()
            raise
        except (ValueError, TypeError) as error:  # in `meta`
            connection.close()
            raise DamagedLedgerError(folder / NAME, str(error)) from error
        except sqlite3.Error as error:
            connection.close()
            code = getattr(error, "sqlite_errorcode", 0)
            if code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ:
                raise DamagedLedgerError(folder / NAME, str(error)) from error
            raise OutputError(f"{folder / NAME} cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit and close; idempotent. What can no longer be written is lost, and computed again by a rerun."""
        with contextlib.suppress(sqlite3.Error):
            self.commit()
        self._connection.close()

    def check_content(self) -> None:
        """Read everything once, which finds what SQLite's own check, made at every opening, does not look at.

        Raises:
            DamagedLedgerError: a text cannot be decoded, or a value is none that a run writes.
        """
        marks = ",".join("?" * len(STATUSES))
        try:
            for _ in self._connection.execute("SELECT key || fingerprint FROM images"):
                pass
            odd = self._connection.execute(f"SELECT 1 FROM images WHERE status NOT IN ({marks})", STATUSES).fetchone()  # noqa: S608
            for (value,) in self._connection.execute("SELECT value FROM meta"):
                json.loads(value)
        except (sqlite3.Error, ValueError) as error:
            raise DamagedLedgerError(self.folder / NAME, str(error)) from error
        if odd is not None:
            raise DamagedLedgerError(self.folder / NAME, "a status that does not exist")

    def commit(self, only_if_due: bool = False) -> None:
        """Make what was recorded durable against a kill."""
        try:
            pending = self._connection.in_transaction
        except sqlite3.ProgrammingError:
            return  # closed
        due = self._pending >= BATCH or time.monotonic() - self._committed_at > SECONDS_BETWEEN_COMMITS
        if pending and (due or not only_if_due):
            self._connection.execute("COMMIT")
            self._pending = 0
            self._committed_at = time.monotonic()

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query, for the modules that have tables in here."""
        return self._connection.execute(sql, values).fetchall()

    def write(self, sql: str, values: Sequence[Any]) -> None:
        """Execute a statement; durable at the next commit."""
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute(sql, values)
        self._pending += 1

    def write_all(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Execute a statement for each of these rows; durable at the next commit."""
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(sql, rows)
        self._pending += len(rows)

    def meta(self, name: str, default: Any = None) -> Any:
        """A JSON value stored for the whole run."""
        row = self._connection.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return default if row is None else json.loads(row[0])

    def set_meta(self, name: str, value: Any) -> None:
        """Store a JSON value for the whole run; durable at the next commit."""
        self.write("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def begin_listing(self) -> None:
        """A run over the whole dataset begins; images that it no longer lists will not count."""
        self.listing += 1
        self.set_meta("listing", self.listing)

    def end_listing(self) -> None:
        """The whole dataset was listed to its end."""
        self.set_meta("complete_listing", self.listing)
        self.commit()

    def find_rows(self, keys: Sequence[str], listed: bool = True) -> dict[str, LedgerRow]:
        """The rows of these images, by key, for those that have one; with `listed` they count as listed.

        The row of an image that left the dataset and is back has no fingerprint: writers may have removed its files.
        """
        marks = ",".join("?" * len(keys))
        found = self._connection.execute(f"SELECT * FROM images WHERE key IN ({marks})", keys)  # noqa: S608 - marks only
        rows = {values[0]: LedgerRow._make(values) for values in found}
        complete = self.complete_listing
        back = [key for key, row in rows.items() if row.listing < complete]
        rows |= {key: rows[key]._replace(fingerprint="") for key in back}
        if listed and any(row.listing != self.listing for row in rows.values()):
            for key in back:
                self.write("UPDATE images SET fingerprint='' WHERE key=?", (key,))
            self.write(f"UPDATE images SET listing=? WHERE key IN ({marks})", [self.listing, *keys])  # noqa: S608
        return rows

    def record(
        self, row: LedgerRow, doubts: Collection[str] = (), stored: tuple[int, int] | None = None, host: str = ""
    ) -> None:
        """Record a finished image; durable at the next commit.

        Args:
            row: its row.
            doubts: codes of its doubts.
            stored: `stat_result` of its stored result, None if unknown.
            host: the machine that processed it, "" if machines are not told apart.
        """
        self.write("INSERT OR REPLACE INTO images VALUES (?,?,?,?,?,?,?,?)", row)
        self.write("DELETE FROM attempts WHERE key=?", (row.key,))
        self.hosts.record(row.key, host)
        if doubts or self._has_doubts:  # most runs have none: that costs nothing
            self._has_doubts = True
            self.write("DELETE FROM doubts WHERE key=?", (row.key,))
            for code in sorted(set(doubts)):  # several may have the same code
                self.write("INSERT INTO doubts VALUES (?, ?)", (row.key, code))
        if stored is None:
            self.write("DELETE FROM results WHERE key=?", (row.key,))
        else:
            self.write("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (row.key, *stored))
        self.commit(only_if_due=True)

    def find_stored(self, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
        """`stat_result` of the stored results of these images when they were recorded, where it is known."""
        if not self.has_table("results"):
            return {}
        marks = ",".join("?" * len(keys))
        found = self._connection.execute(f"SELECT * FROM results WHERE key IN ({marks})", keys)  # noqa: S608 - marks only
        return {key: (size, mtime) for key, size, mtime in found}

    def count_losses(self, key: str) -> int:
        """How often this image has ended its process so far."""
        row = self._connection.execute("SELECT lost FROM attempts WHERE key=?", (key,)).fetchone()
        return 0 if row is None else int(row[0])

    def record_losses(self, key: str, times: int) -> None:
        """Record at once how often this image has ended its process; survives the death of the driver."""
        self.write("INSERT OR REPLACE INTO attempts VALUES (?, ?)", (key, times))
        self.commit()

    def counts(self) -> dict[str, int]:
        """Images by status, every status named, without those gone from the dataset."""
        sql = "SELECT status, COUNT(*) FROM images WHERE listing >= ? GROUP BY status"
        found = dict(self._connection.execute(sql, (self.complete_listing,)))
        return {status: int(found.get(status, 0)) for status in STATUSES}

    def doubts_of(self, keys: Sequence[str]) -> dict[str, frozenset[str]]:
        """Codes of the doubts of these images, by key, for those that have any."""
        if not self._has_doubts:
            return {}
        marks = ",".join("?" * len(keys))
        found: dict[str, set[str]] = {}
        for key, code in self._connection.execute(f"SELECT key, code FROM doubts WHERE key IN ({marks})", keys):  # noqa: S608 - marks only
            found.setdefault(key, set()).add(code)
        return {key: frozenset(codes) for key, codes in found.items()}

    def doubt_counts(self) -> tuple[int, dict[str, int]]:
        """Finished images with a doubt, and images by the code of their doubts; as `counts` counts them."""
        if not self._has_doubts:
            return 0, {}
        images = "doubts JOIN images USING (key) WHERE listing >= ? AND status IN ('done', 'empty')"
        complete = (self.complete_listing,)
        total = self._connection.execute(f"SELECT COUNT(DISTINCT key) FROM {images}", complete).fetchone()[0]  # noqa: S608
        by_code = self._connection.execute(
            f"SELECT code, COUNT(*) FROM {images} GROUP BY code ORDER BY 2 DESC, 1",  # noqa: S608
            complete,
        )
        return int(total), {str(code): int(count) for code, count in by_code}

    def keys_with_doubt(self, code: str, limit: int) -> list[str]:
        """The first keys, in key order, of the finished images that have this doubt."""
        if not self._has_doubts:
            return []
        sql = (
            "SELECT key FROM doubts JOIN images USING (key) WHERE code = ? AND listing >= ?"
            " AND status IN ('done', 'empty') ORDER BY key LIMIT ?"
        )
        return [str(key) for (key,) in self._connection.execute(sql, (code, self.complete_listing, limit))]

    def has_table(self, name: str) -> bool:
        """Whether there is a table: ledgers of earlier versions that are only read lack those that came later."""
        if name not in self._tables:
            sql = "SELECT name FROM sqlite_master WHERE type = 'table'"
            self._tables = frozenset(found for (found,) in self._connection.execute(sql))
        return name in self._tables

    def rows(self, statuses: Iterable[Status] = STATUSES) -> Iterator[LedgerRow]:
        """Rows of these statuses in key order, lazily, without those gone from the dataset.

        Read in pages, so that a slow reader does not keep a run from writing.
        """
        wanted = tuple(statuses)
        marks = ",".join("?" * len(wanted))
        page = f"key > ? AND listing >= ? AND status IN ({marks}) ORDER BY key LIMIT {PAGE}"
        sql, last = f"SELECT * FROM images WHERE {page}", ""  # noqa: S608 - marks only
        while found := self._connection.execute(sql, (last, self.complete_listing, *wanted)).fetchall():
            yield from map(LedgerRow._make, found)
            last = found[-1][0]

    def digest(self) -> str:
        """A digest of the images that count, their status and fingerprint."""
        marks = hashlib.sha256()
        for row in self.rows():
            marks.update(f"{row.key}\0{row.status}\0{row.fingerprint}\n".encode())
        return marks.hexdigest()[:16]

    @property
    def complete_listing(self) -> int:
        """Number of the last complete listing; images with a lower one left the dataset."""
        return int(self.meta("complete_listing", 0))

    def result(self, row: LedgerRow) -> ImageResult:
        """The stored result of a row's image.

        Raises:
            OutputError: the result file of a finished image is missing or damaged, or a run that was cut short had
                begun to replace it.
        """
        result = load_result(self.folder, row.key)
        if result is not None and (row.status not in FINISHED or result.status in FINISHED):
            return result
        if row.status in FINISHED:
            what = "missing or damaged" if result is None else "unfinished, since a run was cut short"
            raise OutputError(f"the stored result of {row.key} is {what}; run the pipeline again to make it anew")
        return ImageResult(row.key, row.status, failure=Failure("worker", "", "Unknown", "no details are stored"))
