"""The images of a ground truth in a temporary file, so that memory does not grow with them."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .objects import Kind, TrueImage, TrueObject

#: What identifies an image in its file.
Id = int | str

_TABLES = """
CREATE TABLE images (
  number INTEGER PRIMARY KEY,
  is_text INTEGER NOT NULL,
  id BLOB NOT NULL,
  name BLOB NOT NULL UNIQUE,
  height INTEGER NOT NULL,
  width INTEGER NOT NULL,
  void BLOB,
  rank INTEGER,
  UNIQUE (is_text, id)
);
CREATE TABLE objects (image INTEGER NOT NULL, object BLOB NOT NULL);
CREATE TABLE refs (ref BLOB PRIMARY KEY) WITHOUT ROWID;
"""


class ImageTable(Mapping[str, TrueImage]):
    """True images by name. First they are added, then `complete` is called, then they are read.

    Attributes:
        objects: number of objects without crowds.
        crowds: number of crowds.
    """

    def __init__(self) -> None:
        self.objects = self.crowds = 0
        self._database = sqlite3.connect("", isolation_level=None)  # SQLite's own temporary file
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.executescript(_TABLES)

    def add(self, identity: Id, name: str, size: tuple[int, int], void: str | None = None) -> int:
        """Add an image, whose objects may follow; returns its number for `add_object`.

        Raises:
            ValueError: another image has this name or identity.
        """
        row = (isinstance(identity, str), _encode(str(identity)), _encode(name), *size, void)
        try:
            cursor = self._database.execute(
                "INSERT INTO images (is_text, id, name, height, width, void) VALUES (?, ?, ?, ?, ?, ?)", row
            )
        except sqlite3.IntegrityError:
            what = f"the id {identity!r}" if self.find(identity) else f"the file_name {name!r}"
            raise ValueError(f"{what} is used twice") from None
        return int(cursor.lastrowid or 0)

    def add_object(self, image: int, true: TrueObject) -> None:
        """Add an object of the image of this number.

        Raises:
            ValueError: another object has its `ref`.
        """
        if true.ref is not None:
            try:
                self._database.execute("INSERT INTO refs VALUES (?)", (_encode(true.ref),))
            except sqlite3.IntegrityError:
                raise ValueError(f"the id {true.ref} is used twice") from None
        self._database.execute("INSERT INTO objects VALUES (?, ?)", (image, pickle.dumps(true)))
        self.crowds += true.crowd
        self.objects += not true.crowd

    def find(self, identity: object) -> tuple[int, tuple[int, int]] | None:
        """Number and size (height, width) of the image with this identity, None if there is none."""
        values = isinstance(identity, str), _encode(str(identity))
        sql = "SELECT number, height, width FROM images WHERE is_text = ? AND id = ?"
        found = self._database.execute(sql, values).fetchone()
        return None if found is None else (found[0], (found[1], found[2]))

    def complete(self) -> ImageTable:
        """Order the images by identity, because pycocotools evaluates masks of equal score in that order."""
        order = "is_text, CASE is_text WHEN 0 THEN length(id) ELSE 0 END, id"  # numbers by value
        self._database.executescript(
            f"CREATE TABLE ranks AS SELECT number, ROW_NUMBER() OVER (ORDER BY {order}) AS rank FROM images;"  # noqa: S608
            "CREATE UNIQUE INDEX by_number ON ranks (number);"
            "UPDATE images SET rank = (SELECT rank FROM ranks WHERE ranks.number = images.number);"
            "CREATE INDEX by_rank ON images (rank); CREATE INDEX by_image ON objects (image);"
        )
        return self

    def rank_of(self, name: str) -> int:
        """The position of an image in the order, from 1."""
        (rank,) = self._database.execute("SELECT rank FROM images WHERE name = ?", (_encode(name),)).fetchone()
        return int(rank)

    def labels(self) -> set[str]:
        """The classes of all objects."""
        return {_load(data).label for (data,) in self._database.execute("SELECT object FROM objects")}

    def __getitem__(self, name: str) -> TrueImage:
        sql = "SELECT number, height, width, void FROM images WHERE name = ?"
        row = self._database.execute(sql, (_encode(name),)).fetchone()
        if row is None:
            raise KeyError(name)
        number, height, width, void = row
        found = self._database.execute("SELECT object FROM objects WHERE image = ? ORDER BY rowid", (number,))
        return TrueImage(name, (height, width), tuple(_load(data) for (data,) in found), void)

    def __iter__(self) -> Iterator[str]:
        for (name,) in self._database.execute("SELECT name FROM images ORDER BY rank"):
            yield name.decode("utf-8", "surrogatepass")

    def __len__(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM images").fetchone()[0])


@dataclass(frozen=True)
class Truth:
    """The ground truth of a dataset.

    Attributes:
        source: the file or folder it was read from.
        kind: "mask", or "box" if only boxes are known.
        images: by name.
        labels: the classes in the file's order, including those without objects.
        warnings: what was skipped.
        merged: the classes whose objects are not told apart: all their pixels in an image are one object.
    """

    source: Path
    kind: Kind
    images: ImageTable
    labels: Sequence[str]
    warnings: Sequence[str] = ()
    merged: frozenset[str] = frozenset()


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _load(data: bytes) -> TrueObject:
    true = pickle.loads(data)  # noqa: S301 - our own temporary file
    assert isinstance(true, TrueObject)
    return true
