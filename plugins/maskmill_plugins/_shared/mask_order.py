"""The order of masks from best to worst, shared by the filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from maskmill import Mask


def order_best_first(
    masks: Sequence[Mask], worth: Callable[[Mask], float | None] = lambda mask: mask.score
) -> list[int]:
    """The positions of the masks, best first; masks without a value come last, ties keep their order.

    Args:
        masks: the masks.
        worth: returns the value of a mask, higher is better; by default its score.
    """

    def rank(number: int) -> tuple[bool, float]:
        value = worth(masks[number])
        return value is None, 0.0 if value is None else -value

    return sorted(range(len(masks)), key=rank)
