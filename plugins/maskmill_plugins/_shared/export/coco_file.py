"""A COCO file, written while the images pass: categories, which annotations refer to, are known only at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from maskmill import Artifact
from maskmill.files import atomic_path

from .output_files import describe_file, temporary_file


class CocoFile:
    """One file: its images are written at once, annotations wait in a temporary file.

    Args:
        folder: of the writer.
        name: the path of the file in it.
        head: the members in front of "images".
        stack: removes the unfinished file if the writing fails; the file is in its place when the stack is left.
    """

    def __init__(self, folder: Path, name: str, head: Mapping[str, Any], stack: ExitStack) -> None:
        self._folder, self._name = folder, name
        self._waiting: IO[str] = stack.enter_context(temporary_file(folder))
        path = stack.enter_context(atomic_path(folder / name))
        self._out: IO[str] = stack.enter_context(path.open("w", encoding="ascii", newline="\n"))
        members = ",".join(f"{dump_json(key)}:{dump_json(value)}" for key, value in head.items())
        self._out.write(f'{{{members},\n"images":[')
        self._images = self._annotations = 0

    def add_image(self, line: str) -> None:
        """Add an image, as JSON."""
        self._out.write(f"{',' if self._images else ''}\n{line}")
        self._images += 1

    def add_annotation(self, number: int, line: str) -> None:
        """Add an annotation, as JSON without its category, and the number of its label; -1 if it has a category."""
        self.add_waiting(f"{number} {line}")

    def add_waiting(self, line: str) -> None:
        """Add an annotation in a form that `set_categories` of `write_end` completes."""
        self._waiting.write(f"{line}\n")
        self._annotations += 1

    def write_end(
        self,
        by_number: Sequence[int],
        categories: Sequence[Mapping[str, Any]],
        set_categories: Callable[[str, Sequence[int]], str] | None = None,
        track: Callable[..., Iterable[str]] = lambda lines, count: lines,
    ) -> None:
        """Write the annotations and the categories.

        Args:
            by_number: the category id of each number of a label.
            categories: in their order.
            set_categories: makes JSON of a line of `add_waiting` and `by_number`; not needed for annotations of
                `add_annotation`.
            track: goes through the lines, with `count` of them.
        """
        complete = set_categories or _add_category
        self._waiting.seek(0)
        self._out.write('],\n"annotations":')
        waiting = track(self._waiting, count=self._annotations)
        _write_list(self._out, (complete(line, by_number) for line in waiting))
        self._out.write(',\n"categories":')
        _write_list(self._out, map(dump_json, categories))
        self._out.write("}\n")

    def describe(self) -> Artifact:
        """The artifact of the file, once it is in its place."""
        return describe_file(self._folder, self._name)


def _add_category(line: str, by_number: Sequence[int]) -> str:
    number, _, entry = line.rstrip("\n").partition(" ")
    return entry if number == "-1" else f'{entry[:-1]},"category_id":{by_number[int(number)]}}}'


def _write_list(out: IO[str], items: Iterable[str]) -> None:
    """Write a JSON list with one item per line."""
    out.write("[")
    for number, item in enumerate(items):
        out.write(f"{',' if number else ''}\n{item}")
    out.write("]")


def dump_json(value: Any) -> str:
    """Compact JSON in ASCII, which is also read correctly in the system's default encoding."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
