"""Windows of an image in which a detector searches: the whole image, and overlapping tiles of it."""

from __future__ import annotations

import itertools
import math

#: left, top, right, bottom in pixels; right and bottom are outside.
Window = tuple[int, int, int, int]
#: Shared by two neighbouring tiles, as a fraction of a tile's side.
OVERLAP = 0.2


def list_windows(size: tuple[int, int], side: int | None) -> list[Window]:
    """The whole image, then its tiles in rows.

    Args:
        size: (height, width) of the image.
        side: of a tile in pixels; None for no tiles. An image that fits into one tile has none.
    """
    height, width = size
    windows = [(0, 0, width, height)]
    if side is not None and side < max(size):
        rows, columns = _split(height, side), _split(width, side)
        windows += [(left, top, right, bottom) for (top, bottom), (left, right) in itertools.product(rows, columns)]
    return windows


def _split(length: int, side: int) -> list[tuple[int, int]]:
    """Spans of `side` pixels, evenly distributed, that cover a length and share at least `OVERLAP` of the side."""
    if length <= side:
        return [(0, length)]
    count = math.ceil((length - side) / max(1.0, side * (1 - OVERLAP))) + 1
    starts = [round(number * (length - side) / (count - 1)) for number in range(count)]
    return [(start, start + side) for start in starts]
