"""What a run will cost, before it starts: nothing is decoded, nobody is asked."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import PIL.Image

from maskmill import ImageReadError, ImageRef

from ..asking.picture import ENCODING
from ..asking.question_plan import Terms
from ..calls.answer_store import Answers, picture_id
from .budget import Budget, Spent
from .token_estimate import Habits, expected

#: Of larger datasets so many images are looked at, evenly spread, and the rest is reckoned from them.
SAMPLE = 500
#: More calls than this are not begun without a budget or the user's consent.
MANY = 1000
_ORIENTATION, _ON_ITS_SIDE = 274, range(5, 9)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What is to come.

    Attributes:
        images: that are asked about.
        looked_at: of them.
        spent: calls and tokens.
        answered: questions whose answers are there already.
        known: whether the length of the answers comes from earlier answers of this model.
    """

    images: int
    looked_at: int
    spent: Spent
    answered: int
    known: bool

    def lines(self, budget: Budget, before: Spent) -> list[str]:
        """It in words.

        Args:
            budget: with the limits and prices.
            before: what the output has spent so far.
        """
        said = [f"{self.spent.calls:,} calls, {self.answered:,} answers are there already"]
        if self.looked_at < self.images:
            said[0] += f" (reckoned from {self.looked_at:,} of {self.images:,} images)"
        if not self.spent.calls:
            return said
        said.append(
            f"about {self.spent.tokens:,} tokens: {self.spent.input_tokens:,} of questions and pictures,"
            f" {self.spent.output_tokens:,} of answers"
            + ("" if self.known else " (a guess: this model has answered too little so far)")
        )
        if (cost := budget.price(self.spent)) is not None:
            said.append(f"about {cost:,.4g} at the prices of the pipeline file")
        if budget.limits:
            limits = [
                f"{_number(spent)} of {_number(limit)} {name}"
                for name, limit, spent in (
                    ("calls", budget.calls, before.calls),
                    ("tokens", budget.tokens, before.tokens),
                    ("cost", budget.cost, budget.price(before)),
                )
                if limit is not None
            ]
            said.append(f"spent so far: {', '.join(limits)}")
        return said


def foreseen(refs: Sequence[ImageRef], terms: Terms, answers: Answers, habits: Habits) -> Foreseen:
    """What asking about these images will take."""
    step = max(1, len(refs) / SAMPLE)
    sample = [refs[int(number * step)] for number in range(min(len(refs), SAMPLE))]
    total, answered = Spent(), 0
    for ref in sample:
        try:
            shape, sha256 = _looked_at(ref)
        except ImageReadError:
            continue  # it will fail before anybody is asked
        view = terms.view(shape)
        size = None if terms.blind else view.sent
        sent = "" if size is None else answers.picture(picture_id(sha256, [ENCODING, shape, size]))
        for ask in terms.asks:
            text = ask.text(view)
            kept = [] if sent is None else answers.get(terms.question_id(text, sent, view))
            if any(terms.read(reply) is not None for reply in kept):
                answered += 1
            else:
                total += expected(text, size, terms.grid, habits)
    times = len(refs) / max(1, len(sample))
    spent = Spent(*(round(number * times) for number in (total.calls, total.input_tokens, total.output_tokens)))
    return Foreseen(len(refs), len(sample), spent, round(answered * times), habits.known)


def many_calls(images: int, classes: int, answered: int) -> str:
    """That these are many calls, in words; "" if they are not.

    Args:
        images: asked about.
        classes: questions about each.
        answered: questions whose answers are there already.
    """
    calls = images * classes
    if calls - answered <= MANY:
        return ""
    text = f"{images:,} images = {calls:,} calls"
    if classes > 1:
        text = f"{classes} classes × {text}"
    if answered:
        text += f", less {answered:,} answers that are there already"
    if classes > 1:
        text += f"; one_class_per_call: false {'halves this' if classes == 2 else f'divides this by {classes}'}"
    return f"{text}; more than {MANY:,} calls need a `budget:`"


def _looked_at(ref: ImageRef) -> tuple[tuple[int, int], str]:
    """(height, width) of the upright image, from its header, and SHA-256 of the file."""
    data = ref.read()
    try:
        with PIL.Image.open(io.BytesIO(data)) as picture:
            width, height = picture.size
            turned = picture.getexif().get(_ORIENTATION) in _ON_ITS_SIDE
    except Exception:  # damaged files raise nearly anything
        raise ImageReadError(f"{ref.uri} is no image that can be read") from None
    return ((width, height) if turned else (height, width)), hashlib.sha256(data).hexdigest()


def _number(value: float | None) -> str:
    return f"{value or 0:,.6g}"
