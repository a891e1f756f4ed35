"""Finds out what a model's coordinates mean: asks it for a shape at a known place in generated images.

A landscape and a portrait image are sent, since servers that resize or pad images before the model sees them often
answer correctly about one of them only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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

Box = tuple[float, float, float, float]
#: (height, width): large enough to be sent smaller, and long enough to tell all conventions apart; no side is sent at
#: one of `LIMITS`, which could not be told apart from a side scaled like the other.
PICTURES: Mapping[str, Size] = {"landscape": (1200, 2600), "portrait": (2400, 1300), "square": (1800, 1800)}
USUAL = ("landscape", "portrait")
#: The box of the shape, in parts of width and height.
PLACE: Box = (0.6, 0.55, 0.85, 0.85)
#: What the model is asked for.
SUBJECT = "red rectangle"
#: Largest distance of a side of the box for a convention that fits, as a fraction of the image's side.
TOLERANCE = 0.03
#: Sides that servers are known to limit images to.
LIMITS = (448, 512, 768, 896, 1024, 1280, 1344, 1536)


@dataclass(frozen=True, slots=True)
class CalibrationReply:
    """What the model answered about one image.

    Attributes:
        name: a key of `PICTURES`.
        sent: (height, width) the image was sent at.
        boxes: of the reply, in the model's coordinates.
        text: the raw reply.
    """

    name: str
    sent: Size
    boxes: Sequence[Box]
    text: str = ""

    @property
    def size(self) -> Size:
        """(height, width) of the image itself."""
        return PICTURES[self.name]


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a convention fits one reply.

    Attributes:
        coords: the convention.
        x: largest distance of the left or right side of the reply's best box, as a fraction of the image's width.
        y: the same for top and bottom, as a fraction of the height.
    """

    coords: Convention
    x: float
    y: float

    @property
    def error(self) -> float:
        """The larger of the two."""
        return max(self.x, self.y)


def draw_image(name: str) -> npt.NDArray[np.uint8]:
    """Draw a red rectangle on a plain background, uint8 (height, width, 3) RGB.

    Args:
        name: a key of `PICTURES`.
    """
    height, width = PICTURES[name]
    pixels = np.full((height, width, 3), (225, 228, 230), np.uint8)
    x1, y1, x2, y2 = (round(part * side) for part, side in zip(PLACE, (width, height) * 2, strict=True))
    pixels[y1:y2, x1:x2] = (200, 30, 30)
    return pixels


def ask_for_shapes(
    plan: QuestionPlan, names: Sequence[str], client: RetryingClient, log: Callable[[str], None]
) -> list[CalibrationReply]:
    """Ask the model for the shape in the generated images, with one question each."""
    return [_ask(plan, name, client, log) for name in names]


def open_client(plan: QuestionPlan, timeout: float, ca: Path | None) -> RetryingClient:
    """Return a client without limits, to be closed."""
    client = create_client(plan.endpoint, timeout, 1, ca)
    return RetryingClient(client, plan.endpoint, RateLimiter(1, None, None), BudgetReservation(Budget(), None))


def _ask(plan: QuestionPlan, name: str, client: RetryingClient, log: Callable[[str], None]) -> CalibrationReply:
    image = Image.from_array(draw_image(name))
    view, (template,) = plan.view_image(image.size), plan.questions
    question = replace(plan.make_question(template.write_text(view)), image=encode_image(image, view.sent))
    reply = client.ask(question, Usage(1), Usage(1), log)
    parsed = plan.parse(reply)
    return CalibrationReply(name, view.sent, get_boxes([] if parsed is None else parsed.found), reply.text)


def get_boxes(found: Sequence[FoundObject]) -> list[Box]:
    """Return the boxes of a reply's objects."""
    return [one.box for one in found if one.box is not None]


def fit_conventions(reply: CalibrationReply) -> list[Fit]:
    """Return how well each convention fits the reply's best box, best first; [] without a box."""
    if not reply.boxes:
        return []
    fits = [_fit(reply, coords, PLACE) for coords in get_args(Convention)]
    return sorted(fits, key=lambda fit: fit.error)


def choose_convention(replies: Sequence[CalibrationReply]) -> Convention | None:
    """Return the convention that fits all replies on both axes, None if there is none."""
    if not replies or not all(reply.boxes for reply in replies):
        return None
    errors = {coords: max(_fit(reply, coords, PLACE).error for reply in replies) for coords in get_args(Convention)}
    best = min(errors, key=lambda coords: errors[coords])
    return best if errors[best] <= TOLERANCE else None


def _fit(reply: CalibrationReply, coords: Convention, place: Box) -> Fit:
    """Compare the reply's best box with a place, in parts of the sides."""
    far = find_far_corner(coords, reply.size, reply.sent)
    fits = []
    for box in reply.boxes:
        x = max(abs(box[side] / far[0] - place[side]) for side in (0, 2))
        y = max(abs(box[side] / far[1] - place[side]) for side in (1, 3))
        fits.append(Fit(coords, x, y))
    return min(fits, key=lambda fit: fit.error)


#: From a place (x, y) and the image's (width, height) as the server has it to where a faulty server says it is.
Distortion = Callable[[float, float, float, float], tuple[float, float]]


def _list_faults() -> list[tuple[str, Distortion]]:
    """Return the known faults of servers, the likeliest first."""
    faults: list[tuple[str, Distortion]] = [
        (
            "it pads images to a square: both coordinates are relative to the longer side",
            lambda x, y, w, h: (x * w / max(w, h), y * h / max(w, h)),
        ),
        (
            "it pads images to a square around their centre",
            lambda x, y, w, h: (_pad(x, w, max(w, h)), _pad(y, h, max(w, h))),
        ),
        ("y is relative to the longer side", lambda x, y, w, h: (x, y * h / max(w, h))),
        ("x is relative to the longer side", lambda x, y, w, h: (x * w / max(w, h), y)),
        ("the scales of x and y are swapped", lambda x, y, w, h: (x * h / w, y * w / h)),
        ("the scales of x and y are swapped", lambda x, y, w, h: (x * w / h, y * h / w)),
        ("y is scaled like x", lambda x, y, w, h: (x, y * h / w)),
        ("y is scaled like x", lambda x, y, w, h: (x, y * w / h)),
        ("x is scaled like y", lambda x, y, w, h: (x * w / h, y)),
        ("x is scaled like y", lambda x, y, w, h: (x * h / w, y)),
        ("y comes before x", lambda x, y, w, h: (y, x)),
    ]
    for limit in LIMITS:
        faults += [
            (f"heights over {limit} are squashed to {limit}", _squash(limit, False, True)),
            (f"widths over {limit} are squashed to {limit}", _squash(limit, True, False)),
            (f"sides over {limit} are squashed to {limit}", _squash(limit, True, True)),
        ]
    return faults


def _pad(part: float, side: float, whole: float) -> float:
    return (part * side + (whole - side) / 2) / whole


def _squash(limit: float, wide: bool, high: bool) -> Distortion:
    def distort(x: float, y: float, w: float, h: float) -> tuple[float, float]:
        return x * (min(1.0, limit / w) if wide else 1.0), y * (min(1.0, limit / h) if high else 1.0)

    return distort


def find_likely_cause(replies: Sequence[CalibrationReply]) -> str:
    """Return what a server probably does to the images, as replies that fit no convention show; "" if unknown.

    Each known fault is tried with each convention, on all images and on portrait images only; the one that explains
    the replies best counts, of equally good ones the first.
    """
    if not all(reply.boxes for reply in replies):
        return ""
    found: list[tuple[float, str]] = []
    for only_portrait in (False, True):
        for text, distort in _list_faults():
            for coords in get_args(Convention):
                error = max(_fit_fault(reply, coords, distort, only_portrait) for reply in replies)
                where = " (portrait images only)" if only_portrait else ""
                found.append((round(error, 3), f"{text}{where}; otherwise its coordinates are `{coords}`"))
    error, cause = min(found, key=lambda item: item[0])
    return cause if error <= TOLERANCE else ""


def _fit_fault(reply: CalibrationReply, coords: Convention, distort: Distortion, only_portrait: bool) -> float:
    height, width = reply.size if coords == "abs_original" else reply.sent
    place = PLACE
    if height > width or not only_portrait:
        place = (*distort(*PLACE[:2], width, height), *distort(*PLACE[2:], width, height))
    return _fit(reply, coords, place).error
