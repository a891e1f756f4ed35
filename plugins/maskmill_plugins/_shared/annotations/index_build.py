"""Filling the database of an index, and what shows only when all is there: unknown ids, twins, boxes outside."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from .model import AnnotatedImage, Annotation, FileItem, FileProperty, check_box

#: Raise it when the same files give another database.
SCHEMA = 4
BATCH = 2000

_TABLES = """
PRAGMA journal_mode=OFF;
PRAGMA synchronous=OFF;
CREATE TABLE heads (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE categories (number INTEGER PRIMARY KEY, id TEXT, name TEXT, more TEXT);
CREATE TABLE images (number INTEGER PRIMARY KEY, id TEXT, name TEXT, height INTEGER, width INTEGER, place TEXT,
  file TEXT, line INTEGER, relative INTEGER, more TEXT);
CREATE TABLE elements (number INTEGER PRIMARY KEY, image TEXT, ref TEXT, place TEXT, file TEXT, line INTEGER,
  x1 REAL, y1 REAL, x2 REAL, y2 REAL, points TEXT, label TEXT, category TEXT, score REAL, fault TEXT, skipped TEXT,
  more TEXT);
"""
#: A second of the same name or id is put aside, and told as an element that is wrong.
_TWINS = """
CREATE INDEX images_by_{column} ON images({column});
INSERT INTO elements (image, ref, place, file, line, fault, skipped, category)
  SELECT '', '', second.place, second.file, second.line,
         'is the second with the {said} ' || second.{column} || '; the first is ' ||
         CASE WHEN first.place != '' THEN first.place ELSE first.file END, '', ''
  FROM images second JOIN images first ON first.{column} = second.{column}
  WHERE first.number = (SELECT MIN(number) FROM images same WHERE same.{column} = second.{column})
    AND second.number != first.number;
UPDATE elements SET fault = 'its image is left out, because another one has the same name'
  WHERE fault = '' AND '{column}' = 'name' AND image IN
    (SELECT id FROM images WHERE number NOT IN (SELECT MIN(number) FROM images GROUP BY name));
DELETE FROM images WHERE number NOT IN (SELECT MIN(number) FROM images GROUP BY {column});
"""
_JOINS = """
CREATE INDEX elements_by_image ON elements(image);
CREATE INDEX categories_by_id ON categories(id);
UPDATE elements SET fault = 'its image is broken: ' || broken.place
  FROM (SELECT image, place FROM elements WHERE ref = '' AND fault != '' AND image != '') broken
  WHERE elements.image = broken.image AND elements.fault = '' AND elements.image NOT IN (SELECT id FROM images);
UPDATE elements SET fault = 'its image_id ' || image || ' is not in "images"'
  WHERE fault = '' AND image NOT IN (SELECT id FROM images);
UPDATE elements SET label = (SELECT name FROM categories WHERE categories.id = elements.category)
  WHERE category != '';
UPDATE elements SET fault = 'its category_id ' || category || ' is not in "categories"'
  WHERE fault = '' AND category != '' AND label IS NULL AND (SELECT COUNT(*) FROM categories) > 0;
UPDATE elements SET label = category WHERE category != '' AND label IS NULL;
UPDATE elements SET fault = 'the box lies outside its image, which is ' || images.width || '×' || images.height
  FROM images WHERE images.id = elements.image AND fault = '' AND images.width IS NOT NULL AND NOT images.relative
  AND (x1 >= images.width OR y1 >= images.height OR x2 <= 0 OR y2 <= 0);
"""
_SAME_REF = """
CREATE INDEX elements_by_ref ON elements(ref);
UPDATE elements SET fault = 'its id is that of an annotation before it'
  WHERE fault = '' AND category IS NOT NULL AND ref != '' AND EXISTS
    (SELECT 1 FROM elements other WHERE other.ref = elements.ref AND other.number < elements.number);
"""
_IMAGES = "INSERT INTO images VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ELEMENTS = "INSERT INTO elements VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def build_index(connection: sqlite3.Connection, pieces: Iterable[FileItem]) -> None:
    """Write all pieces into an empty database.

    Args:
        connection: in autocommit mode.
        pieces: of one format's reader; what they raise passes through.
    """
    connection.executescript(_TABLES)
    connection.execute("BEGIN")
    heads: dict[str, Any] = {}
    of_one_file = False
    source: Iterator[FileItem] = iter(pieces)
    while batch := list(itertools.islice(source, BATCH)):
        connection.executemany(_IMAGES, [_image_row(piece) for piece in batch if isinstance(piece, AnnotatedImage)])
        connection.executemany(
            _ELEMENTS, [_annotation_row(check_box(piece)) for piece in batch if isinstance(piece, Annotation)]
        )
        for piece in batch:
            if isinstance(piece, FileProperty):
                _store_property(connection, heads, piece)
            of_one_file = of_one_file or (isinstance(piece, AnnotatedImage) and not piece.file)
    connection.executemany(
        "INSERT INTO heads VALUES (?, ?)", [(name, _dump_json(value)) for name, value in heads.items()]
    )
    connection.execute("COMMIT")
    for column, said in (("id", "id"), ("name", "name")):
        connection.executescript(_TWINS.format(column=column, said=said))
    connection.executescript(_JOINS)
    if of_one_file:  # elsewhere what tells annotations apart does so within their image
        connection.executescript(_SAME_REF)


def _store_property(connection: sqlite3.Connection, heads: dict[str, Any], piece: FileProperty) -> None:
    if piece.name == "category":
        item = piece.value["item"]
        connection.execute(
            "INSERT INTO categories VALUES (NULL, ?, ?, ?)", (piece.value["key"], item["name"], _dump_json(item))
        )
    elif piece.name.endswith("[]"):
        heads.setdefault(piece.name[:-2], []).append(piece.value)
    else:
        heads[piece.name] = piece.value


def _image_row(piece: AnnotatedImage) -> tuple[Any, ...]:
    height, width = piece.size or (None, None)
    more = None if piece.more is None else _dump_json(piece.more)
    place = (_escape_text(piece.place), _escape_text(piece.file), piece.line, piece.relative)
    return (_escape_text(piece.id), _escape_text(piece.name), height, width, *place, more)


def _annotation_row(piece: Annotation) -> tuple[Any, ...]:
    box = piece.box or (None,) * 4
    points = _dump_json(piece.points) if piece.points else None
    label = None if piece.label is None else _escape_text(piece.label)
    more = None if piece.more is None else _dump_json(piece.more)
    where = (
        _escape_text(piece.image),
        _escape_text(piece.ref),
        _escape_text(piece.place),
        _escape_text(piece.file),
        piece.line,
    )
    said = (label, piece.category, piece.score, _escape_text(piece.fault), piece.skipped, more)
    return (*where, *box, points, *said)


def _escape_text(text: str) -> str:
    """What is no character becomes an escape: half of one, which JSON can hold, or a byte of an old file name."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _dump_json(value: Any) -> str:
    """Compact JSON; what no JSON can hold (NaN, infinity), and Python reads all the same, becomes null."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return _dump_json(json.loads(json.dumps(value), parse_constant=lambda name: None))
