"""How many tokens a call takes: at most, for the budget; probably, for the pace and the forecast."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..calls.answer_store import Reply
from .budget import Spent

#: Tokens around text and picture in every question.
FRAME = 20
#: An answer about one class with a few objects in it, where nothing is known of the model's own.
USUAL_ANSWER = 120
#: From so many answers on, what a model usually takes is taken from them.
ENOUGH = 5


def text_tokens(text: str) -> int:
    """Tokens of a text, about: four Latin letters each, or two thirds of a Chinese character."""
    wide = sum(ord(letter) > 0x2E80 for letter in text)
    return math.ceil((len(text) - wide) / 4 + wide / 1.5)


def picture_tokens(size: tuple[int, int] | None, grid: int) -> int:
    """Tokens of a picture: one for each square of the model's grid, and its two ends; 0 without a picture.

    Args:
        size: (height, width) as sent.
        grid: side of a square in pixels.
    """
    if size is None:
        return 0
    return max(1, round(size[0] / grid)) * max(1, round(size[1] / grid)) + 2


@dataclass(frozen=True, slots=True)
class Habits:
    """What a model's answers usually take.

    Attributes:
        output_tokens: of one answer, thinking included.
        known: whether that comes from answers of its own.
    """

    output_tokens: float = USUAL_ANSWER
    known: bool = False

    @classmethod
    def of(cls, replies: list[Reply]) -> Habits:
        """Learned from answers, the usual ones if there are too few."""
        counted = [reply.output_tokens for reply in replies if reply.output_tokens]
        if len(counted) < ENOUGH:
            return cls()
        return cls(sum(counted) / len(counted), known=True)


def expected(text: str, size: tuple[int, int] | None, grid: int, habits: Habits) -> Spent:
    """What one call probably takes."""
    return Spent(1, text_tokens(text) + picture_tokens(size, grid) + FRAME, round(habits.output_tokens))


def most(text: str, size: tuple[int, int] | None, grid: int, max_tokens: int, thinking: bool) -> Spent:
    """What one call can take at most.

    Thoughts are bounded like the answer, and a letter is a token at worst.
    """
    question = len(text.encode("utf-8", "replace")) + math.ceil(1.1 * picture_tokens(size, grid)) + 2 * FRAME
    return Spent(1, question, max_tokens * (2 if thinking else 1))
