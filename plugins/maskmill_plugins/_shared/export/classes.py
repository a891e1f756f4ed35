"""Labels and their numbers, for formats that name a class by its number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from maskmill import Problem

#: The class of masks without a label.
UNLABELLED = "object"


def ordered(first: Sequence[str], labels: Iterable[str]) -> list[str]:
    """All labels in the order of their numbers: those given, then the others in alphabetical order."""
    return [*first, *sorted(set(labels) - set(first))]


def twice(option: str, given: Sequence[str]) -> list[Problem]:
    """A problem for each label that an option names more than once."""
    names = sorted({name for name in given if given.count(name) > 1})
    return [Problem(f"{option}: {name!r} is given more than once") for name in names]
