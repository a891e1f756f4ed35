"""The picture as it is sent: resized here, so that no server resizes it its own way, and encoded."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

from maskmill import Image

#: Raise it when the same image and size give other bytes.
ENCODING = 1
#: DashScope takes 10 MB of a data URI, which is 7 MB of picture.
MOST_BYTES = 7_000_000
QUALITIES = (95, 85, 70, 50)


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image.

    Attributes:
        data: its bytes.
        media: their media type.
    """

    data: bytes
    media: str

    @property
    def sha256(self) -> str:
        """Of the bytes, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def picture(image: Image, size: tuple[int, int]) -> Picture:
    """The image at this size (height, width) as JPEG, as good as the server's limit on bytes allows.

    Resized with Lanczos' filter; colours are not subsampled, which would blur edges between them.
    """
    import PIL.Image

    pixels = PIL.Image.fromarray(image.pixels)
    if image.size != size:
        pixels = pixels.resize(size[::-1], PIL.Image.Resampling.LANCZOS)
    for quality in QUALITIES:
        buffer = io.BytesIO()
        pixels.save(buffer, "JPEG", quality=quality, subsampling=0)
        if buffer.tell() <= MOST_BYTES:
            break
    return Picture(buffer.getvalue(), "image/jpeg")
