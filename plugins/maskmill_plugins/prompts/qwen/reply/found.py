"""What a reply says: the objects in it, and how well it could be read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Wanted = Literal["boxes", "points"]
Spot = tuple[float, float, int]

#: Larger numbers are no coordinates.
LARGEST = 1e6
_QUOTES = "\"'“”‘’"


@dataclass(frozen=True, slots=True)
class Found:
    """One object of a reply.

    Attributes:
        names: what the reply calls it, the best name first; empty: nothing.
        box: (x1, y1, x2, y2), x1 <= x2 and y1 <= y2, as the model wrote them; or None.
        points: (x, y, label) each, label 1 on the object and 0 off it.
    """

    names: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None
    points: tuple[Spot, ...] = ()

    @property
    def label(self) -> str | None:
        """The first of its names."""
        return self.names[0] if self.names else None


@dataclass
class Reading:
    """What a reply says.

    Attributes:
        found: the objects, in the reply's order.
        readable: there is an answer; with nothing found, it is that nothing is there.
        truncated: the reply breaks off inside an answer.
        counts: of what was put right or left out, by kind.
    """

    found: list[Found] = field(default_factory=list)
    readable: bool = False
    truncated: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def add_box(self, numbers: Sequence[Any], names: Sequence[str] = ()) -> None:
        """Take a box of four numbers; count it if it is none."""
        if len(numbers) != 4 or not all(is_number(one) and abs(one) <= LARGEST for one in numbers):
            self.counts["no box"] += 1
            return
        x1, y1, x2, y2 = numbers
        if x1 > x2 or y1 > y2:
            self.counts["inverted"] += 1
        self.found.append(Found(_cleaned(names), (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))))

    def add_points(self, spots: Sequence[Spot], names: Sequence[str] = ()) -> None:
        """Take the points of one object, if there are any."""
        kept = tuple(one for one in spots if max(abs(one[0]), abs(one[1])) <= LARGEST)
        if kept:
            self.found.append(Found(_cleaned(names), points=kept))


def is_number(value: Any) -> bool:
    """Whether it is a finite float; words that stand for numbers are not."""
    return isinstance(value, float) and math.isfinite(value)


def _cleaned(names: Sequence[str]) -> tuple[str, ...]:
    stripped = (name.strip().strip(_QUOTES).strip() for name in names)
    return tuple(dict.fromkeys(name for name in stripped if name))
