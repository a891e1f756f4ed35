"""The forms in which an image can be sent, each with its id.

The file's own bytes come first: they are fewest, the server decodes them with the decoder that
decoded them here, and their SHA-256 is the id under which everyone knows the image. An image
without a file, or whose file is another by now, is sent as PNG, which holds exactly its pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from maskmill import Image, ImageReadError
from maskmill_plugins._shared.drawing.pixels import encode_jpeg, encode_png
from maskmill_plugins._shared.http.wire import image_id

Compress = Literal["none", "png", "jpeg"]
#: Of `compress: jpeg`.
QUALITY = 90


@dataclass(frozen=True)
class Form:
    """An image as the bytes of a file.

    Attributes:
        id: the server's name for it.
        data: gives the bytes; None if they cannot be had any more.
    """

    id: str
    data: Callable[[], bytes | None]


def forms(image: Image, compress: Compress) -> Iterator[Form]:
    """How an image may be sent, the best form first; encoding happens when a form's turn comes."""
    if compress == "jpeg":
        yield _encoded(encode_jpeg(image.pixels, QUALITY))
        return
    if compress == "none" and _has_file(image):
        yield Form(image_id(image.sha256), partial(_file, image))
    yield _encoded(encode_png(image.pixels))


def _encoded(data: bytes) -> Form:
    return Form(image_id(hashlib.sha256(data).hexdigest()), lambda: data)


def _has_file(image: Image) -> bool:
    try:
        image.ref.stat()
    except (OSError, ValueError, ImageReadError):
        return False
    return True


def _file(image: Image) -> bytes | None:
    try:
        data = image.ref.read()
    except ImageReadError:
        return None
    return data if hashlib.sha256(data).hexdigest() == image.sha256 else None
