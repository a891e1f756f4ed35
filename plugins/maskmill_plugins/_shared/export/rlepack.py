"""The run-length code of Label Studio's brush: thi.ng's `rle-pack` over the bytes of an RGBA picture.

Label Studio's own encoder (`label_studio_converter.brush.encode_rle`) brings Pandas, NLTK and a client with it,
and walks over every byte of the picture in Python; it serves the tests here.

Reference: https://github.com/thi-ng/umbrella/blob/develop/packages/rle-pack/src/index.ts
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_SIZES = (3, 4, 8, 16)  # bits for the length of a run
_CHANNELS = 4


def encode(pixels: npt.NDArray[np.bool_]) -> list[int]:
    """The bytes of the code, 0..255: all four channels of a pixel are 255 on the mask and 0 off it.

    Args:
        pixels: bool (H, W), read row by row.
    """
    flat = pixels.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.append(starts, flat.size)) * _CHANNELS
    head = f"{flat.size * _CHANNELS:032b}{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in _SIZES)
    runs = (_run(int(length), bool(flat[start])) for start, length in zip(starts, lengths, strict=True))
    bits = head + "".join(runs)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8))


def _run(length: int, value: bool) -> str:
    """The bits of a run: a 1, which of the sizes, the length less 1 in that size, the value. Long ones in pieces."""
    word = "11111111" if value else "00000000"
    longest = 1 << _SIZES[-1]
    pieces, rest = divmod(length, longest)
    bits = f"1{len(_SIZES) - 1:02b}{longest - 1:0{_SIZES[-1]}b}{word}" * pieces
    if rest:
        number = next(number for number, size in enumerate(_SIZES) if rest <= 1 << size)
        bits += f"1{number:02b}{rest - 1:0{_SIZES[number]}b}{word}"
    return bits
