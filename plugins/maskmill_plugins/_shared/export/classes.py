"""Class numbers, and class names in the form that a format allows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal

from maskmill import Mask, Problem, masks

#: The class of masks without a label.
UNLABELLED = masks.UNLABELLED
#: Class 0 of formats that number pixels.
BACKGROUND = "background"
#: Characters that a line of text or XML cannot hold.
NOT_IN_LINE = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_RENAMED = re.compile("~[0-9a-f]{8}$")


def label_of(mask: Mask) -> str:
    """The class of a mask, as its label says."""
    return mask.label or UNLABELLED


def order_labels(first: Sequence[str], labels: Iterable[str]) -> list[str]:
    """All labels in the order of their class numbers: the given ones, then the others alphabetically.

    If all others are numbers, they are ordered by value: 0, 2, 10.
    """
    others = sorted(set(labels) - set(first))
    if all(_NUMBER.fullmatch(name) for name in others):
        others.sort(key=Decimal)
    return [*first, *others]


def find_duplicates(option: str, given: Sequence[str]) -> list[Problem]:
    """A problem for each label that an option lists more than once."""
    names = sorted({name for name in given if given.count(name) > 1})
    return [Problem(f"{option}: {name!r} is given more than once") for name in names]


def rename_class(label: str, forbidden: re.Pattern[str], taken: Collection[str] = ()) -> str:
    """The name of a class in a format that does not allow every text; most labels stay as they are.

    A label that has to be changed gets a hash of itself, so that two labels never get one name, whatever other labels
    there are.

    Args:
        label: the label.
        forbidden: what a name must not contain; becomes `_`.
        taken: names that mean something else in the format.
    """
    name = forbidden.sub("_", label).strip()
    if name == label and name and name not in taken and not _RENAMED.search(name):
        return label
    mark = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name or '_'}~{mark}"
