"""Annotations in a small database in the cache: read once, then looked up by whoever needs them.

A database is named after the place of the annotations and their state (size and time of every
file). It is written under another name, under a lock, and renamed when it is whole; it never
changes after that, so that any number of processes can read it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from maskmill import Box, PipelineError, Point, Problem, Prompt
from maskmill.files import atomic_path
from maskmill_plugins._shared.cache_folder import cache_folder
from maskmill_plugins._shared.text_files import report_unreadable

from .formats import FORMATS
from .index_build import SCHEMA, build_index
from .model import CROWD, AnnotatedImage, Annotation
from .voc import files_below
from .yolo import yolo_files

#: Files up to this size are known by their content; larger ones by size and time.
SMALL = 1 << 24


def state_of(path: Path, name: str) -> str:
    """Stands for what a file, or all files below a folder, hold now.

    Raises:
        PipelineError: it cannot be read.
    """
    marks = hashlib.sha256(f"{SCHEMA} {name} {os.path.abspath(path)}\n".encode("utf-8", "surrogatepass"))  # noqa: PTH100
    with report_unreadable(path):
        for file in _list_files(path, name):
            about = file.stat()
            marks.update(f"{file}\0{about.st_size}\0{about.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
            if path.is_file() and about.st_size <= SMALL:
                marks.update(file.read_bytes())
    return marks.hexdigest()[:32]


def _list_files(path: Path, name: str) -> Iterator[Path]:
    """The files that are read."""
    if name == "yolo":
        yield from yolo_files(path)
    else:
        yield from (file for file, _ in files_below(path, ".xml" if name == "voc" else ".json"))


class AnnotationIndex:
    """The annotations of a file or folder.

    Args:
        file: the database.
        path: what it was made of, for messages.
    """

    def __init__(self, file: Path, path: Path) -> None:
        self.file = file
        self.path = path
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(
                f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
            )
            self._connection.execute("SELECT 1 FROM images LIMIT 1")
        except sqlite3.Error as error:
            raise PipelineError(Problem(f"'{file}' cannot be used: {error}", hint="delete it and run again")) from None

    @classmethod
    def of(cls, path: Path, name: str) -> AnnotationIndex:
        """The index of annotations, made if it is not there.

        Args:
            path: the file or folder.
            name: the format, of `FORMATS`.

        Raises:
            PipelineError: they cannot be read at all, or the cache cannot be written.
        """
        folder = cache_folder() / "annotations"
        place = hashlib.sha256(f"{name} {os.path.abspath(path)}".encode("utf-8", "surrogatepass"))  # noqa: PTH100
        prefix = place.hexdigest()[:16]
        target = folder / f"{prefix}-{state_of(path, name)}.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{prefix}.lock"):
                if not target.exists():
                    _create(target, path, name)
                    _remove_others(target, prefix)
        except (OSError, sqlite3.Error) as error:
            said = getattr(error, "strerror", None) or error
            hint = "MASKMILL_CACHE names another folder"
            raise PipelineError(Problem(f"cannot write into '{folder}': {said}", hint=hint)) from None
        return cls(target, path)

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def _stream(self, sql: str) -> Iterator[Any]:
        """Rows one by one, in a cursor of their own."""
        connection = sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        with contextlib.closing(connection):
            yield from connection.execute(sql)

    def head(self, name: str) -> Any:
        """Something about the whole file, None if it does not say."""
        rows = self._rows("SELECT value FROM heads WHERE name=?", name)
        return json.loads(rows[0][0]) if rows else None

    def categories(self) -> list[dict[str, Any]]:
        """COCO's categories, as they stand in the file."""
        return [json.loads(row[0]) for row in self._rows("SELECT more FROM categories ORDER BY number")]

    def names(self) -> Iterator[str]:
        """The names of all pictures, in the file's order."""
        return (row[0] for row in self._stream("SELECT name FROM images ORDER BY number"))

    def picture(self, name: str) -> AnnotatedImage | None:
        """The picture of this name."""
        rows = self._rows(_PICTURE_BY_NAME, name)
        return _load_image(rows[0]) if rows else None

    def elements_of(self, picture: AnnotatedImage) -> list[Annotation]:
        """The annotations of a picture, in the file's order, right or wrong."""
        rows = self._rows(_ELEMENTS_OF, picture.id)
        return [_load_annotation(row) for row in rows]

    def elements(self) -> Iterator[tuple[str, bool, Annotation]]:
        """(name of the picture, whether its coordinates are relative, annotation), picture by picture.

        Those of no picture come first, with the name "".
        """
        yield from (("", False, _load_annotation(row)) for row in self._stream(_ORPHANS))
        yield from ((row[0], bool(row[1]), _load_annotation(row[2:])) for row in self._stream(_ALL))

    def faults(self) -> Iterator[Annotation]:
        """The annotations that are wrong, in the file's order."""
        return (_load_annotation(row) for row in self._stream(_FAULTS))

    def reach(self) -> float:
        """Of boxes in pixels the right or lower edge of one that leaves the first pixel, else of any; 0 if none."""
        rows = self._rows(f"{_REACH} AND (x2 > 1 OR y2 > 1) LIMIT 1") or self._rows(f"{_REACH} LIMIT 1")
        return float(rows[0][0]) if rows else 0.0

    def largest(self, table: str) -> int:
        """The largest id of "images", "elements" or "categories" that is a number, 0 if there is none."""
        rows = self._rows(_LARGEST[table])
        return int(rows[0][0] or 0)


_PICTURE = "id, name, height, width, place, file, line, relative, more"
_ELEMENT = "image, ref, place, file, line, x1, y1, x2, y2, points, label, category, score, fault, skipped, more"
_PICTURE_BY_NAME = f"SELECT {_PICTURE} FROM images WHERE name=?"  # noqa: S608 - here and below: constants only
_ELEMENTS_OF = f"SELECT {_ELEMENT} FROM elements WHERE image=? ORDER BY number"  # noqa: S608
_FAULTS = f"SELECT {_ELEMENT} FROM elements WHERE fault != '' ORDER BY number"  # noqa: S608
_ORPHANS = f"SELECT {_ELEMENT} FROM elements WHERE image NOT IN (SELECT id FROM images) ORDER BY number"  # noqa: S608
_ALL = (
    f"SELECT images.name, images.relative, {', '.join(f'elements.{name}' for name in _ELEMENT.split(', '))}"  # noqa: S608
    " FROM images JOIN elements ON elements.image = images.id ORDER BY images.number, elements.number"
)
_REACH = (
    "SELECT MAX(x2, y2) FROM images CROSS JOIN elements ON elements.image = images.id"
    " WHERE NOT images.relative AND fault = '' AND x2 IS NOT NULL"
)
_LARGEST = {
    table: f"SELECT MAX(CAST({column} AS INTEGER)) FROM {table} WHERE {column} NOT GLOB '*[^0-9]*'"  # noqa: S608
    for table, column in (("images", "id"), ("elements", "ref"), ("categories", "id"))
}


def _load_image(row: Any) -> AnnotatedImage:
    key, name, height, width, place, file, line, relative, more = row
    size = None if height is None else (height, width)
    return AnnotatedImage(
        key, name, size, place, file, line, bool(relative), None if more is None else json.loads(more)
    )


def _load_annotation(row: Any) -> Annotation:
    image, ref, place, file, line, *corners, points, label, category, score, fault, skipped, more = row
    return Annotation(
        image,
        ref,
        place,
        file,
        line,
        None if corners[0] is None else tuple(corners),
        tuple(map(tuple, json.loads(points))) if points else (),
        label,
        category,
        score,
        fault,
        skipped,
        None if more is None else json.loads(more),
    )


def make_prompt(element: Annotation, keypoints: bool = False) -> Prompt | None:
    """What an annotation asks for, None if it is wrong; coordinates as in the file.

    Args:
        element: the annotation.
        keypoints: whether those beside a box are asked for, too.
    """
    if element.fault or (element.box is None and not element.points):
        return None
    points = tuple(Point(*point) for point in element.points if keypoints or element.box is None)
    box = None if element.box is None else Box(*element.box)
    return Prompt(points=points, box=box, label=element.label, score=element.score, ref=element.ref)


def is_skipped(element: Annotation, crowd: str) -> bool:
    """Whether an annotation is left alone because it is a crowd region."""
    return element.skipped == CROWD and crowd == "skip"


def _create(target: Path, path: Path, name: str) -> None:
    with atomic_path(target) as unfinished:
        unfinished.unlink(missing_ok=True)  # of a process that was killed
        with contextlib.closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
            build_index(connection, FORMATS[name](path))


def _remove_others(target: Path, prefix: str) -> None:
    """Remove what was made of an earlier state; what another run still reads stays on Windows."""
    for other in target.parent.glob(f"{prefix}-*.sqlite"):
        if other != target:
            with contextlib.suppress(OSError):
                other.unlink()
