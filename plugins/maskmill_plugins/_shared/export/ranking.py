"""Which masks are better than others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from maskmill import Mask


def best_first(masks: Sequence[Mask], worth: Callable[[Mask], float | None] = lambda mask: mask.score) -> list[int]:
    """Positions of the masks, the best first; those without a worth come last, equals in the order given.

    Args:
        masks: any.
        worth: the more the better; the score if left out.
    """

    def rank(number: int) -> tuple[bool, float]:
        value = worth(masks[number])
        return value is None, 0.0 if value is None else -value

    return sorted(range(len(masks)), key=rank)
