"""Lists of images: a text file (a path a line), CSV, or JSON Lines.

CSV and JSON Lines name the image in `image` or `path`, and may give it a `key`; other columns
and fields are ignored, so that a prompts file can serve as the list, too.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError, Problem
from ..tables import PROMPTS_CSV, unescape_cell
from ..wording import count_noun

COLUMNS = ("image", "path")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image of a list: its line (1-based), its path as written, its key if one is given."""

    line: int
    image: str
    key: str | None = None


Lines = Iterator[tuple[int, str]]
ParsedRows = Iterator[ListedImage | Problem]


def read_list(file: Path) -> ParsedRows:
    """The rows of a list in order, lazily; a `Problem` in place of a row that is wrong."""
    try:
        yield from READERS[file.suffix.lower()](_read_lines(file), str(file))
    except DatasetError as error:
        yield from error.problems


def _read_lines(file: Path) -> Lines:
    """(number, text) of each line.

    Raises:
        DatasetError: the file cannot be read, or is not UTF-8.
    """
    number = 0
    try:
        with file.open("rb") as lines:
            for number, raw in enumerate(lines, 1):
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                yield number, text
    except OSError as error:
        raise DatasetError(Problem(f"cannot be read: {error.strerror}", str(file))) from None
    except UnicodeDecodeError:
        problem = Problem("this line is not UTF-8 text", str(file), number, hint="save the file as UTF-8")
        raise DatasetError(problem) from None


def _read_text(lines: Lines, name: str) -> ParsedRows:
    for number, line in lines:
        image = line.strip()
        if image and not image.startswith("#"):
            yield ListedImage(number, image)


def _read_csv(lines: Lines, name: str) -> ParsedRows:
    reader = csv.reader((text for _, text in lines), strict=True)
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        column = next((header.index(column) for column in COLUMNS if column in header), None)
        if column is None:
            hint = "separate the columns with commas" if any(";" in title for title in header) else ""
            yield Problem(f"the first line has no column `image` or `path`: {', '.join(header)}", name, 1, hint=hint)
            return
        key = header.index("key") if "key" in header else None
        ours = tuple(header) == PROMPTS_CSV
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                yield Problem(f"expected {count_noun(len(header), 'column')}, found {len(row)}", name, reader.line_num)
                continue
            image = unescape_cell(row[column].strip()) if ours else row[column].strip()
            yield _parse_row(reader.line_num, image, row[key].strip() or None if key is not None else None, name)
    except csv.Error as error:
        yield Problem(f"not CSV: {error}", name, reader.line_num)


def _read_json_lines(lines: Lines, name: str) -> ParsedRows:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Problem(f"not a JSON object: {error}", name, number)
            continue
        if not isinstance(data, Mapping):
            yield Problem("expected a JSON object with `image` or `path`", name, number)
            continue
        yield _parse_row(
            number, next((data[column] for column in COLUMNS if column in data), None), data.get("key"), name
        )


def _parse_row(line: int, image: object, key: object, name: str) -> ListedImage | Problem:
    if not isinstance(image, str) or not image:
        return Problem("no image: expected a path in `image` or `path`", name, line)
    if key is not None and not isinstance(key, str):
        return Problem(f"`key` must be a text, not {key!r}", name, line)
    return ListedImage(line, image, key)


READERS: Mapping[str, Callable[[Lines, str], ParsedRows]] = {
    ".txt": _read_text,
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
}
