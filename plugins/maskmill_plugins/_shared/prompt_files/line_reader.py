"""The content of prompts files, and the base of readers that do not hold a file in memory."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from maskmill import Prompt, PromptError
from maskmill_plugins._shared.text_files import decode_line, report_unreadable


@dataclass(frozen=True, slots=True)
class ImagePrompts:
    """All prompts of one image in a file.

    Attributes:
        prompts: what to segment; () means that the image is empty, unless there are errors.
        size: (height, width) in pixels of the image that they were made on, None if not given.
        sha256: of that image's file, "" if not given.
        relative: whether coordinates are fractions of width and height.
        errors: what is wrong with the invalid ones, each with its position.
        crowd: number of crowd regions skipped.
        status: "todo": not finished by its annotator; "rejected": must not be used; "" otherwise.
        reviewer: who set the status, "" if not given.
        shapes: of each prompt the parts that its mask consists of, JSON, () if it has none; () if masks are not kept.
    """

    prompts: tuple[Prompt, ...]
    size: tuple[int, int] | None = None
    sha256: str = ""
    relative: bool = False
    errors: tuple[str, ...] = ()
    crowd: int = 0
    status: Literal["", "todo", "rejected"] = ""
    reviewer: str = ""
    shapes: tuple[tuple[Mapping[str, Any], ...], ...] = ()


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """One entry of a file, valid or not.

    Attributes:
        name: of the image, as written in the file; "" if unknown.
        ref: identifies it among the entries of its image, also in its prompt.
        file: the file that contains it.
        line: 1-based, 0 if unknown.
        place: its position in the file apart from the line, such as `annotations[17] (id 93)`.
        prompt: None if there is none; coordinates as in the file.
        relative: whether coordinates are fractions of width and height.
        error: what is wrong, "" if it is valid.
        skipped: why a valid entry is not used, "" if it is.
    """

    name: str
    ref: str
    file: str
    line: int = 0
    place: str = ""
    prompt: Prompt | None = None
    relative: bool = False
    error: str = ""
    skipped: str = ""


class PromptReader(Protocol):
    """An open prompts file or folder; opening raises PipelineError if it cannot be read at all."""

    def find(self, name: str) -> ImagePrompts | None:
        """The prompts of the image of this name, None if it is not in the file; PromptError if they are invalid."""

    def names(self) -> Iterator[str]:
        """The names of all images in the file; a name may occur twice."""

    def records(self) -> Iterator[PromptRecord]:
        """All entries, one by one."""


class LineReader:
    """A file in which every line belongs to one image; lines are parsed on demand.

    It holds 16 bytes per line in memory: a hash of the image's key, and the offset of the line.
    """

    #: Lines at the beginning that belong to no image.
    header_lines: ClassVar[int] = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_header()
        found = ((hash(name), offset) for name, offset in self._scan())
        index = np.fromiter(found, dtype=[("key", np.int64), ("offset", np.int64)])
        index = index[np.argsort(index["key"], kind="stable")]
        self._keys, self._offsets = index["key"].copy(), index["offset"].copy()

    def _read_header(self) -> None:
        """Read the header lines."""

    def _parse_line(self, text: str) -> tuple[str, Any] | None:
        """(key, content) of a line, None if it is blank; PromptError if it is invalid."""
        raise NotImplementedError

    def _guess_name(self, text: str) -> str | None:
        """The image of an invalid line, None if it cannot be told."""
        raise NotImplementedError

    def _combine(self, rows: Sequence[Any]) -> ImagePrompts:
        """Combine the lines of one image, given in the file's order; of an invalid line the row is its PromptError.

        Raises:
            PromptError: a row is invalid as a whole.
        """
        raise NotImplementedError

    def _line_records(self, row: Any, rank: int, last: bool) -> Iterator[PromptRecord]:
        """The entries of one line, without `name`, `file` and `line`.

        Args:
            row: the content of the line.
            rank: its number among the lines of its image, from 1.
            last: whether it is the last of them.
        """
        raise NotImplementedError

    def find(self, name: str) -> ImagePrompts | None:
        """The prompts of an image."""
        first, last = self._range(name)
        rows = [row for offset in self._offsets[first:last] if (row := self._read_at(int(offset))) and row[0] == name]
        if first < last and not rows:
            raise PromptError(f"{self._path.name} was changed during the run; run again")
        return self._combine([rest for _, rest in rows]) if rows else None

    def names(self) -> Iterator[str]:
        """The name in each line that has one."""
        return (name for name, _ in self._scan())

    def records(self) -> Iterator[PromptRecord]:
        """The entries of each line."""
        for number, offset, raw in self._lines():
            row = self._parse(raw)
            if row and isinstance(row[1], PromptError):
                cut_off = "" if raw.endswith(b"\n") else " (the file ends within this line; remove or complete it)"
                yield PromptRecord(row[0], f"line {number}", str(self._path), number, error=f"{row[1]}{cut_off}")
            elif row:
                first, last = self._range(row[0])
                rank = int(np.searchsorted(self._offsets[first:last], offset)) + 1
                for record in self._line_records(row[1], rank, rank == last - first):
                    yield replace(record, name=row[0], file=str(self._path), line=number)

    def _range(self, name: str) -> tuple[int, int]:
        """The range of the lines of a name in the index."""
        first, last = (int(np.searchsorted(self._keys, hash(name), side)) for side in ("left", "right"))
        return first, last

    def _scan(self) -> Iterator[tuple[str, int]]:
        """(name, offset) of each line that has a name."""
        for _, offset, raw in self._lines():
            row = self._parse(raw)
            if row and row[0]:  # `records` reports lines without a name
                yield row[0], offset

    def _parse(self, raw: bytes) -> tuple[str, Any] | None:
        """(key, content) of a line, None if it is blank; (key or "", PromptError) of an invalid one."""
        try:
            return self._parse_line(decode_line(raw))
        except PromptError as error:
            name = self._guess_name(raw.decode("utf-8", "surrogateescape")) or ""
            return "" if any("\udc80" <= sign <= "\udcff" for sign in name) else name, error

    def _read_at(self, offset: int) -> tuple[str, Any] | None:
        with self._path.open("rb") as file:
            file.seek(offset)
            return self._parse(file.readline().removeprefix(BOM_UTF8))

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """(number, offset, bytes) of each line after the header."""
        with report_unreadable(self._path), self._path.open("rb") as file:
            offset = 0
            for number, raw in enumerate(file, 1):
                if number > self.header_lines:
                    yield number, offset, raw if offset else raw.removeprefix(BOM_UTF8)
                offset += len(raw)
