"""Distinct colours, always the same for the same object number or label."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Iterable

Rgb = tuple[int, int, int]

_VIVID: tuple[Rgb, ...] = (
    (38, 166, 255),
    (255, 92, 130),
    (62, 214, 120),
    (255, 202, 40),
    (186, 104, 245),
    (255, 145, 45),
    (32, 212, 205),
    (255, 76, 66),
    (166, 217, 52),
    (104, 122, 255),
    (255, 130, 215),
    (140, 225, 255),
)
_GOLDEN = 0.618034
#: More colours would look alike; with fewer, labels would collide more often.
_BY_LABEL = 36


def nth(number: int) -> Rgb:
    """The colour of object `number`; the first twelve are hand-picked, the rest vary in hue and brightness.

    Hues advance by the golden ratio, which keeps each new one far from the previous ones.
    """
    if number < len(_VIVID):
        return _VIVID[number]
    value = (1.0, 0.8, 0.65)[number % 3]
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1.0, 0.75, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def by_label(labels: Iterable[str | None]) -> dict[str | None, Rgb]:
    """A colour for each of an image's labels.

    It depends on the label only, so it is the same in every image, unless two labels of one image
    share a colour: then the label later in the alphabet gets the next free one.
    """
    numbers: dict[str | None, int] = {}
    for label in sorted(set(labels), key=lambda label: label or ""):
        digest = hashlib.sha256((label or "").encode("utf-8", "surrogatepass")).digest()
        number = int.from_bytes(digest[:4]) % _BY_LABEL
        while number in numbers.values():
            number += 1
        numbers[label] = number
    return {label: nth(number) for label, number in numbers.items()}


def readable_on(color: Rgb) -> Rgb:
    """Black or white, whichever is more readable on this colour (relative luminance of WCAG 2)."""
    linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (20, 20, 20) if luminance > 0.18 else (255, 255, 255)
