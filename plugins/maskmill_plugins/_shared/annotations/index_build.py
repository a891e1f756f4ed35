"""Building the database of an index, and checks that need the whole file: ids, duplicates, boxes outside."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from .model import AnnotatedImage, Annotation, FileItem, FileProperty, check_box
from .shapes import check_shape

#: Increase it when the same files give a different database.
SCHEMA = 6
BATCH = 2000

_TABLES = """
PRAGMA journal_mode=OFF;
PRAGMA synchronous=OFF;
CREATE TABLE heads (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE categories (number INTEGER PRIMARY KEY, id TEXT, name TEXT, more TEXT);
CREATE TABLE images (number INTEGER PRIMARY KEY, id TEXT, name TEXT, height INTEGER, width INTEGER, place TEXT,
  file TEXT, line INTEGER, relative INTEGER, more TEXT);
CREATE TABLE annotations (number INTEGER PRIMARY KEY, image TEXT, ref TEXT, place TEXT, file TEXT, line INTEGER,
  x1 REAL, y1 REAL, x2 REAL, y2 REAL, points TEXT, label TEXT, category TEXT, score REAL, error TEXT, skipped TEXT,
  more TEXT, frame_height INTEGER, frame_width INTEGER, shape TEXT);
"""
#: A second image of the same name or id is recorded as an invalid annotation.
_SAME_ID = """
CREATE INDEX images_by_id ON images(id);
CREATE TEMP TABLE again AS SELECT second.number AS number, second.id AS id, second.place AS place,
    second.file AS file, second.line AS line, second.name = first.name AS same,
    CASE WHEN first.place != '' THEN first.place ELSE first.file END AS other
  FROM images second JOIN images first ON first.id = second.id
  WHERE first.number = (SELECT MIN(number) FROM images same WHERE same.id = second.id)
    AND second.number != first.number;
UPDATE annotations SET error = 'its image_id ' || image || ' is the id of several images'
  WHERE error = '' AND image IN (SELECT id FROM again WHERE NOT same);
DELETE FROM images WHERE number IN (SELECT number FROM again WHERE same);
UPDATE images SET id = 'same id ' || number WHERE number IN (SELECT number FROM again);
INSERT INTO annotations (image, ref, place, file, line, error, skipped, category)
  SELECT CASE WHEN same THEN '' ELSE 'same id ' || number END, '', place, file, line,
         'has the same id as ' || other || ': ' || id, '', ''
  FROM again;
"""
_SAME_NAME = """
CREATE INDEX images_by_name ON images(name);
CREATE TEMP TABLE named AS SELECT second.number AS number, second.id AS id, second.place AS place,
    second.file AS file, second.line AS line, second.name AS name, first.id AS first_id,
    CASE WHEN first.place != '' THEN first.place ELSE first.file END AS other
  FROM images second JOIN images first ON first.name = second.name
  WHERE first.number = (SELECT MIN(number) FROM images same WHERE same.name = second.name)
    AND second.number != first.number;
INSERT INTO annotations (image, ref, place, file, line, error, skipped, category)
  SELECT '', '', place, file, line, 'has the same name as ' || other || ': ' || name, '', '' FROM named;
UPDATE annotations SET error = 'its image is skipped because another image has the same name'
  WHERE error = '' AND image IN (SELECT id FROM named);
UPDATE annotations SET image = (SELECT first_id FROM named WHERE named.id = annotations.image)
  WHERE image IN (SELECT id FROM named);
DELETE FROM images WHERE number IN (SELECT number FROM named);
"""
_JOINS = """
CREATE INDEX annotations_by_image ON annotations(image);
CREATE INDEX categories_by_id ON categories(id);
UPDATE annotations SET error = 'its image is invalid: ' || broken.place
  FROM (SELECT image, place FROM annotations WHERE ref = '' AND error != '' AND image != '') broken
  WHERE annotations.image = broken.image AND annotations.error = '';
CREATE TEMP TABLE spelled AS SELECT id, CASE WHEN id LIKE '"%"' THEN trim(id, '"') ELSE '"' || id || '"' END AS other
  FROM images;
CREATE INDEX spelled_by_other ON spelled(other);
UPDATE annotations SET error = 'its image_id ' || image || ' is not in "images", which has ' || spelled.id ||
    '; write both as numbers', image = spelled.id
  FROM spelled WHERE spelled.other = annotations.image AND error = '' AND image NOT IN (SELECT id FROM images);
UPDATE annotations SET error = 'its image_id ' || image || ' is not in "images"'
  WHERE error = '' AND image NOT IN (SELECT id FROM images);
UPDATE annotations SET error = 'its category_id ' || category || ' has two names in "categories": ' || one || ', ' ||
    other
  FROM (SELECT id, MIN(name) AS one, MAX(name) AS other FROM categories GROUP BY id HAVING MIN(name) != MAX(name)) twice
  WHERE twice.id = category AND error = '';
UPDATE annotations SET label = (SELECT name FROM categories WHERE categories.id = annotations.category)
  WHERE category != '';
UPDATE annotations SET error = 'its category_id ' || category || ' is not in "categories"'
  WHERE error = '' AND category != '' AND label IS NULL AND (SELECT COUNT(*) FROM categories) > 0;
UPDATE annotations SET label = category WHERE category != '' AND label IS NULL;
UPDATE annotations SET error = 'its RLE has ' || frame_width || '×' || frame_height || ' = ' ||
    (frame_width * frame_height) || ' pixels, but its image ' || images.width || '×' || images.height || ' = ' ||
    (images.width * images.height)
  FROM images WHERE images.id = annotations.image AND error = '' AND images.width IS NOT NULL
  AND frame_width IS NOT NULL AND (frame_width != images.width OR frame_height != images.height);
UPDATE annotations SET error = 'the box is outside its image of ' || images.width || '×' || images.height
  FROM images WHERE images.id = annotations.image AND error = '' AND images.width IS NOT NULL AND NOT images.relative
  AND (x1 >= images.width OR y1 >= images.height OR x2 <= 0 OR y2 <= 0);
"""
_SAME_REF = """
CREATE INDEX annotations_by_ref ON annotations(ref);
UPDATE annotations SET error = 'its id is already used by an earlier annotation'
  WHERE error = '' AND category IS NOT NULL AND ref != '' AND EXISTS
    (SELECT 1 FROM annotations other WHERE other.ref = annotations.ref AND other.number < annotations.number);
"""
_IMAGES = "INSERT INTO images VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ANNOTATIONS = "INSERT INTO annotations VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def build_index(connection: sqlite3.Connection, items: Iterable[FileItem], shapes: bool = False) -> None:
    """Write all items of a file or folder into an empty database.

    Args:
        connection: in autocommit mode.
        items: from the reader of one format; its exceptions are not caught.
        shapes: whether the pixels of annotations are checked and stored, too.
    """
    connection.executescript(_TABLES)
    connection.execute("BEGIN")
    properties: dict[str, Any] = {}
    in_one_file = False
    check = _check_with_shape if shapes else _check_without_shape
    source: Iterator[FileItem] = iter(items)
    while batch := list(itertools.islice(source, BATCH)):
        connection.executemany(_IMAGES, [_image_row(item) for item in batch if isinstance(item, AnnotatedImage)])
        connection.executemany(
            _ANNOTATIONS, [_annotation_row(check(item)) for item in batch if isinstance(item, Annotation)]
        )
        for item in batch:
            if isinstance(item, FileProperty):
                _store_property(connection, properties, item)
            in_one_file = in_one_file or (isinstance(item, AnnotatedImage) and not item.file)
    connection.executemany(
        "INSERT INTO heads VALUES (?, ?)", [(name, _dump(value)) for name, value in properties.items()]
    )
    connection.execute("COMMIT")
    for script in (_SAME_ID, _SAME_NAME, _JOINS):
        connection.executescript(script)
    if in_one_file:  # in formats with a file per image, refs are unique within an image only
        connection.executescript(_SAME_REF)


def _check_with_shape(item: Annotation) -> Annotation:
    return check_box(check_shape(item))


def _check_without_shape(item: Annotation) -> Annotation:
    return check_box(replace(item, shape=()) if item.shape else item)


def _store_property(connection: sqlite3.Connection, properties: dict[str, Any], item: FileProperty) -> None:
    if item.name == "category":
        category = item.value["item"]
        connection.execute(
            "INSERT INTO categories VALUES (NULL, ?, ?, ?)", (item.value["key"], category["name"], _dump(category))
        )
    elif item.name.endswith("[]"):
        properties.setdefault(item.name[:-2], []).append(item.value)
    else:
        properties[item.name] = item.value


def _image_row(item: AnnotatedImage) -> tuple[Any, ...]:
    height, width = item.size or (None, None)
    more = None if item.more is None else _dump(item.more)
    place = (_escape(item.place), _escape(item.file), item.line, item.relative)
    return (_escape(item.id), _escape(item.name), height, width, *place, more)


def _annotation_row(item: Annotation) -> tuple[Any, ...]:
    box = item.box or (None,) * 4
    points = _dump(item.points) if item.points else None
    label = None if item.label is None else _escape(item.label)
    more = None if item.more is None else _dump(item.more)
    where = (_escape(item.image), _escape(item.ref), _escape(item.place), _escape(item.file), item.line)
    details = (label, item.category, item.score, _escape(item.error), item.skipped, more, *(item.frame or (None, None)))
    return (*where, *box, points, *details, _dump(item.shape) if item.shape else None)


def _escape(text: str) -> str:
    """Escape lone surrogates, which come from JSON or from file names that are not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _dump(value: Any) -> str:
    """Compact JSON; NaN and infinity, which Python reads but JSON does not allow, become null."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return _dump(json.loads(json.dumps(value), parse_constant=lambda name: None))
