"""What files of prompts say of an image, and how one that is read line by line is not held in memory."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from maskmill import Prompt, PromptError
from maskmill_plugins._shared.text_files import decode_line, report_unreadable


@dataclass(frozen=True, slots=True)
class ImagePrompts:
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
class PromptRecord:
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


class PromptReader(Protocol):
    """One file or folder, open; PipelineError if it cannot be read at all."""

    def find(self, name: str) -> ImagePrompts | None:
        """What the file says of the image of this name; None if nothing; PromptError if it is wrong."""

    def names(self) -> Iterator[str]:
        """The names of all images that it says something of; a name may come twice."""

    def everything(self) -> Iterator[PromptRecord]:
        """All that it says, thing by thing."""


class LineReader:
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

    def _entry(self, rows: Sequence[Any]) -> ImagePrompts:
        """What the lines of one image say together, given in the file's order; PromptError if one is wrong."""
        raise NotImplementedError

    def _said(self, row: Any, rank: int, last: bool) -> Iterator[PromptRecord]:
        """What a line says by itself, the file and the line left out.

        Args:
            row: the line's rest.
            rank: its number among the lines of its image, from 1.
            last: whether it is the last of them.
        """
        raise NotImplementedError

    def find(self, name: str) -> ImagePrompts | None:
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
                row = self._parse(decode_line(raw))
            except PromptError:
                continue
            if row:
                yield row[0]

    def everything(self) -> Iterator[PromptRecord]:
        """What each line says."""
        for number, offset, raw in self._lines():
            try:
                row = self._parse(decode_line(raw))
            except PromptError as error:
                torn = "" if raw.endswith(b"\n") else " (the file ends within this line: remove or complete it)"
                yield PromptRecord("", f"line {number}", str(self._path), number, fault=f"{error}{torn}")
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
                row = self._parse(decode_line(raw))
            except PromptError:
                continue  # `everything` tells it
            if row:
                yield hash(row[0]), offset

    def _at(self, offset: int) -> tuple[str, Any] | None:
        with self._path.open("rb") as file:
            file.seek(offset)
            return self._parse(decode_line(file.readline().removeprefix(BOM_UTF8)))

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """(number, offset, bytes) of each line after the head."""
        with report_unreadable(self._path), self._path.open("rb") as file:
            offset = 0
            for number, raw in enumerate(file, 1):
                if number > self.head:
                    yield number, offset, raw if offset else raw.removeprefix(BOM_UTF8)
                offset += len(raw)
