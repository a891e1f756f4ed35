"""Pair masks with objects, or with other masks, by key; by overlap: `_shared/pairing.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

How = Literal["id", "overlap"]


def pair_by_key(a: Sequence[Any], b: Sequence[Any]) -> list[tuple[int, int]]:
    """Pair the positions of equal keys, repeated keys in their order; None is paired with nothing."""
    waiting: dict[Any, list[int]] = {}
    for index, key in enumerate(b):
        if key is not None:
            waiting.setdefault(key, []).append(index)
    pairs = []
    for index, key in enumerate(a):
        if key is not None and waiting.get(key):
            pairs.append((index, waiting[key].pop(0)))
    return pairs
