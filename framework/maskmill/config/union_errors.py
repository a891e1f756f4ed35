"""pydantic's validation errors sorted by place, with unions decided.

Where a value may be of several kinds, pydantic reports the errors of each kind, its name
put into the path. The kind the author meant is the one that accepts the value itself and
finds fewest faults inside; where no kind accepts it, all of them have their say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .document import Loc


def settled(error: ValidationError, options: dict[str, Any]) -> list[Place]:
    """The places of the options that have errors, each with those that matter."""
    root = Place((), options)
    for details in error.errors(include_url=False):
        root.add(details, details["loc"])
    return list(root.settle())


@dataclass
class Place:
    """The errors at one place of the options, sorted by the branches of its union.

    Attributes:
        loc: keys and indices within the options.
        value: what stands there.
        errors: pydantic's errors about it.
        inner: the places inside it.
        branches: the same place, as each branch of its union sees it.
    """

    loc: Loc
    value: Any
    errors: list[ErrorDetails] = field(default_factory=list)
    inner: dict[str | int, Place] = field(default_factory=dict)
    branches: dict[str | int, Place] = field(default_factory=dict)

    def add(self, error: ErrorDetails, path: Sequence[str | int]) -> None:
        """Sort one error in, by the rest of pydantic's path to it."""
        if not path or (len(path) == 1 and error["type"] in ("missing", "extra_forbidden")):
            self.errors.append(error)
            return
        step = path[0]
        if isinstance(self.value, (dict, list)) and _holds(self.value, step):
            place = self.inner.setdefault(step, Place((*self.loc, step), self.value[step]))  # type: ignore[index]
        else:  # pydantic puts the name of a union's branch into the path
            place = self.branches.setdefault(step, Place(self.loc, self.value))
        place.add(error, path[1:])

    def settle(self) -> Iterator[Place]:
        """The places with errors, of each union only the branch that fits best, or all where none fits."""
        fitting = [branch for branch in self.branches.values() if branch.fits()]
        if fitting:
            yield from min(fitting, key=Place.faults).settle()
        else:
            for branch in self.branches.values():
                for place in branch.settle():
                    self.errors += place.errors
        if self.errors:
            yield self
        for place in self.inner.values():
            yield from place.settle()

    def fits(self) -> bool:
        """Whether the value is of this kind at all, and only something inside it is wrong."""
        own = any(error["type"] in ("missing", "extra_forbidden") for error in self.errors)
        return own or bool(self.inner) or any(branch.fits() for branch in self.branches.values())

    def faults(self) -> tuple[int, int]:
        """How many errors there are, and how many unknown keys among them."""
        errors = [error["type"] for place in self._all() for error in place.errors]
        return len(errors), errors.count("extra_forbidden")

    def _all(self) -> Iterator[Place]:
        yield self
        for place in [*self.inner.values(), *self.branches.values()]:
            yield from place._all()


def _holds(value: dict[str, Any] | list[Any], step: str | int) -> bool:
    return step in value if isinstance(value, dict) else isinstance(step, int) and step < len(value)
