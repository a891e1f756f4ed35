"""Finds out what a model's coordinates mean: asks it for a shape at a known place in a generated image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import get_args

import numpy as np
import numpy.typing as npt

from maskmill import Image

from .asking.question_plan import QuestionPlan
from .asking.sent_image import encode_image
from .calls.client import RetryingClient, create_client
from .calls.rate_limits import RateLimiter
from .coordinates.convert import Size, find_far_corner
from .coordinates.families import Convention
from .cost.budget import Budget, BudgetReservation, Usage
from .reply.parse import FoundObject

#: (height, width): large enough to be sent smaller, and long enough to tell all conventions apart.
SIZE = (1200, 2600)
#: The box of the shape, in pixels.
TRUTH = (1560.0, 660.0, 2210.0, 1020.0)
#: What the model is asked for.
SUBJECT = "red rectangle"
#: Largest distance of a side of the box for a convention that fits, as a fraction of the image's side.
TOLERANCE = 0.03


def draw_image() -> npt.NDArray[np.uint8]:
    """Draw a red rectangle on a plain background, uint8 (1200, 2600, 3) RGB."""
    pixels = np.full((*SIZE, 3), (225, 228, 230), np.uint8)
    x1, y1, x2, y2 = (int(side) for side in TRUTH)
    pixels[y1:y2, x1:x2] = (200, 30, 30)
    return pixels


def ask_for_shape(
    plan: QuestionPlan, timeout: float, log: Callable[[str], None]
) -> tuple[Sequence[FoundObject], Size, str]:
    """Ask the model for the shape in the generated image, with one question.

    Returns:
        The objects found, the (height, width) the image was sent at, and the raw reply.
    """
    image = Image.from_array(draw_image())
    view, (template,) = plan.view_image(image.size), plan.questions
    question = replace(plan.make_question(template.write_text(view)), image=encode_image(image, view.sent))
    limiter, reservation = RateLimiter(1, None, None), BudgetReservation(Budget(), None)
    client = RetryingClient(create_client(plan.endpoint, timeout, 1), plan.endpoint, limiter, reservation)
    with closing(reservation), closing(client):
        reply = client.ask(question, Usage(1), Usage(1), log)
    parsed = plan.parse(reply)
    return [] if parsed is None else parsed.found, view.sent, reply.text


def rank_conventions(found: Sequence[FoundObject], sent: Size) -> list[tuple[Convention, float]]:
    """Return each convention with the error of the reply's best box, best first.

    Args:
        found: the objects in the reply.
        sent: (height, width) the image was sent at.

    Returns:
        The largest distance of a side, as a fraction of the image's width or height; [] without a box.
    """
    boxes = [one.box for one in found if one.box is not None]
    if not boxes:
        return []
    height, width = SIZE
    errors: list[tuple[Convention, float]] = []
    for coords in get_args(Convention):
        far = find_far_corner(coords, SIZE, sent)
        sides = (far[0], far[1], far[0], far[1])
        truth = (TRUTH[0] / width, TRUTH[1] / height, TRUTH[2] / width, TRUTH[3] / height)
        errors.append(
            (coords, min(max(abs(b / s - t) for b, s, t in zip(box, sides, truth, strict=True)) for box in boxes))
        )
    return sorted(errors, key=lambda item: item[1])
