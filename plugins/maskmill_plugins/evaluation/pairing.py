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
    rows, columns = np.nonzero(overlap if allowed is None else np.where(allowed, overlap, 0))
    values = overlap[rows, columns]
    taken: tuple[set[int], set[int]] = (set(), set())
    pairs = []
    for index in np.argsort(-values, kind="stable"):
        row, column = int(rows[index]), int(columns[index])
        if row not in taken[0] and column not in taken[1]:
            taken[0].add(row)
            taken[1].add(column)
            pairs.append((row, column, float(values[index])))
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
