"""The files about the whole dataset, as rows of the ledger: there may be one for each image.

Each writing of these files has a number. A row of an older number is of a file that the last writing did not
make: its writer left the pipeline, or names its files differently now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

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
Read = Callable[[str, Sequence[Any]], list[tuple[Any, ...]]]
Write = Callable[[str, Sequence[Any]], None]


class FileTable:
    """The table `files` of a ledger.

    Args:
        read: rows of a query.
        write: executes a statement; durable at the ledger's next commit.
    """

    def __init__(self, read: Read, write: Write) -> None:
        self._read = read
        self._write = write

    def add(self, file: Artifact, writing: int) -> None:
        """Record a file that was made in the writing of this number; its path is below the output folder."""
        values = (file.path, bytes.fromhex(file.sha256), file.bytes, writing)
        self._write("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", values)

    def forget(self, path: str) -> None:
        """Remove the row of a file."""
        self._write("DELETE FROM files WHERE path = ?", (path,))

    def made_in(self, writing: int) -> Iterator[Artifact]:
        """The files of one writing, in the order of their paths."""
        return self._page("writing = ?", writing)

    def made_before(self, writing: int) -> Iterator[Artifact]:
        """The files of older writings, in the order of their paths."""
        return self._page("writing < ?", writing)

    def _page(self, which: str, writing: int) -> Iterator[Artifact]:
        """Read in pages, so that rows may be changed meanwhile and no lock is held."""
        sql = f"SELECT path, sha256, bytes FROM files WHERE path > ? AND {which} ORDER BY path LIMIT {PAGE}"  # noqa: S608
        last = ""
        while found := self._read(sql, (last, writing)):
            for path, sha256, size in found:
                yield Artifact(path, sha256.hex(), size)
            last = found[-1][0]

    def count(self, writing: int) -> dict[str, int]:
        """How many files of one writing each writer's folder has."""
        sql = (
            "SELECT substr(path, 1, instr(path, '/') - 1), COUNT(*) FROM files WHERE writing = ? GROUP BY 1 ORDER BY 1"
        )
        return {str(folder): int(count) for folder, count in self._read(sql, (writing,))}
