"""Plain data from YAML with the source position of each value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import Problem

#: The path of a value: the keys and indices that lead to it.
Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class GivenText:
    """The value of a command-line option as it was typed.

    Attributes:
        text: what follows the `=`.
        label: names the option in messages.
        environ: the variables for `${NAME}`.
    """

    text: str
    label: str
    environ: Mapping[str, str]


class Document:
    """Plain data from YAML, and the position of each value.

    Attributes:
        name: the file as the user wrote its name.
        folder: the folder that relative paths in it start from, absolute.
        tree: mappings, lists, texts, numbers, booleans and None.
        problems: what is wrong with the text; the tree has placeholders for those values.
        values: 1-based (line, column) of each value.
        keys: the same for each key, by the path of its value.
        variables: the values that contain text of an environment variable, as they were written.
        given: the values from the command line, as they were typed; the tree holds their reading as YAML
            until `overrides.settle_texts` has been called for them.
        base: the document that this one extends, or None.
        inherited: the values that stand in `base`.
    """

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.name = name
        self.folder = folder or Path.cwd()
        self.tree: Any = None
        self.problems: list[Problem] = []
        self.values: dict[Loc, tuple[int, int]] = {}
        self.keys: dict[Loc, tuple[int, int]] = {}
        self._labels: dict[Loc, str] = {}
        self._arguments: set[Loc] = set()
        self.variables: dict[Loc, str] = {}
        self.given: dict[Loc, GivenText] = {}
        self.base: Document | None = None
        self.inherited: set[Loc] = set()
        self._by_loc: dict[Loc, list[Problem]] = {}

    @classmethod
    def from_tree(cls, name: str, folder: Path, tree: dict[str, Any], arguments: Mapping[Loc, str]) -> Self:
        """A document that was not read from a file.

        Args:
            name: names it in messages.
            folder: the folder that relative paths in it start from.
            tree: its content; `override` changes it.
            arguments: the command-line arguments that values were made of, such as "--box 1,2,3,4".
        """
        document = cls(name, folder)
        document.tree = tree
        document.values[()] = (0, 0)
        document._labels.update(arguments)
        document._arguments.update(arguments)
        return document

    def source(self, loc: Sequence[str | int]) -> Document:
        """The document in which a value stands: this one, or one that it extends."""
        if self.base and any(tuple(loc[:length]) in self.inherited for length in range(1, len(loc) + 1)):
            return self.base.source(loc)
        return self

    def sources(self) -> Iterator[Document]:
        """This document, the one that it extends, the one that that extends, ..."""
        yield self
        if self.base is not None:
            yield from self.base.sources()

    def inherit(self, loc: Loc, value: Any) -> None:
        """Take over a value of `base`, at the same path; there must be none here."""
        base = self.base
        assert base is not None, "only a document that extends another inherits"
        self.replace_value(loc, value)
        self.inherited.add(loc)
        self.variables |= {known: text for known, text in base.variables.items() if known[: len(loc)] == loc}
        for known, problems in base._by_loc.items():
            if known[: len(loc)] == loc:
                self._by_loc[known] = problems
                self.problems += problems

    def find_position(self, loc: Sequence[str | int], key: bool = False) -> tuple[int, int]:
        """1-based (line, column) of a value, or of the innermost container with a known position.

        Args:
            loc: keys and indices that lead to the value.
            key: True for the position of the value's key.
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
        """A problem located at a value: in the file, or in the command-line option that set it."""
        if label := self.label(loc):
            return Problem(message, label, hint=hint, warning=warning)
        source = self.source(loc)
        return Problem(message, source.name, *source.find_position(loc, key), hint=hint, warning=warning)

    def is_argument(self, loc: Loc) -> bool:
        """Whether a value was made of a command-line argument, which names it in messages."""
        return loc in self._arguments and loc in self._labels

    def label(self, loc: Sequence[str | int]) -> str:
        """The command-line option that set a value, such as "--set run.jobs"; "" if the file did."""
        lengths = range(len(loc), 0, -1)
        return next((self._labels[part] for length in lengths if (part := tuple(loc[:length])) in self._labels), "")

    def add_problem(self, problem: Problem, loc: Loc | None) -> None:
        """Record a problem, of the value at `loc` or of no value."""
        self.problems.append(problem)
        if loc is not None:
            self._by_loc.setdefault(loc, []).append(problem)

    def has_problem(self, loc: Loc) -> bool:
        """Whether this very value has a problem in `problems`."""
        return loc in self._by_loc

    def unplaced_problems(self) -> list[Problem]:
        """Those of `problems` that belong to no value."""
        placed = [problem for problems in self._by_loc.values() for problem in problems]
        return [problem for problem in self.problems if problem not in placed]

    def record_override(self, loc: Loc, label: str, value: Document, created: Loc) -> None:
        """Record that the value at `loc` now comes from the command line; the caller changes the tree.

        Args:
            loc: the path of the value.
            label: names its origin in problems, such as "--set run.jobs".
            value: the document it was read from; its problems become this document's.
            created: the outermost mapping or list that was created for it, or `loc`.
        """
        for marks in (self.values, self.keys, self._labels):
            for known in [known for known in marks if known[: len(created)] == created]:
                del marks[known]
        self._forget(loc)
        for known in [known for known in self.given if known[: len(loc)] == loc or loc[: len(known)] == known]:
            del self.given[known]
        self.inherited = {known for known in self.inherited if known[: len(loc)] != loc}
        self._labels[created] = self._labels[loc] = label
        self._arguments.discard(loc)
        self.variables |= {loc + known: text for known, text in value.variables.items()}
        self._by_loc.update((loc + known, problems) for known, problems in value._by_loc.items())
        self.problems += value.problems

    def replace_value(self, loc: Loc, value: Any) -> None:
        """Put another value in the place of one that exists, and drop the problems of the old one."""
        self._forget(loc)
        holder = self.tree
        for step in loc[:-1]:
            holder = holder[step]
        holder[loc[-1]] = value

    def drop_problems(self, loc: Loc) -> None:
        """Drop the problems of a value and of what is inside it: something else is used in its place."""
        for known in [known for known in self._by_loc if known[: len(loc)] == loc]:
            solved = self._by_loc.pop(known)
            self.problems = [problem for problem in self.problems if problem not in solved]

    def _forget(self, loc: Loc) -> None:
        self.drop_problems(loc)
        self.variables = {known: text for known, text in self.variables.items() if known[: len(loc)] != loc}
