"""Pictures as the page shows them: upright, no larger than it can use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import PIL.Image

from maskmill_plugins._shared.drawing.pixels import encode_jpeg, encode_png

from ..server.compute.byte_cache import ByteCache

#: Longer side in pixels.
SMALLEST, USUAL, LARGEST = 16, 2048, 4096
#: Pictures of no more pixels are sent without loss.
LOSSLESS = 300_000
QUALITY = 90
#: Bytes of previews that are kept.
KEPT = 64_000_000


class Previews:
    """Makes previews and keeps those used last."""

    def __init__(self) -> None:
        self._made: ByteCache[tuple[str, int], tuple[bytes, str]] = ByteCache(KEPT)

    def get(self, id_: str, most: int) -> tuple[bytes, str] | None:
        """The file and its media type, if it is kept."""
        return self._made.get((id_, most))

    def make(self, id_: str, pixels: npt.NDArray[np.uint8], most: int) -> tuple[bytes, str]:
        """The file and its media type.

        Args:
            id_: of the image.
            pixels: uint8 (H, W, 3) RGB, upright.
            most: pixels of the longer side.
        """
        height, width = shrunk(pixels.shape[:2], most)
        picture = PIL.Image.fromarray(pixels)
        if (width, height) != picture.size:
            # The gap: most of the way by means of blocks, which costs a fraction of the time and memory.
            picture = picture.resize((width, height), PIL.Image.Resampling.BICUBIC, reducing_gap=2.0)
        small = width * height <= LOSSLESS
        made = (encode_png(picture), "image/png") if small else (encode_jpeg(picture, QUALITY), "image/jpeg")
        self._made.put((id_, most), made, len(made[0]))
        return made


def shrunk(size: tuple[int, ...], most: int) -> tuple[int, int]:
    """(height, width) with the longer side no longer than `most`, and no side without a pixel."""
    scale = min(1.0, most / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width
