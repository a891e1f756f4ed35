"""A parsed reply: the objects in it, and how well it could be parsed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Wanted = Literal["boxes", "points"]
LabeledPoint = tuple[float, float, int]

#: Larger numbers are not coordinates.
MAX_COORDINATE = 1e6
#: Counts of objects that are in a reply, but without coordinates that can be used.
REFUSED = ("no box", "no point", "width and height", "another order", "not two-dimensional")
_QUOTES = "\"'“”‘’"


@dataclass(frozen=True, slots=True)
class FoundObject:
    """One object of a reply.

    Attributes:
        names: what the reply calls it, the best name first; may be empty.
        box: (x1, y1, x2, y2), x1 <= x2 and y1 <= y2, in the model's coordinates; or None.
        points: (x, y, label) each, label 1 on the object and 0 off it.
    """

    names: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None
    points: tuple[LabeledPoint, ...] = ()

    @property
    def label(self) -> str | None:
        """The first of its names."""
        return self.names[0] if self.names else None


@dataclass
class ParsedReply:
    """The content of a reply.

    Attributes:
        found: the objects, in the order of the reply.
        readable: there is an answer; without objects it says that there are none in the image.
        truncated: the reply was cut off inside an answer.
        counts: of corrected and dropped objects, by kind.
        corners: what four numbers are by the words of the reply, if they are not two corners; "" if they are.
    """

    found: list[FoundObject] = field(default_factory=list)
    readable: bool = False
    truncated: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    corners: str = ""

    @property
    def refused(self) -> int:
        """Number of objects that are in the reply, but without coordinates that can be used."""
        return sum(self.counts[kind] for kind in REFUSED)

    def add_box(self, numbers: Sequence[Any], names: Sequence[str] = (), certain: bool = False) -> None:
        """Add a box of four numbers; only count it if it is invalid.

        Args:
            numbers: the sides.
            names: of the object.
            certain: each number has a name of its own, or a key says that these are corners.
        """
        if self.corners and not certain:
            self.counts[self.corners] += 1
            return
        if len(numbers) != 4 or not all(is_number(one) and abs(one) <= MAX_COORDINATE for one in numbers):
            self.counts["no box"] += 1
            return
        x1, y1, x2, y2 = numbers
        if x1 > x2 or y1 > y2:
            self.counts["inverted"] += 1
        self.found.append(FoundObject(_clean_names(names), (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))))

    def add_points(self, points: Sequence[LabeledPoint], names: Sequence[str] = ()) -> None:
        """Add the points of one object, if there are any; only count those that are too large."""
        kept = tuple(one for one in points if max(abs(one[0]), abs(one[1])) <= MAX_COORDINATE)
        self.counts["no point"] += len(points) - len(kept)
        if kept:
            self.found.append(FoundObject(_clean_names(names), points=kept))


def is_number(value: Any) -> bool:
    """Return whether the value is a finite float."""
    return isinstance(value, float) and math.isfinite(value)


def _clean_names(names: Sequence[str]) -> tuple[str, ...]:
    stripped = (name.strip().strip(_QUOTES).strip() for name in names)
    return tuple(dict.fromkeys(name for name in stripped if name))
