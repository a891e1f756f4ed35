"""What a run will cost, estimated before it starts, without decoding images or sending anything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from maskmill import ImageReadError, ImageRef
from maskmill.decoding.decoder import read_size
from maskmill.wording import count_noun

from .asking.answer import find_stored_answer
from .asking.question_plan import QuestionPlan
from .asking.sent_image import ENCODING
from .calls.answer_store import AnswerStore, make_image_id
from .cost.budget import Budget, Usage
from .cost.token_estimate import TokenStats, estimate_usage

#: Images read for the forecast, evenly spread over larger datasets.
SAMPLE = 500
#: More calls than this need a budget or the user's consent.
MANY = 1000


@dataclass(frozen=True, slots=True)
class CostForecast:
    """The expected cost of a run.

    Attributes:
        images: number of images.
        sampled: number of images that were read for this.
        usage: calls and tokens.
        answered: questions with stored answers.
        measured: whether the length of the answers comes from earlier answers of this model.
    """

    images: int
    sampled: int
    usage: Usage
    answered: int
    measured: bool

    def format_lines(self, budget: Budget, used: Usage) -> list[str]:
        """Return the lines for the dry run.

        Args:
            budget: with the limits and prices.
            used: what the output has used so far.
        """
        lines = [f"{count_noun(self.usage.calls, 'call')}, {count_noun(self.answered, 'stored answer')}"]
        if self.sampled < self.images:
            lines[0] += f" (estimated from {self.sampled:,} of {count_noun(self.images, 'image')})"
        if not self.usage.calls:
            return lines
        lines.append(
            f"about {self.usage.tokens:,} tokens: {self.usage.input_tokens:,} for questions and images,"
            f" {self.usage.output_tokens:,} for answers"
            + ("" if self.measured else " (a rough guess: too few answers of this model so far)")
        )
        if (cost := budget.compute_cost(self.usage)) is not None:
            lines.append(f"about {cost:,.4g} at the prices in the pipeline file")
        if budget.has_limits:
            limits = [
                f"{_format_number(spent)} of {_format_number(limit)} {name}"
                for name, limit, spent in (
                    ("calls", budget.calls, used.calls),
                    ("tokens", budget.tokens, used.tokens),
                    ("cost", budget.cost, budget.compute_cost(used)),
                )
                if limit is not None
            ]
            lines.append(f"spent so far: {', '.join(limits)}")
        return lines


def forecast_cost(
    refs: Sequence[ImageRef], plan: QuestionPlan, answers: AnswerStore, stats: TokenStats
) -> CostForecast:
    """Estimate what the questions about these images will cost."""
    step = max(1, len(refs) / SAMPLE)
    sample = [refs[int(number * step)] for number in range(min(len(refs), SAMPLE))]
    total, answered = Usage(), 0
    for ref in sample:
        try:
            shape, sha256 = _read_header(ref)
        except ImageReadError:
            continue  # it will fail before the first question
        view = plan.view_image(shape)
        size = None if plan.blind else view.sent
        sent = "" if size is None else answers.get_sent_hash(make_image_id(sha256, [ENCODING, shape, size]))
        for question in plan.questions:
            if sent is not None and find_stored_answer(plan, answers, question, view, sent)[0] is not None:
                answered += 1
            else:
                total += estimate_usage(question.write_text(view), size, plan.grid, stats)
    times = len(refs) / max(1, len(sample))
    usage = Usage(*(round(number * times) for number in (total.calls, total.input_tokens, total.output_tokens)))
    return CostForecast(len(refs), len(sample), usage, round(answered * times), stats.measured)


def describe_many_calls(images: int, classes: int, answered: int) -> str:
    """Return a message that a run needs many calls, "" if it does not.

    Args:
        images: number of images.
        classes: questions about each image.
        answered: questions with stored answers.
    """
    calls = images * classes
    if calls - answered <= MANY:
        return ""
    text = f"{count_noun(images, 'image')} = {count_noun(calls, 'call')}"
    if classes > 1:
        text = f"{classes} classes × {text}"
    if answered:
        text += f", {answered:,} of them with stored answers"
    if classes > 1:
        text += f"; one_class_per_call: false {'halves this' if classes == 2 else f'divides this by {classes}'}"
    return f"{text}; more than {MANY:,} calls need a `budget:`"


def _read_header(ref: ImageRef) -> tuple[tuple[int, int], str]:
    """Return (height, width) of the upright image, from its header, and the SHA-256 of the file."""
    data = ref.read()
    return read_size(data), hashlib.sha256(data).hexdigest()


def _format_number(value: float | None) -> str:
    return f"{value or 0:,.6g}"
