"""Pair masks with other masks by overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pair_by_overlap(
    overlap: npt.NDArray[np.float64], allowed: npt.NDArray[np.bool_] | None = None
) -> list[tuple[int, int, float]]:
    """Pair rows with columns greedily, the greatest overlap first; each row and column at most once.

    Args:
        overlap: float64 (rows, columns); 0 is never paired.
        allowed: the pairs that are possible, bool of the same shape; None: all.

    Returns:
        (row, column, overlap) of each pair.
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
