"""Files of prompts: what they say of an image, found without holding them in memory.

Another format is another `Reader`, and a line in `READERS`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from maskmill import Box, PipelineError, Problem, Prompt, PromptError

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file says of one image.

    Attributes:
        prompts: what to segment; () means that nothing is there.
        size: (height, width) of the picture that they were made on, None if the file does not say.
        sha256: of that picture's file, "" if the prompts file does not say.
        status: "todo": a person is not done with it; "rejected": it is not to be used; "" otherwise.
        reviewer: who said so, "" if the file does not say.
    """

    prompts: tuple[Prompt, ...]
    size: tuple[int, int] | None = None
    sha256: str = ""
    status: Literal["", "todo", "rejected"] = ""
    reviewer: str = ""


class Reader(Protocol):
    """One format, made with the path to read; PipelineError if that cannot be read at all."""

    def find(self, key: str) -> Entry | None:
        """What the file says of the image with this key; None if nothing; PromptError if it is wrong."""

    def entries(self) -> Iterator[tuple[str, int, Entry | PromptError]]:
        """(file, line, entry or what is wrong there) of all there is, for `check`."""


class Lines:
    """A file in which every line is about one image, as most are; lines are parsed when asked for.

    Held in memory are 16 bytes a line: a hash of its image's key, and where it begins.
    """

    #: Lines at the beginning that are about no image.
    head: ClassVar[int] = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begin()
        index = np.fromiter(self._index(), dtype=[("key", np.int64), ("offset", np.int64)])
        index = index[np.argsort(index["key"], kind="stable")]
        self._keys, self._offsets = index["key"].copy(), index["offset"].copy()

    def _begin(self) -> None:
        """Read the head."""

    def _parse(self, text: str) -> tuple[str, Any] | None:
        """(key, the rest) of a line, None if it is blank; PromptError if it is wrong."""
        raise NotImplementedError

    def _entry(self, rows: Sequence[Any]) -> Entry:
        """What the lines of one image say together, given in the file's order; PromptError if one is wrong."""
        raise NotImplementedError

    def find(self, key: str) -> Entry | None:
        """The entry of an image."""
        first, last = (np.searchsorted(self._keys, hash(key), side) for side in ("left", "right"))
        rows = [row for offset in self._offsets[first:last] if (row := self._at(int(offset))) and row[0] == key]
        if first < last and not rows:
            raise PromptError(f"{self._path.name} was changed while it was in use; run again")
        return self._entry([rest for _, rest in rows]) if rows else None

    def entries(self) -> Iterator[tuple[str, int, Entry | PromptError]]:
        """The entry of each line by itself."""
        for number, _, raw in self._lines():
            entry: Entry | PromptError | None
            try:
                row = self._parse(_text(raw))
                entry = self._entry([row[1]]) if row else None
            except PromptError as error:
                torn = "" if raw.endswith(b"\n") else " (the file ends within this line: remove or complete it)"
                entry = PromptError(f"{error}{torn}")
            if entry is not None:
                yield str(self._path), number, entry

    def _index(self) -> Iterator[tuple[int, int]]:
        for _, offset, raw in self._lines():
            try:
                row = self._parse(_text(raw))
            except PromptError:
                continue  # `entries` tells it
            if row:
                yield hash(row[0]), offset

    def _at(self, offset: int) -> tuple[str, Any] | None:
        with self._path.open("rb") as file:
            file.seek(offset)
            return self._parse(_text(file.readline().removeprefix(_BOM)))

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """(number, offset, bytes) of each line after the head."""
        try:
            with self._path.open("rb") as file:
                offset = 0
                for number, raw in enumerate(file, 1):
                    if number > self.head:
                        yield number, offset, raw if offset else raw.removeprefix(_BOM)
                    offset += len(raw)
        except OSError as error:
            raise PipelineError(Problem(f"cannot be read: {error.strerror}", str(self._path))) from None


class JsonLines(Lines):
    """`{"image": key, "prompts": [...], "size": [h, w], "sha256": ...}` a line; the last for a key counts."""

    def _parse(self, text: str) -> tuple[str, Any] | None:
        if not text.strip():
            return None
        try:
            data = json.loads(text)
            if "\\u" in text:  # half of a surrogate pair could not be written again
                json.dumps(data, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise PromptError(f"not JSON: {error}") from None
        if not isinstance(data, Mapping) or not isinstance(data.get("image"), str):
            raise PromptError('expected {"image": key, "prompts": [...]}')
        return data["image"], data

    def _entry(self, rows: Sequence[Any]) -> Entry:
        data = rows[-1]
        if data.get("schema", 1) != 1:
            raise PromptError(f"format {data['schema']!r} is newer than this maskmill reads (1)")
        prompts = data.get("prompts")
        if not isinstance(prompts, list) or not all(isinstance(item, Mapping) for item in prompts):
            raise PromptError('"prompts" must be a list of objects, [] where nothing is there')
        size, sha256 = data.get("size"), data.get("sha256") or ""
        if size is not None and not (isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)):
            raise PromptError(f'"size" is [height, width], not {size!r}')
        height_width = None if size is None else (size[0], size[1])
        status: Any = data.get("status") if data.get("status") in ("todo", "rejected") else ""
        reviewer = str(data.get("reviewer") or "")
        return Entry(tuple(_prompt(item) for item in prompts), height_width, str(sha256), status, reviewer)


class CsvRows(Lines):
    """Columns `image`, `x1`, `y1`, `x2`, `y2` and perhaps `label`; a box a row, none where nothing is there."""

    head = 1

    def _begin(self) -> None:
        try:
            with self._path.open("rb") as file:
                raw = file.readline().removeprefix(_BOM)
            self._columns = [column.strip().lower() for column in _fields(_text(raw))]
        except OSError as error:
            raise PipelineError(Problem(f"cannot be read: {error.strerror}", str(self._path))) from None
        except PromptError as error:
            raise PipelineError(Problem(str(error), str(self._path), 1)) from None
        if missing := [name for name in ("image", "x1", "y1", "x2", "y2") if name not in self._columns]:
            text = f"the first line must name the columns image,label,x1,y1,x2,y2; there is no {missing[0]!r}"
            hint = "separate the columns by commas" if b";" in raw or b"\t" in raw else ""
            raise PipelineError(Problem(text, str(self._path), 1, hint=hint))

    def _parse(self, text: str) -> tuple[str, Any] | None:
        fields = _fields(text)
        if not fields:
            return None
        if len(fields) != len(self._columns):
            raise PromptError(f"expected {len(self._columns)} columns, found {len(fields)}")
        row = dict(zip(self._columns, (field.strip() for field in fields), strict=True))
        if not row["image"]:
            raise PromptError("names no image")
        return row["image"], row

    def _entry(self, rows: Sequence[Any]) -> Entry:
        prompts = []
        for row in rows:
            corners = [row[name] for name in ("x1", "y1", "x2", "y2")]
            if any(corners):
                try:
                    box = Box(*(float(corner) for corner in corners))
                except ValueError:
                    raise PromptError(f"x1,y1,x2,y2 must be numbers, not {','.join(corners)}") from None
                prompts.append(Prompt(box=box, label=row.get("label") or None))
        return Entry(tuple(prompts))


#: Format -> its reader; also the ending of a file's name that tells the format.
READERS: Mapping[str, Callable[[Path], Reader]] = {"jsonl": JsonLines, "csv": CsvRows}


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise PromptError("not UTF-8 text; save the file as UTF-8 (in Excel: CSV UTF-8)") from None


def _fields(line: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r\n")], strict=True), [])
    except csv.Error as error:
        raise PromptError(f"not CSV: {error}") from None


def _prompt(data: Mapping[str, Any]) -> Prompt:
    try:
        return Prompt.from_json(data)
    except TypeError as error:
        raise PromptError(f"a value of the wrong kind: {error}") from None
