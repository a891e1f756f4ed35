"""Groups pydantic's validation errors by the value they are about, and resolves unions.

Where a value may have several types, pydantic reports the errors of each type ("branch") and puts the
branch's name into the path. The branch that the author meant is probably the one that accepts the
value itself and has the fewest errors inside it; if none accepts the value, all branches are reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .document import Loc


def group_errors(error: ValidationError, options: dict[str, Any]) -> list[ErrorSite]:
    """The values that have errors, each with those that matter."""
    root = ErrorSite((), options)
    for details in error.errors(include_url=False):
        root.add(details, details["loc"])
    return list(root.resolve())


@dataclass
class ErrorSite:
    """The errors about one value of the options, a node of a tree.

    Attributes:
        loc: keys and indices within the options.
        value: the value.
        errors: pydantic's errors about the value itself.
        inner: the sites inside it, by key or index.
        branches: the same site for each branch of its union.
    """

    loc: Loc
    value: Any
    errors: list[ErrorDetails] = field(default_factory=list)
    inner: dict[str | int, ErrorSite] = field(default_factory=dict)
    branches: dict[str | int, ErrorSite] = field(default_factory=dict)

    def add(self, error: ErrorDetails, path: Sequence[str | int]) -> None:
        """Add an error.

        Args:
            error: from pydantic.
            path: the rest of the error's `loc`, relative to this site.
        """
        if not path or (len(path) == 1 and error["type"] in ("missing", "extra_forbidden")):
            self.errors.append(error)
            return
        step = path[0]
        if isinstance(self.value, (dict, list)) and _contains(self.value, step):
            site = self.inner.setdefault(step, ErrorSite((*self.loc, step), self.value[step]))  # type: ignore[index]
        else:  # a step that is no key of the value is the name of a branch
            site = self.branches.setdefault(step, ErrorSite(self.loc, self.value))
        site.add(error, path[1:])

    def resolve(self) -> Iterator[ErrorSite]:
        """The sites with errors; of each union only the best branch, or all of them if none matches."""
        fitting = [branch for branch in self.branches.values() if branch.is_match()]
        if fitting:
            yield from min(fitting, key=ErrorSite.count_errors).resolve()
        else:
            for branch in self.branches.values():
                for site in branch.resolve():
                    self.errors += site.errors
        if self.errors:
            yield self
        for site in self.inner.values():
            yield from site.resolve()

    def is_match(self) -> bool:
        """Whether the value itself has the type of this branch, and only something inside it is wrong."""
        own = any(error["type"] in ("missing", "extra_forbidden") for error in self.errors)
        return own or bool(self.inner) or any(branch.is_match() for branch in self.branches.values())

    def count_errors(self) -> tuple[int, int]:
        """How many errors there are, and how many unknown keys among them."""
        errors = [error["type"] for site in self._walk() for error in site.errors]
        return len(errors), errors.count("extra_forbidden")

    def _walk(self) -> Iterator[ErrorSite]:
        yield self
        for site in [*self.inner.values(), *self.branches.values()]:
            yield from site._walk()


def _contains(value: dict[str, Any] | list[Any], step: str | int) -> bool:
    return step in value if isinstance(value, dict) else isinstance(step, int) and step < len(value)
