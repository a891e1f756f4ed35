"""The image as it is sent: resized here, so that the result does not depend on the server, and encoded."""

from __future__ import annotations

import hashlib

from maskmill import Image
from maskmill_plugins._shared.drawing.pixels import encode_jpeg

from ..calls.answer_store import AnswerStore, make_image_id

#: Increase it when the same image and size give other bytes.
ENCODING = 1
#: DashScope accepts data URIs of 10 MB, which is 7 MB of image.
MAX_BYTES = 7_000_000
QUALITIES = (95, 85, 70, 50)


class SentImage:
    """An image as it is sent, encoded once, when it is first needed.

    Args:
        image: to be sent.
        size: (height, width) to send it at.
        answers: has the hashes of images that were sent before.
    """

    def __init__(self, image: Image, size: tuple[int, int], answers: AnswerStore) -> None:
        self._image = image
        self._size = size
        self._answers = answers
        self._id = make_image_id(image.pixels_id, [ENCODING, image.size, size])
        self._data: bytes | None = None

    @property
    def sha256(self) -> str:
        """Of the bytes sent, hexadecimal; read from disk if the image was sent before."""
        return self._answers.get_sent_hash(self._id) or hashlib.sha256(self.data).hexdigest()

    @property
    def data(self) -> bytes:
        """The encoded image."""
        if self._data is None:
            self._data = encode_image(self._image, self._size)
            self._answers.add_sent_hash(self._id, hashlib.sha256(self._data).hexdigest())
        return self._data


def encode_image(image: Image, size: tuple[int, int]) -> bytes:
    """Encode the image at this size (height, width) as JPEG, in the best quality within the server's size limit.

    Resized with the Lanczos filter; chroma is not subsampled, which would blur edges between colors.
    """
    import PIL.Image

    pixels = PIL.Image.fromarray(image.pixels)
    if image.size != size:
        pixels = pixels.resize(size[::-1], PIL.Image.Resampling.LANCZOS)
    for quality in QUALITIES:
        data = encode_jpeg(pixels, quality)
        if len(data) <= MAX_BYTES:
            break
    return data
