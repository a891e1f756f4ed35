"""Annotations in an SQLite database in the cache: read once, then queried by every process.

A database is named after the path of the annotations and their state (size and time of every file).
It is written under a temporary name, under a lock, and renamed when complete. It never changes after
that, so any number of processes can read it.
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
from .model import CLASS_NUMBERS, CROWD, AnnotatedImage, Annotation
from .own_tables import find_own_table
from .voc import find_object_map, list_files
from .yolo import yolo_files

#: Files up to this size are identified by their content, larger ones by size and time.
MAX_HASHED_SIZE = 1 << 24


def compute_state(path: Path, name: str, shapes: bool = False) -> str:
    """A hash of the current state of a file, or of all files below a folder.

    Raises:
        PipelineError: it cannot be read.
    """
    marks = hashlib.sha256(f"{SCHEMA} {name} {os.path.abspath(path)}\n".encode("utf-8", "surrogatepass"))  # noqa: PTH100
    with report_unreadable(path):
        for file in _list_files(path, name, shapes):
            about = file.stat()
            marks.update(f"{file}\0{about.st_size}\0{about.st_mtime_ns}\n".encode("utf-8", "surrogatepass"))
            if path.is_file() and about.st_size <= MAX_HASHED_SIZE:
                marks.update(file.read_bytes())
    return marks.hexdigest()[:32]


def _list_files(path: Path, name: str, shapes: bool) -> Iterator[Path]:
    """The files that the reader of this format reads."""
    if name != "coco" and (table := find_own_table(path)) is not None:
        yield table
    if name == "yolo":
        yield from yolo_files(path)
    else:
        for file, _ in list_files(path, ".xml" if name == "voc" else ".json"):
            yield file
            if shapes and name == "voc" and (numbers := find_object_map(file)) is not None:
                yield numbers


class AnnotationIndex:
    """The annotations of a file or folder.

    Args:
        file: the database.
        path: the annotations it was built from, for messages.
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
            raise PipelineError(Problem(f"'{file}' cannot be read: {error}", hint="delete it and run again")) from None

    @classmethod
    def of(cls, path: Path, name: str, shapes: bool = False) -> AnnotationIndex:
        """The index of these annotations; built if it does not exist.

        Args:
            path: the file or folder.
            name: the format, of `FORMATS`.
            shapes: whether it holds the pixels of annotations, which make it larger.

        Raises:
            PipelineError: they cannot be read at all, or the cache cannot be written.
        """
        folder = cache_folder() / "annotations"
        kind = f"{name} with shapes" if shapes else name
        place = hashlib.sha256(f"{kind} {os.path.abspath(path)}".encode("utf-8", "surrogatepass"))  # noqa: PTH100
        prefix = place.hexdigest()[:16]
        target = folder / f"{prefix}-{compute_state(path, name, shapes)}.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{prefix}.lock"):
                if not target.exists():
                    _create(target, path, name, shapes)
                    _remove_others(target, prefix)
        except (OSError, sqlite3.Error) as error:
            cause = getattr(error, "strerror", None) or error
            hint = "set MASKMILL_CACHE to another folder"
            raise PipelineError(Problem(f"cannot write to '{folder}': {cause}", hint=hint)) from None
        return cls(target, path)

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def _stream(self, sql: str) -> Iterator[Any]:
        """Rows one by one, over a connection of their own."""
        connection = sqlite3.connect(f"{self.file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        with contextlib.closing(connection):
            yield from connection.execute(sql)

    def file_property(self, name: str) -> Any:
        """A property of the whole file, None if it has none of this name."""
        rows = self._rows("SELECT value FROM heads WHERE name=?", name)
        return json.loads(rows[0][0]) if rows else None

    def categories(self) -> list[dict[str, Any]]:
        """COCO's categories as written in the file."""
        return [json.loads(row[0]) for row in self._rows("SELECT more FROM categories ORDER BY number")]

    def class_numbers(self) -> str:
        """Why labels are class numbers instead of names, "" if they are not."""
        why = self.file_property(CLASS_NUMBERS)
        if why is not None:
            return str(why) if self._rows(_VALID) else ""
        return 'the list "categories" is missing or empty' if self._rows(_NUMBERED) else ""

    def count_without_image(self) -> int:
        """The number of invalid annotations whose image is unknown."""
        return int(self._rows(_LOST)[0][0])

    def names(self) -> Iterator[str]:
        """The names of all images, in the file's order."""
        return (row[0] for row in self._stream("SELECT name FROM images ORDER BY number"))

    def image(self, name: str) -> AnnotatedImage | None:
        """The image of this name."""
        rows = self._rows(_IMAGE_BY_NAME, name)
        return _load_image(rows[0]) if rows else None

    def annotations_of(self, image: AnnotatedImage) -> list[Annotation]:
        """The annotations of an image, in the file's order, valid or not."""
        rows = self._rows(_ANNOTATIONS_OF, image.id)
        return [_load_annotation(row) for row in rows]

    def annotations(self) -> Iterator[tuple[str, bool, Annotation]]:
        """(name of the image, whether its coordinates are relative, annotation), image by image.

        Annotations without an image come first, with the name "".
        """
        yield from (("", False, _load_annotation(row)) for row in self._stream(_ORPHANS))
        yield from ((row[0], bool(row[1]), _load_annotation(row[2:])) for row in self._stream(_ALL))

    def errors(self) -> Iterator[Annotation]:
        """The invalid annotations, in the file's order."""
        return (_load_annotation(row) for row in self._stream(_ERRORS))

    def has_shapes(self) -> bool:
        """Whether it holds the pixels of an annotation."""
        return bool(self._rows(_SHAPED))

    def box_extent(self) -> float:
        """The right or lower edge of a box in pixels, if possible of one that exceeds the first pixel; 0 if none."""
        rows = self._rows(f"{_EXTENT} AND (x2 > 1 OR y2 > 1) LIMIT 1") or self._rows(f"{_EXTENT} LIMIT 1")
        return float(rows[0][0]) if rows else 0.0

    def largest_id(self, table: str) -> int:
        """The largest id of "images", "annotations" or "categories" that is a number, 0 if there is none."""
        rows = self._rows(_LARGEST[table])
        return int(rows[0][0] or 0)


_IMAGE = "id, name, height, width, place, file, line, relative, more"
_ANNOTATION = (
    "image, ref, place, file, line, x1, y1, x2, y2, points, label, category, score, error, skipped, more, shape"
)
_IMAGE_BY_NAME = f"SELECT {_IMAGE} FROM images WHERE name=?"  # noqa: S608 - here and below: constants only
_ANNOTATIONS_OF = f"SELECT {_ANNOTATION} FROM annotations WHERE image=? ORDER BY number"  # noqa: S608
_ERRORS = f"SELECT {_ANNOTATION} FROM annotations WHERE error != '' ORDER BY number"  # noqa: S608
_ORPHANS = f"SELECT {_ANNOTATION} FROM annotations WHERE image NOT IN (SELECT id FROM images) ORDER BY number"  # noqa: S608
_ALL = (
    f"SELECT images.name, images.relative, {', '.join(f'annotations.{name}' for name in _ANNOTATION.split(', '))}"  # noqa: S608
    " FROM images JOIN annotations ON annotations.image = images.id ORDER BY images.number, annotations.number"
)
_EXTENT = (
    "SELECT MAX(x2, y2) FROM images CROSS JOIN annotations ON annotations.image = images.id"
    " WHERE NOT images.relative AND error = '' AND x2 IS NOT NULL"
)
_NUMBERED = "SELECT 1 FROM annotations WHERE category != '' AND NOT EXISTS (SELECT 1 FROM categories) LIMIT 1"
_VALID = "SELECT 1 FROM annotations WHERE error = '' LIMIT 1"
_SHAPED = "SELECT 1 FROM annotations WHERE shape IS NOT NULL LIMIT 1"
_LOST = "SELECT COUNT(*) FROM annotations WHERE error != '' AND image NOT IN (SELECT id FROM images)"
_LARGEST = {
    table: f"SELECT MAX(CAST({column} AS INTEGER)) FROM {table} WHERE {column} NOT GLOB '*[^0-9]*'"  # noqa: S608
    for table, column in (("images", "id"), ("annotations", "ref"), ("categories", "id"))
}


def _load_image(row: Any) -> AnnotatedImage:
    key, name, height, width, place, file, line, relative, more = row
    size = None if height is None else (height, width)
    fields = None if more is None else json.loads(more)
    return AnnotatedImage(key, name, size, place, file, line, bool(relative), fields)


def _load_annotation(row: Any) -> Annotation:
    image, ref, place, file, line, *corners, points, label, category, score, error, skipped, more, shape = row
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
        error,
        skipped,
        None if more is None else json.loads(more),
        shape=() if shape is None else tuple(json.loads(shape)),
    )


def make_prompt(annotation: Annotation, keypoints: bool = False) -> Prompt | None:
    """The prompt for an annotation, None if it is invalid; coordinates as in the file.

    Args:
        annotation: the annotation.
        keypoints: whether to include keypoints next to a box.
    """
    if annotation.error or (annotation.box is None and not annotation.points):
        return None
    points = tuple(Point(*point) for point in annotation.points if keypoints or annotation.box is None)
    box = None if annotation.box is None else Box(*annotation.box)
    return Prompt(points=points, box=box, label=annotation.label, score=annotation.score, ref=annotation.ref)


def is_skipped(annotation: Annotation, crowd: str) -> bool:
    """Whether an annotation is skipped because it is a crowd region."""
    return annotation.skipped == CROWD and crowd == "skip"


def _create(target: Path, path: Path, name: str, shapes: bool) -> None:
    with atomic_path(target) as unfinished:
        unfinished.unlink(missing_ok=True)  # left by a process that was killed
        with contextlib.closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
            build_index(connection, FORMATS[name](path), shapes)


def _remove_others(target: Path, prefix: str) -> None:
    """Remove databases of earlier states; on Windows one that another run still reads remains."""
    for other in target.parent.glob(f"{prefix}-*.sqlite"):
        if other != target:
            with contextlib.suppress(OSError):
                other.unlink()
