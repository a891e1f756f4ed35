"""Plain data that remembers where each part of it came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import Problem

#: Where a value stands: the keys and indices that lead to it.
Loc = tuple[str | int, ...]


class Document:
    """Plain data from YAML, and the place of each part of it.

    Attributes:
        name: the file as the user wrote its name.
        tree: mappings, lists, texts, numbers, booleans and None.
        problems: what is wrong with the text; the tree is complete but for those parts.
        values: 1-based (line, column) of each value.
        keys: the same of each key, by the place of its value.
        variables: the values that hold text of an environment variable.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tree: Any = None
        self.problems: list[Problem] = []
        self.values: dict[Loc, tuple[int, int]] = {}
        self.keys: dict[Loc, tuple[int, int]] = {}
        self._labels: dict[Loc, str] = {}
        self.variables: set[Loc] = set()
        self._refused: dict[Loc, list[Problem]] = {}

    def mark(self, loc: Sequence[str | int], key: bool = False) -> tuple[int, int]:
        """1-based (line, column) of a value, or of the nearest known thing that holds it.

        Args:
            loc: keys and indices that lead to the value.
            key: True for the place of the value's key.
        """
        loc = tuple(loc)
        if key and loc in self.keys:
            return self.keys[loc]
        while loc and loc not in self.values:
            loc = loc[:-1]
        return self.values.get(loc, (1, 1))

    def problem(
        self, loc: Sequence[str | int], message: str, hint: str = "", *, key: bool = False, warning: bool = False
    ) -> Problem:
        """A problem at the place of a value: in the file, or in the command line that set it."""
        if label := self.label(loc):
            return Problem(message, label, hint=hint, warning=warning)
        return Problem(message, self.name, *self.mark(loc, key), hint=hint, warning=warning)

    def label(self, loc: Sequence[str | int]) -> str:
        """What of the command line a value comes from, such as "--set run.jobs"; "" for the file."""
        lengths = range(len(loc), 0, -1)
        return next((self._labels[part] for length in lengths if (part := tuple(loc[:length])) in self._labels), "")

    def refuse(self, problem: Problem, loc: Loc | None) -> None:
        """Note a problem, of the value at `loc` or of no value."""
        self.problems.append(problem)
        if loc is not None:
            self._refused.setdefault(loc, []).append(problem)

    def is_refused(self, loc: Loc) -> bool:
        """Whether the value already has a problem of its own in `problems`."""
        return loc in self._refused

    def put(self, loc: Loc, label: str, value: Document, made: Loc) -> None:
        """Note that what stands at `loc` now comes from elsewhere; the tree itself is changed by the caller.

        Args:
            loc: where the value was put.
            label: names its origin in problems, such as "--set run.jobs".
            value: the document it was read from.
            made: the outermost mapping or list that was made for it, or `loc`.
        """
        for marks in (self.values, self.keys, self._labels):
            for known in [known for known in marks if known[: len(made)] == made]:
                del marks[known]
        for known in [known for known in self._refused if known[: len(loc)] == loc]:
            settled = self._refused.pop(known)
            self.problems = [problem for problem in self.problems if problem not in settled]
        self._labels[made] = self._labels[loc] = label
        self.variables = {known for known in self.variables if known[: len(loc)] != loc}
        self.variables |= {loc + known for known in value.variables}
        self._refused.update((loc + known, problems) for known, problems in value._refused.items())
