"""Sums over objects, by class, size and kind of prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .scoring import ImageScore, Score

SIZES = ("small", "medium", "large")
#: IoU from which on an object counts as found well.
GOOD = 0.5


@dataclass
class Tally:
    """Sums over the objects of one group."""

    objects: int = 0
    answered: int = 0
    good: int = 0
    iou: float = 0.0
    boundary: float | None = 0.0

    def add(self, score: Score) -> None:
        """Count one object."""
        self.objects += 1
        self.answered += score.mask is not None
        self.good += score.iou >= GOOD
        self.iou += score.iou
        self.boundary = None if self.boundary is None or score.boundary is None else self.boundary + score.boundary

    def means(self) -> dict[str, Any]:
        """Counts, mean IoU and mean boundary F; missed objects count with 0."""
        count = max(self.objects, 1)
        return {
            "objects": self.objects,
            "answered": self.answered,
            "iou_50": self.good,
            "mean_iou": self.iou / count if self.objects else None,
            "mean_boundary_f": self.boundary / count if self.objects and self.boundary is not None else None,
        }


@dataclass
class Tallies:
    """All groups.

    Attributes:
        all: every object.
        ways: objects by how their mask was found: "id", "overlap", "missed".
        extra: masks that answer no object.
    """

    all: Tally = field(default_factory=Tally)
    ways: dict[str, int] = field(default_factory=lambda: {"id": 0, "overlap": 0, "missed": 0})
    extra: int = 0
    _groups: dict[str, dict[str, Tally]] = field(
        default_factory=lambda: {"class": {}, "size": {size: Tally() for size in SIZES}, "prompt": {}}
    )

    def add(self, image: ImageScore) -> None:
        """Count one image."""
        self.extra += image.extra
        for score in image.scores:
            self.all.add(score)
            self.ways[score.how or "missed"] += 1
            for group, name in (("class", score.true.label), ("size", score.true.size), ("prompt", score.kind)):
                self._groups[group].setdefault(name, Tally()).add(score)

    def groups(self) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
        """(what it is grouped by, means by name), those with most objects first; sizes in their order."""
        for group, tallies in self._groups.items():
            order = (
                list(tallies) if group == "size" else sorted(tallies, key=lambda name: (-tallies[name].objects, name))
            )
            yield group, {name: tallies[name].means() for name in order if tallies[name].objects}
