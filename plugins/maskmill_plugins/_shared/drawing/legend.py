"""Letters that the font of name tags lacks, such as emoji: shown as a number, which a legend explains.

The font draws a `?` for each of them, which would make all such labels look alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .pixels import load_cv2

_SIZE, _WEIGHT = 16, 600
#: Longer runs are described by their first letters.
_MOST_NAMES = 6


class Legend:
    """The numbers of one picture, in the order of their first use."""

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}

    def replace_letters(self, text: str) -> str:
        """The text with `#1`, `#2`, ... for each run of letters that the font lacks; equal runs have one number."""
        if text.isascii():
            return text
        marks = "".join(" " if letter == " " else "x" if is_drawable(letter) else "-" for letter in text)
        parts, end = [], 0
        for run in re.finditer("-(?:[- ]*-)?", marks):
            letters = text[run.start() : run.end()]
            number = self._numbers.setdefault(letters, f"#{len(self._numbers) + 1}")
            parts += [text[end : run.start()], number]
            end = run.end()
        return "".join([*parts, text[end:]])

    def lines(self) -> Iterator[str]:
        """A line for each number, with the names of its letters in Unicode."""
        for letters, number in self._numbers.items():
            names = [_name_letter(letter) for letter in letters if letter != " "]
            more = f", and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            yield f"{number}: {', '.join(names[:_MOST_NAMES])}{more}"

    def to_json(self) -> dict[str, str]:
        """What each number stands for."""
        return {number: letters for letters, number in self._numbers.items()}


@cache
def is_drawable(letter: str) -> bool:
    """Whether the font has this letter."""
    return letter.isascii() or not np.array_equal(_draw(letter), _draw("?"))


@cache
def _draw(letter: str) -> npt.NDArray[np.uint8]:
    cv2: Any = load_cv2()
    pixels = np.zeros((3 * _SIZE, 4 * _SIZE), np.uint8)
    cv2.putText(pixels, letter, (_SIZE, 2 * _SIZE), (255,), cv2.FontFace("sans"), _SIZE, _WEIGHT)
    return pixels


def _name_letter(letter: str) -> str:
    return unicodedata.name(letter, "").lower() or f"U+{ord(letter):04X}"
