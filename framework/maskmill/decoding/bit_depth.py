"""Pictures of more than 8 bits per channel: the range of their values, and how they become 8 bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

#: How values become 0 to 255: all that the type can hold, from the lowest to the highest, or between percentiles.
HighBitDepth = Literal["full", "minmax", "percentile"]
HIGH_BIT_DEPTHS: tuple[HighBitDepth, ...] = get_args(HighBitDepth)
#: The percentiles of `percentile`, and those between which a picture counts as using its range.
PERCENTILES, USED = (1.0, 99.0), (0.1, 99.9)
#: A picture whose values lie within less than this part of what becomes black to white looks nearly black or flat.
LOW = 0.25
#: Values that percentiles of floating-point pictures are computed from, evenly spaced.
SAMPLE = 4_000_000


@dataclass(frozen=True, slots=True)
class Conversion:
    """What of an image file becomes the image, beyond what every file says of itself.

    Attributes:
        high_bit_depth: how values of more than 8 bits become 8 bits.
        page: which page of a TIFF file, from 1; None for the only one.
    """

    high_bit_depth: HighBitDepth = "full"
    page: int | None = None

    def __post_init__(self) -> None:
        if self.high_bit_depth not in HIGH_BIT_DEPTHS:
            raise ValueError(f"high_bit_depth is one of {', '.join(HIGH_BIT_DEPTHS)}, not {self.high_bit_depth!r}")

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults, {} if nothing does: then results are those of earlier versions."""
        return {name: value for name, value in asdict(self).items() if value != getattr(DEFAULT, name)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Self:
        """The inverse of `to_json`."""
        return cls(**(data or {}))


DEFAULT = Conversion()


@dataclass(frozen=True, slots=True)
class ValueRange:
    """The values of a picture of more than 8 bits per channel, and what became of them.

    Attributes:
        type: of the values, such as "uint16", "float32"; "uint12" for 12-bit files.
        lowest: of all channels.
        highest: likewise.
        black: the value that became 0.
        white: the value that became 255.
        used: part of black to white between the 0.1th and the 99.9th percentile, 0 to 1.
        high_bit_depth: how black and white were found.
    """

    type: str
    lowest: float
    highest: float
    black: float
    white: float
    used: float
    high_bit_depth: HighBitDepth

    @property
    def doubt(self) -> str:
        """Why the picture may look nearly black or flat; "" if it uses its range."""
        if self.used >= LOW or self.high_bit_depth == "percentile":
            return ""
        better = "minmax" if self.high_bit_depth == "full" else "percentile"
        return (
            f"{self.type} values from {self.lowest:g} to {self.highest:g}, and {self.black:g} to {self.white:g} become"
            f" black to white: the picture uses {self.used:.1%} of its range and looks nearly black or flat;"
            f" images: {{high_bit_depth: {better}}} stretches it"
        )


def measure_integers(type_: str, top: int, counts: npt.NDArray[np.int64], how: HighBitDepth) -> ValueRange:
    """The range of unsigned values.

    Args:
        type_: of the values.
        top: the highest that the file can hold.
        counts: how often each value from 0 on occurs.
        how: black and white are found like this.
    """
    found = np.flatnonzero(counts)
    sums = np.cumsum(counts)

    def percentile(part: float) -> int:
        return int(np.searchsorted(sums, part / 100 * sums[-1], side="left"))

    limits = {
        "full": (0, top),
        "minmax": (int(found[0]), int(found[-1])),
        "percentile": (percentile(PERCENTILES[0]), percentile(PERCENTILES[1])),
    }
    black, white = limits[how]
    used = (percentile(USED[1]) - percentile(USED[0])) / max(white - black, 1)
    return ValueRange(type_, int(found[0]), int(found[-1]), black, white, _share(used), how)


def measure_numbers(type_: str, values: npt.NDArray[Any], how: HighBitDepth) -> ValueRange:
    """The range of floating-point or signed values, for `minmax` and `percentile`; NaN and infinities do not count.

    Raises:
        ValueError: no value is a finite number.
    """
    flat = values.reshape(-1)
    finite = np.isfinite(flat)
    if not finite.any():
        raise ValueError("none of its values is a finite number")
    numbers = flat if finite.all() else flat[finite]
    lowest, highest = float(numbers.min()), float(numbers.max())
    step = max(1, flat.size // SAMPLE)
    sample = flat[::step][finite[::step]].astype(np.float64)
    low, first, last, high = (
        np.percentile(sample, [USED[0], *PERCENTILES, USED[1]]) if sample.size else [lowest, lowest, highest, highest]
    )
    black, white = (lowest, highest) if how == "minmax" else (float(first), float(last))
    used = (float(high) - float(low)) / (white - black) if white > black else 0.0
    return ValueRange(type_, lowest, highest, black, white, _share(used), how)


def _share(used: float) -> float:
    return round(min(max(used, 0.0), 1.0), 4)


def narrow_integers(values: npt.NDArray[Any], found: ValueRange) -> npt.NDArray[np.uint8]:
    """Unsigned values of up to 16 bits as 0 to 255, rounded; those outside black to white are clipped."""
    black, width = int(found.black), max(int(found.white) - int(found.black), 1)
    shifted = np.clip(np.arange(65536) - black, 0, width)
    table = ((shifted * 255 + width // 2) // width).astype(np.uint8)
    made: npt.NDArray[np.uint8] = table[values]
    return made


def narrow_numbers(values: npt.NDArray[Any], found: ValueRange) -> npt.NDArray[np.uint8]:
    """Floating-point or signed values as 0 to 255, rounded; NaN becomes 0."""
    width = found.white - found.black
    with np.errstate(invalid="ignore", over="ignore"):
        part = (values.astype(np.float64) - found.black) / (width or 1.0)
    return np.rint(np.clip(np.nan_to_num(part, nan=0.0), 0.0, 1.0) * 255).astype(np.uint8)


def count_values(strips: Iterable[npt.NDArray[Any]], top: int) -> npt.NDArray[np.int64]:
    """How often each value from 0 to `top` occurs in unsigned arrays."""
    counts = np.zeros(top + 1, np.int64)
    for strip in strips:
        counts += np.bincount(np.minimum(strip.reshape(-1), top), minlength=top + 1)
    return counts
