"""The files about the whole dataset, as rows of the ledger: there may be one for each image.

Each writing of these files has a number. A row of an older number is of a file that the last writing did not
make: its writer left the pipeline, or names its files differently now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from ..results import Artifact

TABLE = """
CREATE TABLE IF NOT EXISTS files (
  path TEXT PRIMARY KEY,
  sha256 BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  writing INTEGER NOT NULL
) WITHOUT ROWID;
"""
PAGE = 512


class Database(Protocol):
    """What a ledger offers."""

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...  # noqa: D102
    def write(self, sql: str, values: Sequence[Any]) -> None: ...  # noqa: D102
    def write_all(self, sql: str, rows: Sequence[Sequence[Any]]) -> None: ...  # noqa: D102
    def meta(self, name: str, default: Any = None) -> Any: ...  # noqa: D102
    def set_meta(self, name: str, value: Any) -> None: ...  # noqa: D102
    def has_table(self, name: str) -> bool: ...  # noqa: D102
    def commit(self, only_if_due: bool = False) -> None: ...  # noqa: D102


class FileTable:
    """The table `files` of a ledger; what is changed is durable at the ledger's next commit."""

    def __init__(self, ledger: Database) -> None:
        self._ledger = ledger

    @property
    def writing(self) -> int:
        """Number of the last complete writing, 0 before the first."""
        return int(self._ledger.meta("writing", 0))

    def begin(self) -> int:
        """The number of a new writing, durable at once; one that does not end leaves it unused."""
        number = int(self._ledger.meta("writing_begun", 0)) + 1
        self._ledger.set_meta("writing_begun", number)
        self._ledger.commit()
        return number

    def end(self, number: int) -> None:
        """All files were written; those of earlier writings that were not are outdated."""
        self._ledger.set_meta("writing", number)

    def add_all(self, files: Iterable[Artifact], writing: int) -> None:
        """Record files that were made in the writing of this number; their paths are below the output folder."""
        rows = [(file.path, bytes.fromhex(file.sha256), file.bytes, writing) for file in files]
        self._ledger.write_all("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)

    def find(self, path: str) -> Artifact | None:
        """The file of this path, None if none was made there."""
        found = self._ledger.read("SELECT path, sha256, bytes FROM files WHERE path = ?", (path,))
        return next((Artifact(path, sha256.hex(), size) for path, sha256, size in found), None)

    def forget(self, path: str) -> None:
        """Remove the row of a file."""
        self._ledger.write("DELETE FROM files WHERE path = ?", (path,))

    def adopt(self) -> None:
        """Move the list of files, which earlier versions kept in `meta`, to the table."""
        finished = self._ledger.meta("finished")
        if finished is not None and "artifacts" in finished:
            self.add_all([Artifact(**values) for values in finished.pop("artifacts")], self.writing)
            self._ledger.set_meta("finished", finished)
            self._ledger.commit()

    def current(self) -> Iterator[Artifact]:
        """The files of the last complete writing, in the order of their paths."""
        return self._page("writing = ?")

    def outdated(self) -> Iterator[Artifact]:
        """The files that only earlier writings made, in the order of their paths."""
        return self._page("writing < ?")

    def _page(self, which: str) -> Iterator[Artifact]:
        """Read in pages, so that rows may be changed meanwhile and no lock is held."""
        if not self._ledger.has_table("files"):  # of an earlier version, only read
            return
        sql = f"SELECT path, sha256, bytes FROM files WHERE path > ? AND {which} ORDER BY path LIMIT {PAGE}"  # noqa: S608
        writing, last = self.writing, ""
        while found := self._ledger.read(sql, (last, writing)):
            for path, sha256, size in found:
                yield Artifact(path, sha256.hex(), size)
            last = found[-1][0]

    def count(self, writing: int) -> dict[str, int]:
        """How many files of one writing each writer's folder has."""
        sql = (
            "SELECT substr(path, 1, instr(path, '/') - 1), COUNT(*) FROM files WHERE writing = ? GROUP BY 1 ORDER BY 1"
        )
        return {str(folder): int(count) for folder, count in self._ledger.read(sql, (writing,))}
