"""How many tokens a call uses: at most, for the budget; probably, for the rate limits and the forecast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .budget import Usage

#: Tokens around text and image in every question.
FRAME = 20
#: Output tokens for one class with a few objects, used while a model's own average is unknown.
USUAL_OUTPUT = 120
#: Answers needed before a model's own average is used.
ENOUGH = 5


def count_text_tokens(text: str) -> int:
    """Estimate the tokens of a text: four Latin letters each, or two thirds of a Chinese character."""
    wide = sum(ord(letter) > 0x2E80 for letter in text)
    return math.ceil((len(text) - wide) / 4 + wide / 1.5)


def count_image_tokens(size: tuple[int, int] | None, grid: int) -> int:
    """Estimate the tokens of an image: one per cell of the model's grid, and one at either end; 0 without an image.

    Args:
        size: (height, width) as sent.
        grid: side of a cell in pixels.
    """
    if size is None:
        return 0
    return max(1, round(size[0] / grid)) * max(1, round(size[1] / grid)) + 2


@dataclass(frozen=True, slots=True)
class TokenStats:
    """What a model's answers use on average.

    Attributes:
        output_tokens: of one answer, thinking included.
        measured: whether this comes from earlier answers of this model.
    """

    output_tokens: float = USUAL_OUTPUT
    measured: bool = False

    @classmethod
    def from_counts(cls, output_tokens: Sequence[int]) -> TokenStats:
        """Average the output tokens of earlier answers; use the default if there are too few."""
        counts = [count for count in output_tokens if count]
        if len(counts) < ENOUGH:
            return cls()
        return cls(sum(counts) / len(counts), measured=True)


def estimate_usage(text: str, size: tuple[int, int] | None, grid: int, stats: TokenStats) -> Usage:
    """Return what one call probably uses."""
    return Usage(1, count_text_tokens(text) + count_image_tokens(size, grid) + FRAME, round(stats.output_tokens))


def limit_usage(text: str, size: tuple[int, int] | None, grid: int, max_tokens: int, thinking: bool) -> Usage:
    """Return the most that one call can use.

    Thinking has the same limit as the answer, and a byte of text is at most one token.
    """
    question = len(text.encode("utf-8", "replace")) + math.ceil(1.1 * count_image_tokens(size, grid)) + 2 * FRAME
    return Usage(1, question, max_tokens * (2 if thinking else 1))
