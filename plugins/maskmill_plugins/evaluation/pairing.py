"""Which mask answers which object: by the id that its prompt carries, else by overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

A = TypeVar("A")
B = TypeVar("B")
How = Literal["id", "overlap"]


def greedy(
    overlap: npt.NDArray[np.float64], allowed: npt.NDArray[np.bool_] | None = None
) -> list[tuple[int, int, float]]:
    """Pairs (row, column, overlap), the greatest overlap first; each row and column once, never without overlap.

    Args:
        overlap: float64 (rows, columns).
        allowed: which pairs may be, bool of the same shape; None: all.
    """
    free = overlap.copy()
    if allowed is not None:
        free[~allowed] = 0
    pairs = []
    while free.size and (best := float(free.max())) > 0:
        row, column = (int(index) for index in np.unravel_index(np.argmax(free), free.shape))
        pairs.append((row, column, best))
        free[row] = free[:, column] = 0
    return pairs


def by_key(
    a: Sequence[A], b: Sequence[B], key_a: Callable[[A], Any], key_b: Callable[[B], Any]
) -> list[tuple[int, int]]:
    """Pairs of positions whose keys are equal, several of a key in their order; a key that is None pairs nothing."""
    waiting: dict[Any, list[int]] = {}
    for index, key in enumerate(map(key_b, b)):
        if key is not None:
            waiting.setdefault(key, []).append(index)
    pairs = []
    for index, key in enumerate(map(key_a, a)):
        if key is not None and waiting.get(key):
            pairs.append((index, waiting[key].pop(0)))
    return pairs
