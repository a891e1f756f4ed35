"""Numbers in sentences."""

from __future__ import annotations


def count_noun(number: int, one: str, many: str = "") -> str:
    """A number with its noun, as "1 image", "2 images", "1,000 images".

    Args:
        number: how many.
        one: the noun for one; a verb may follow, as in "image is".
        many: the same for any other number; by default `one` with an "s".
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
