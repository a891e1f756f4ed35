"""Pixels of more than 8 bits, read with Pillow, which keeps gray ones in full and of colours the high bytes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from ..errors import ImageReadError
from .bit_depth import (
    Conversion,
    ValueRange,
    count_values,
    measure_integers,
    measure_numbers,
    narrow_integers,
    narrow_numbers,
)

_BITS, _SAMPLE_FORMAT = 258, 339  # TIFF tags
_COLOURS = re.compile(r"(RGB|RGBA|RGBX|LA);16([BLN])")
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


def find_raw_mode(picture: PIL.Image.Image) -> str:
    """How the bytes of colours of 16 bits are laid out, such as "RGB;16B"; "" for other pictures.

    Only known before the picture is loaded.
    """
    for tile in getattr(picture, "tile", []):
        args = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if args and isinstance(args[0], str) and _COLOURS.fullmatch(args[0]):
            return args[0]
    return ""


def narrow(
    picture: PIL.Image.Image, raw_mode: str, reopen: Callable[[], PIL.Image.Image], conversion: Conversion, rows: int
) -> tuple[PIL.Image.Image, ValueRange | None]:
    """A loaded picture of more than 8 bits as the 8-bit picture that the conversion asks for.

    Args:
        picture: any picture; one of 8 bits is returned as it is.
        raw_mode: of `find_raw_mode`.
        reopen: opens the same picture again, not loaded.
        conversion: how.
        rows: so many are worked on at once.

    Returns:
        The picture and the range of its values. 16-bit gray stays as it is: it is converted in strips later.

    Raises:
        ImageReadError: the values have no fixed range, and the conversion needs one.
    """
    how = conversion.high_bit_depth
    if picture.mode.startswith("I;16"):
        bits = getattr(picture, "tag_v2", {}).get(_BITS, (16,))[0]
        top = (1 << bits) - 1
        counts = count_values(_strips(picture, rows), top)
        return picture, measure_integers(f"uint{bits}", top, counts, how)
    if picture.mode in ("I", "F"):
        return _narrow_numbers(picture, conversion)
    if not raw_mode:
        return picture, None
    if how == "full":  # as Pillow does it: by the high byte
        counts = np.zeros(65536, np.int64)
        counts[::257] = count_values((strip[..., :3] for strip in _strips(picture, rows)), 255)
        return picture, measure_integers("uint16", 65535, counts, how)
    return _narrow_colours(picture, raw_mode, reopen, conversion)


def _strips(picture: PIL.Image.Image, rows: int) -> Iterator[npt.NDArray[Any]]:
    width, height = picture.size
    for top in range(0, height, rows):
        yield np.asarray(picture.crop((0, top, width, min(top + rows, height))))


def _narrow_numbers(picture: PIL.Image.Image, conversion: Conversion) -> tuple[PIL.Image.Image, ValueRange]:
    if conversion.high_bit_depth == "full":
        raise ImageReadError(
            "floating-point, signed and 32-bit pixels have no fixed range; convert the image to 8 or 16 bits,"
            " or take the range from its values: images: {high_bit_depth: minmax} or percentile"
        )
    values = np.asarray(picture)
    tags = getattr(picture, "tag_v2", {})
    bits, kind = tags.get(_BITS, (32,))[0], tags.get(_SAMPLE_FORMAT, (1,))[0]
    if picture.mode == "I" and kind == 1 and bits == 32:  # Pillow holds them as signed ones
        values = values.view(np.uint32)
    name = f"float{bits}" if picture.mode == "F" else f"{'uint' if kind == 1 else 'int'}{bits}"
    try:
        found = measure_numbers(name, values, conversion.high_bit_depth)
    except ValueError as error:
        raise ImageReadError(str(error)) from None
    return PIL.Image.fromarray(narrow_numbers(values, found)), found


def _narrow_colours(
    picture: PIL.Image.Image, raw_mode: str, reopen: Callable[[], PIL.Image.Image], conversion: Conversion
) -> tuple[PIL.Image.Image, ValueRange]:
    """Colours of 16 bits from the high bytes, which Pillow keeps, and the low bytes, read as if they were the high."""
    high = np.asarray(picture)
    values = high.astype(np.uint16) * 257
    match = _COLOURS.fullmatch(raw_mode)
    assert match, "find_raw_mode found it"
    if match[1] != "LA":  # Pillow reads these in one byte order only
        values = (high.astype(np.uint16) << 8) | np.asarray(_read_low_bytes(reopen(), match))
    colours = values[..., :3]
    counts = count_values([colours], 65535)
    found = measure_integers("uint16", 65535, counts, conversion.high_bit_depth)
    made = PIL.Image.fromarray(narrow_integers(colours, found))
    if picture.mode == "RGBA":
        made.putalpha(picture.getchannel("A"))
    elif isinstance(clear := picture.info.get("transparency"), tuple):  # PNG: one colour is transparent
        opaque = np.any(colours != np.array(clear, np.uint16), axis=2)
        made.putalpha(PIL.Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8)))
    return made, found


def _read_low_bytes(picture: PIL.Image.Image, match: re.Match[str]) -> PIL.Image.Image:
    """The picture with its bytes taken in the other order, so that the high bytes are the file's low ones."""
    swapped = f"{match[1]};16{_SWAPPED[match[2]]}"
    tiles: Any = getattr(picture, "tile")  # noqa: B009 - mypy knows no tiles of an Image
    picture.tile = [  # type: ignore[attr-defined]
        tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped) for tile in tiles
    ]
    picture.load()
    return picture
