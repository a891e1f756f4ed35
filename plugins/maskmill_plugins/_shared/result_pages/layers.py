"""What a page draws over a photo: prompts, and outlines of masks as short texts, sharp at every zoom.

The text of a mask holds its closed lines, separated by spaces. Each is a sequence of numbers, the x and y of each
vertex in halves of a pixel, as differences from the vertex before it, in Google's encoded polyline format
(https://developers.google.com/maps/documentation/utilities/polylinealgorithm). `lightbox.js` reads it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from maskmill import Mask, Prompt, colors
from maskmill_plugins._shared.drawing.outlines import Points, trace_outlines
from maskmill_plugins._shared.drawing.pixels import crop_mask, load_cv2

#: Masks of an image with an outline, and characters of all of them together.
MOST, BUDGET = 200, 8000
#: Prompts of an image that are drawn.
_MOST_PROMPTS = 200
#: The longer side of a mask as it is traced, in pixels: larger ones are traced in steps of several pixels.
_TRACED = 1500
_HALVES = 2
_FINEST, _COARSER, _COARSEST = 0.5, 1.7, 60.0


def encode_outlines(masks: Sequence[Mask], budget: int = BUDGET) -> list[tuple[int, str]]:
    """The outlines of the first masks, as coarse as necessary to fit the budget.

    Args:
        masks: of one image; those without pixels have no outline.
        budget: characters.

    Returns:
        (`Mask.index`, text) of each.
    """
    traced = [(mask.index, *found) for mask in masks[:MOST] if (found := _trace(mask)) is not None]
    tolerance = _FINEST
    while True:
        traced = [(index, _simplify(lines, tolerance * step), step) for index, lines, step in traced]
        texts = [(index, " ".join(map(_encode_line, lines))) for index, lines, _ in traced]
        if tolerance > _COARSEST or sum(len(text) for _, text in texts) <= budget:
            return texts
        tolerance *= _COARSER


def _trace(mask: Mask) -> tuple[list[Points], int] | None:
    """The outlines in pixels of the image, and the step between the pixels that were looked at."""
    crop = crop_mask(mask)
    if crop is None:
        return None
    pixels, x, y = crop
    step = -(-max(pixels.shape) // _TRACED)
    lines = trace_outlines(pixels[::step, ::step], holes=True)
    return [line * np.float32(step) + np.array((x, y), np.float32) for line in lines], step


def _simplify(lines: Sequence[Points], tolerance: float) -> list[Points]:
    """The lines with fewer vertices, without those too small for the tolerance; one is left in any case."""
    cv2 = load_cv2()
    simple = [np.asarray(cv2.approxPolyDP(line.reshape(-1, 1, 2), tolerance, True)[:, 0]) for line in lines]
    large = [line for line in simple if len(line) > 2 and cv2.contourArea(line) > tolerance * tolerance]
    return large or [max(simple, key=len)]


def _encode_line(line: Points) -> str:
    whole = np.rint(line * _HALVES).astype(np.int64)
    deltas = np.diff(whole, axis=0, prepend=np.zeros((1, 2), np.int64))
    return "".join(_encode_number(value) for value in deltas.ravel().tolist())


def _encode_number(value: int) -> str:
    """A number as characters from `?` to `~`: five bits each, the lowest first, the sign in the lowest bit."""
    rest = ~(value << 1) if value < 0 else value << 1
    text = ""
    while rest >= 0x20:
        text += chr((0x20 | (rest & 0x1F)) + 63)
        rest >>= 5
    return text + chr(rest + 63)


def encode_prompts(prompts: Sequence[Prompt]) -> dict[str, list[list[float]]]:
    """Boxes [left, top, right, bottom] and points [x, y, 1 on the object or 0 outside it], in pixels of the image."""
    shown = prompts[:_MOST_PROMPTS]
    return {
        "boxes": [[_round(value) for value in prompt.box.xyxy] for prompt in shown if prompt.box is not None],
        "points": [[_round(point.x), _round(point.y), int(point.label)] for prompt in shown for point in prompt.points],
    }


def _round(value: float) -> float:
    return round(value, 1) if math.isfinite(value) else 0.0


def css_color(color: colors.Rgb) -> str:
    """A colour as in CSS: `#26a6ff`."""
    return f"#{bytes(color).hex()}"
