"""Files of prompts: what they say of an image, found without holding them in memory.

Here are those that are read line by line; `annotations` has other tools' formats.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from maskmill import Box, PipelineError, Problem, Prompt, PromptError

_BOM = b"\xef\xbb\xbf"
TODO = "a person is not done with its image"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file says of one image.

    Attributes:
        prompts: what to segment; () means that nothing is there, unless there are faults.
        size: (height, width) of the picture that they were made on, None if the file does not say.
        sha256: of that picture's file, "" if the prompts file does not say.
        relative: whether coordinates are parts of the width and the height.
        faults: what is wrong with those that are no prompts, each with its place.
        crowd: how many were left out because they are crowd regions.
        status: "todo": a person is not done with it; "rejected": it is not to be used; "" otherwise.
        reviewer: who said so, "" if the file does not say.
    """

    prompts: tuple[Prompt, ...]
    size: tuple[int, int] | None = None
    sha256: str = ""
    relative: bool = False
    faults: tuple[str, ...] = ()
    crowd: int = 0
    status: Literal["", "todo", "rejected"] = ""
    reviewer: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that a file says, right or wrong.

    Attributes:
        name: of the image, as the file has it; "" if that is unknown.
        ref: what tells it from the others of its image, in its prompt too.
        file: the file it stands in.
        line: 1-based, 0 if unknown.
        place: where in the file, beside the line, such as `annotations[17] (id 93)`.
        prompt: None if there is none; coordinates as in the file.
        relative: whether these are parts of the width and the height.
        fault: what is wrong, "" if nothing.
        skipped: why it is no prompt although it is right, "" if it is one.
    """

    name: str
    ref: str
    file: str
    line: int = 0
    place: str = ""
    prompt: Prompt | None = None
    relative: bool = False
    fault: str = ""
    skipped: str = ""


class Reader(Protocol):
    """One file or folder, open; PipelineError if it cannot be read at all."""

    def find(self, name: str) -> Entry | None:
        """What the file says of the image of this name; None if nothing; PromptError if it is wrong."""

    def names(self) -> Iterator[str]:
        """The names of all images that it says something of; a name may come twice."""

    def everything(self) -> Iterator[Said]:
        """All that it says, thing by thing."""


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

    def _said(self, row: Any, rank: int, last: bool) -> Iterator[Said]:
        """What a line says by itself, the file and the line left out.

        Args:
            row: the line's rest.
            rank: its number among the lines of its image, from 1.
            last: whether it is the last of them.
        """
        raise NotImplementedError

    def find(self, name: str) -> Entry | None:
        """The entry of an image."""
        first, last = self._range(name)
        rows = [row for offset in self._offsets[first:last] if (row := self._at(int(offset))) and row[0] == name]
        if first < last and not rows:
            raise PromptError(f"{self._path.name} was changed while it was in use; run again")
        return self._entry([rest for _, rest in rows]) if rows else None

    def names(self) -> Iterator[str]:
        """The name in each line that can be read."""
        for _, _, raw in self._lines():
            try:
                row = self._parse(_text(raw))
            except PromptError:
                continue
            if row:
                yield row[0]

    def everything(self) -> Iterator[Said]:
        """What each line says."""
        for number, offset, raw in self._lines():
            try:
                row = self._parse(_text(raw))
            except PromptError as error:
                torn = "" if raw.endswith(b"\n") else " (the file ends within this line: remove or complete it)"
                yield Said("", f"line {number}", str(self._path), number, fault=f"{error}{torn}")
                continue
            if row:
                first, last = self._range(row[0])
                rank = int(np.searchsorted(self._offsets[first:last], offset)) + 1
                for said in self._said(row[1], rank, rank == last - first):
                    yield replace(said, name=row[0], file=str(self._path), line=number)

    def _range(self, name: str) -> tuple[int, int]:
        """From where to where the lines of a name stand in the index."""
        first, last = (int(np.searchsorted(self._keys, hash(name), side)) for side in ("left", "right"))
        return first, last

    def _index(self) -> Iterator[tuple[int, int]]:
        for _, offset, raw in self._lines():
            try:
                row = self._parse(_text(raw))
            except PromptError:
                continue  # `everything` tells it
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
        found = list(self._prompts(data))
        prompts = tuple(prompt for _, prompt, _ in found if prompt is not None)
        faults = tuple(f"{place}: {fault}" if len(found) > 1 else fault for place, _, fault in found if fault)
        size, sha256 = data.get("size"), data.get("sha256") or ""
        status: Any = data.get("status") if data.get("status") in ("todo", "rejected") else ""
        height_width = None if size is None else (size[0], size[1])
        reviewer = str(data.get("reviewer") or "")
        return Entry(prompts, height_width, str(sha256), faults=faults, status=status, reviewer=reviewer)

    def _said(self, row: Any, rank: int, last: bool) -> Iterator[Said]:
        """Of a line that a later one replaces, only what is wrong with it."""
        skipped = TODO if row.get("status") == "todo" else ""
        try:
            for place, prompt, fault in self._prompts(row):
                if last or fault:
                    ref = (prompt and prompt.ref) or place
                    yield Said("", ref, "", 0, place, prompt, fault=fault, skipped=skipped)
        except PromptError as error:
            yield Said("", "", "", fault=str(error), skipped=skipped)

    def _prompts(self, data: Mapping[str, Any]) -> Iterator[tuple[str, Prompt | None, str]]:
        """(place, prompt, what is wrong) of each prompt of a line; PromptError if the line itself is wrong."""
        if data.get("schema", 1) != 1:
            raise PromptError(f"format {data['schema']!r} is newer than this maskmill reads (1)")
        prompts, size = data.get("prompts"), data.get("size")
        if not isinstance(prompts, list) or not all(isinstance(item, Mapping) for item in prompts):
            raise PromptError('"prompts" must be a list of objects, [] where nothing is there')
        if size is not None and not (isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)):
            raise PromptError(f'"size" is [height, width], not {size!r}')
        refs: set[str] = set()
        for number, item in enumerate(prompts, 1):
            place = f"prompt {number}"
            try:
                prompt = _prompt(item)
                prompt = prompt if prompt.ref else replace(prompt, ref=place)
                if prompt.ref in refs:
                    raise PromptError(f"its ref {prompt.ref!r} is that of a prompt before it")
                refs.add(str(prompt.ref))
            except PromptError as error:
                yield place, None, str(error)
            else:
                yield place, prompt, ""


class CsvRows(Lines):
    """Columns `image`, `x1`, `y1`, `x2`, `y2`, perhaps `label` and `id`; a box a row, none where nothing is there."""

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
        prompts, faults = [], []
        for rank, row in enumerate(rows, 1):
            try:
                prompts.append(_box_of_row(row, rank))
            except PromptError as error:
                faults.append(str(error))
        return Entry(tuple(prompt for prompt in prompts if prompt is not None), faults=tuple(faults))

    def _said(self, row: Any, rank: int, last: bool) -> Iterator[Said]:
        try:
            if (prompt := _box_of_row(row, rank)) is not None:
                yield Said("", str(prompt.ref), "", prompt=prompt)
        except PromptError as error:
            yield Said("", f"prompt {rank}", "", fault=str(error))


#: Formats that are read line by line.
READERS: Mapping[str, Callable[[Path], Reader]] = {"jsonl": JsonLines, "csv": CsvRows}


def _box_of_row(row: Mapping[str, str], rank: int) -> Prompt | None:
    """The prompt of a row of CSV, None where nothing is there; its ref is its `id`, or its number in its image."""
    corners = [row[name] for name in ("x1", "y1", "x2", "y2")]
    if not any(corners):
        return None
    try:
        numbers = [float(corner) for corner in corners]
    except ValueError:
        raise PromptError(f"x1,y1,x2,y2 must be numbers, not {','.join(corners)}") from None
    return Prompt(box=Box(*numbers), label=row.get("label") or None, ref=row.get("id") or f"prompt {rank}")


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
