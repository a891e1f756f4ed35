"""How long jobs take, as measured, and so how long a new one would wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Part = Literal["embed", "prompts", "grid"]
#: Weight of the newest measurement.
NEWEST = 0.2
#: Everything mode asks about a thousand points, many at a time: so many prompts, until it was measured.
GRID_IN_PROMPTS = 100


@dataclass
class Costs:
    """Means of what was measured, the newest counting most; 0 until there is a first.

    Attributes:
        seconds: by part of a job: an image's embedding, one prompt, everything mode once.
    """

    seconds: dict[Part, float] = field(default_factory=dict)

    def measured(self, part: Part, seconds: float) -> None:
        """Take in a measurement."""
        before = self.seconds.get(part)
        self.seconds[part] = seconds if before is None else before + NEWEST * (seconds - before)

    def of(self, part: Part) -> float:
        """What one such part is expected to take."""
        guess = GRID_IN_PROMPTS * self.of("prompts") if part == "grid" else 0.0
        return self.seconds.get(part, guess)
