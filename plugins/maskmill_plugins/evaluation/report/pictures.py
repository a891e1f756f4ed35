"""The pictures of a report: a photo, the outlines of two sets of masks, and the pixels in which they differ."""

from __future__ import annotations

import base64
import heapq
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from maskmill import Image, ImageReadError, ImageResult, Mask, colors
from maskmill.stored.originals import OriginalImages, load_unchanged
from maskmill_plugins._shared.drawing.canvas import Canvas
from maskmill_plugins._shared.drawing.pixels import load_cv2
from maskmill_plugins._shared.result_pages.layers import css_color, encode_outlines, encode_prompts

#: The longer side of the photos and of the small pictures of the page, in pixels.
SIDE, SMALL = 1600, 320
#: Worst images with a picture, if nobody says how many, and the most objects or pairs that the page lists.
WORST, LISTED = 100, 5000
#: What only the second set has, what only the first one has, and where both kinds of error meet.
EXTRA, MISSING, BOTH = (226, 32, 32), (24, 92, 255), (165, 40, 200)
_OPACITY = 165
_QUALITY = 85
#: Share of a reduced pixel that has to differ.
_SHOWN = 0.2


@dataclass(frozen=True, slots=True)
class MaskSet:
    """One set of masks of an image: of the ground truth, or of a run.

    Attributes:
        masks: its masks.
        tones: the colour number of each; matching masks have the same.
    """

    masks: Sequence[Mask]
    tones: Sequence[int]


@dataclass(frozen=True, slots=True)
class ReportPicture:
    """A picture of one of the worst images.

    Attributes:
        about: its data for the page: key, value, size, outlines of both sets, prompts, objects, small picture.
        photo: JPEG; None if the photo could not be read.
        errors: PNG of the pixels in which the sets differ.
    """

    about: dict[str, Any]
    photo: bytes | None
    errors: bytes


class WorstImages:
    """Keeps the keys with the lowest values.

    Args:
        most: how many.
    """

    def __init__(self, most: int = WORST) -> None:
        self._most = most
        self._heap: list[tuple[float, str]] = []

    def add(self, value: float, key: str) -> None:
        """Add a key with its value."""
        if len(self._heap) < self._most:
            heapq.heappush(self._heap, (-value, key))
        elif self._heap and value < -self._heap[0][0]:
            heapq.heapreplace(self._heap, (-value, key))

    def ranked(self) -> list[tuple[str, float]]:
        """(key, value), the worst first."""
        return [(key, -value) for value, key in sorted(self._heap, key=lambda item: (-item[0], item[1]))]


class WorstRows:
    """Keeps the rows with the lowest values for the table of the page, at most `LISTED`.

    Attributes:
        total: number of rows added.
    """

    def __init__(self) -> None:
        self.total = 0
        self._heap: list[tuple[float, int, list[Any]]] = []

    def add(self, value: float, row: list[Any]) -> None:
        """Add a row with its value."""
        push = heapq.heappush if len(self._heap) < LISTED else heapq.heappushpop
        push(self._heap, (-value, -self.total, row))
        self.total += 1

    def ranked(self) -> list[list[Any]]:
        """The rows, the worst first."""
        return [row for _, _, row in sorted(self._heap, key=lambda item: (-item[0], -item[1]))]


def make_picture(
    originals: OriginalImages,
    result: ImageResult,
    value: float,
    sets: tuple[MaskSet, MaskSet],
    pairs: Sequence[tuple[int | None, int | None]],
    objects: Sequence[Sequence[Any]],
) -> ReportPicture:
    """The picture of an image.

    Args:
        originals: finds its photo.
        result: with its key, size, sha256 and prompts.
        value: by which it is one of the worst.
        sets: the masks.
        pairs: position in the first and in the second set of each object; None without a partner.
        objects: a row of the page's table for each pair.
    """
    image, note = _load_image(originals, result)
    size = result.size or (SMALL, SMALL)
    errors = find_errors(size, sets, pairs)
    return ReportPicture(
        {
            "key": result.key,
            "value": round(value, 4),
            "size": [size[1], size[0]],
            "sets": [
                _encode_set(each, {pair[side]: n for n, pair in enumerate(pairs)}) for side, each in enumerate(sets)
            ],
            **encode_prompts(result.prompts),
            "objects": [list(row) for row in objects],
            "small": _draw_small(image, size, errors),
            "note": note,
        },
        None if image is None else _encode_photo(image),
        _encode_errors(errors),
    )


def _load_image(originals: OriginalImages, result: ImageResult) -> tuple[Image | None, str]:
    """The photo, or why there is none: "changed" or "missing"."""
    try:
        return load_unchanged(result, originals.find(result.key), originals.max_pixels), ""
    except ImageReadError as error:
        return None, "changed" if "has changed" in str(error) else "missing"


def find_errors(
    size: tuple[int, int], sets: tuple[MaskSet, MaskSet], pairs: Sequence[tuple[int | None, int | None]]
) -> npt.NDArray[np.uint8]:
    """Where the masks of a pair differ: 1 in the second mask only, 2 in the first one only, 3 both of some pairs.

    Args:
        size: (height, width) of the image.
        sets: the masks.
        pairs: as for `make_picture`.

    Returns:
        uint8 of the image's size, or smaller so that its longer side is `SIDE`.
    """
    nothing = np.zeros(size, np.bool_)
    extra, missing = nothing.copy(), nothing.copy()
    for first, second in pairs:
        a = nothing if first is None else sets[0].masks[first].array
        b = nothing if second is None else sets[1].masks[second].array
        extra |= b & ~a
        missing |= a & ~b
    reduced = [_reduce(pixels) for pixels in (extra, missing)]
    return np.asarray(reduced[0] + 2 * reduced[1], dtype=np.uint8)


def _reduce(pixels: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    factor = min(1.0, SIDE / max(pixels.shape))
    if factor == 1:
        return pixels.astype(np.uint8)
    cv2 = load_cv2()
    size = max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor))
    share = cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(share >= _SHOWN, dtype=np.uint8)


def _encode_errors(errors: npt.NDArray[np.uint8]) -> bytes:
    picture, buffer = PIL.Image.fromarray(errors), io.BytesIO()
    picture.putpalette([0, 0, 0, *EXTRA, *MISSING, *BOTH])
    picture.save(buffer, "PNG", transparency=bytes([0, _OPACITY, _OPACITY, _OPACITY]), bits=2)
    return buffer.getvalue()


def _encode_photo(image: Image) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(Canvas(image.pixels, 1, SIDE).pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def _draw_small(image: Image | None, size: tuple[int, int], errors: npt.NDArray[np.uint8]) -> str:
    """A WebP of the photo with its errors, as base64; the photo is gray if it could not be read."""
    gray = np.broadcast_to(np.uint8(160), (*errors.shape, 3))
    pixels = Canvas(gray if image is None else image.pixels, 1, SMALL).pixels
    large = np.zeros((*errors.shape, 3), np.float32)
    for number, color in enumerate((EXTRA, MISSING, BOTH), start=1):
        large[errors == number] = color
    shape = (pixels.shape[1], pixels.shape[0])
    cv2 = load_cv2()
    over = cv2.resize(large, shape, interpolation=cv2.INTER_AREA)
    cover = cv2.resize((errors > 0).astype(np.float32), shape, interpolation=cv2.INTER_AREA)[:, :, None]
    mixed = pixels * (1 - 0.8 * cover) + 0.8 * over
    buffer = io.BytesIO()
    PIL.Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).save(buffer, "WEBP", quality=75, method=3)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _encode_set(masks: MaskSet, rows: dict[int | None, int]) -> list[list[Any]]:
    """[row in the table, outline, colour, label] of each mask that has an outline."""
    numbered = [replace(mask, index=number) for number, mask in enumerate(masks.masks)]
    return [
        [rows.get(number), text, css_color(colors.nth(masks.tones[number])), masks.masks[number].label]
        for number, text in encode_outlines(numbered)
    ]
