"""The prompts file of an annotation session.

The prompt source `file` replays it: one `{"image": key, "prompts": [...], ...}` per line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from maskmill import Problem
from maskmill.wording import count_noun
from maskmill_plugins._shared.prompt_files.formats import JsonLinesReader

from .line_file import compact
from .locked_lines import NO_REVISION, ChangedError, LockedLines

__all__ = [
    "NO_REVISION",
    "STATUSES",
    "TOOL",
    "ChangedError",
    "LineSummary",
    "PromptsFile",
    "Renaming",
    "Status",
    "status_of",
]

Status = Literal["todo", "done", "empty", "rejected"]
STATUSES: tuple[Status, ...] = ("todo", "done", "empty", "rejected")
SCHEMA = 1
#: Start of the field `tool` in lines written here.
TOOL = "maskmill annotate"
#: Problems of a file that are listed one by one.
MOST_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class LineSummary:
    """The facts about an image's line that are kept in memory.

    Attributes:
        offset: where the line starts, in bytes.
        status: todo, done, empty or rejected.
        objects: number of prompts.
    """

    offset: int
    status: Status
    objects: int


@dataclass(frozen=True, slots=True)
class Renaming:
    """A label that was renamed.

    Attributes:
        objects: how many were renamed.
        before: the content of the line that was replaced, by image.
        revisions: of the new lines, by image.
    """

    objects: int
    before: Mapping[str, Mapping[str, Any]]
    revisions: Mapping[str, str]


class PromptsFile(LockedLines[LineSummary]):
    """A prompts file; a save keeps the other fields of the line that it replaces."""

    kind = "prompts file"
    command = "annotate"
    option = "--prompts"

    def count_labels(self) -> dict[str, tuple[int, int]]:
        """The objects and the images of each label."""
        objects: Counter[str] = Counter()
        images: Counter[str] = Counter()
        for labels in self.labels_by_image().values():
            objects.update(labels)
            images.update(set(labels))
        return {label: (number, images[label]) for label, number in objects.items()}

    def rename_label(self, label: str, new: str) -> Renaming:
        """Give all objects of a label another one, in a new line for each of their images: all or none.

        Raises:
            OSError: they could not be written; the file is unchanged.
        """
        with self._mutex:
            found = self.labels_by_image()
            before = {key: self._read(key)[0] or {} for key, labels in found.items() if label in labels}
            contents = {key: _rename(line, label, new) for key, line in before.items()}
            objects = sum(found[key].count(label) for key in before)
            return Renaming(objects, before, self._append(contents) if contents else {})

    def undo_renaming(self, done: Renaming) -> list[str]:
        """Append the lines again that a renaming replaced.

        Returns:
            The images that have been saved since, and were left as they are.

        Raises:
            OSError: they could not be written; the file is unchanged.
        """
        with self._mutex:
            self._refresh()
            left = [key for key, revision in done.revisions.items() if self._read(key)[1] != revision]
            contents = {key: line for key, line in done.before.items() if key not in left}
            if contents:
                self._append(contents)
            return left

    def summarize(self, offset: int, data: Mapping[str, Any]) -> LineSummary:
        """Its status, and the number of its prompts."""
        return LineSummary(offset, status_of(data), len(data.get("prompts") or []))

    def find_problems(self) -> Sequence[Problem]:
        """As the source `file` finds them."""
        records = JsonLinesReader(self.path).records()
        found = [Problem(each.error, each.file, each.line) for each in records if each.error]
        if len(found) > MOST_PROBLEMS:
            found[MOST_PROBLEMS:] = [
                Problem(f"and {count_noun(len(found) - MOST_PROBLEMS, 'more line')}", str(self.path))
            ]
        return found

    def compact(self) -> str:
        """Remove replaced lines that were written here."""
        return compact(self.path, lambda data: str(data.get("tool", "")).startswith(TOOL))

    def merge(self, before: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of both, the new ones first in importance."""
        return {**(before or {}), **entry, "schema": SCHEMA}


def _rename(data: Mapping[str, Any], label: str, new: str) -> dict[str, Any]:
    """The line with the label of its prompts renamed."""
    prompts = [{**each, "label": new} if each.get("label") == label else each for each in data.get("prompts") or []]
    return {**data, "prompts": prompts}


def status_of(data: Mapping[str, Any]) -> Status:
    """The status of a line; one without it, as in files written elsewhere, is to do: nobody has looked at it here."""
    status = data.get("status")
    if status == "rejected":
        return "rejected"
    if status not in ("done", "empty"):
        return "todo"
    return "done" if data.get("prompts") else "empty"
