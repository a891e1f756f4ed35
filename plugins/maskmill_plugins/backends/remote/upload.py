"""Makes sure that a server has an image: which bytes are sent, and under which id.

The file's own bytes are tried first: they are smallest, the server decodes them with the same decoder as this
machine, and their SHA-256 identifies the image everywhere. An image without a file, whose file has
changed, or of which this pipeline makes other pixels than the server would, is sent as PNG, which keeps them exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from maskmill import Image, ImageError, ImageReadError
from maskmill_plugins._shared.drawing.pixels import encode_jpeg, encode_png
from maskmill_plugins._shared.http.wire import image_id

from .client import SamClient
from .pool import ServerPool

Compress = Literal["none", "png", "jpeg"]
#: The server's id of an image, and a function that returns its bytes, None if they are no longer available.
Form = tuple[str, Callable[[], bytes | None]]
#: Of `compress: jpeg`.
QUALITY = 90


def upload_image(
    image: Image, compress: Compress, server: SamClient, pool: ServerPool, log: Callable[[str], None]
) -> str:
    """Return the id under which the server has the image, after sending it if necessary.

    Raises:
        ImageError: the image exceeds the server's limits, or the server reads it differently.
        ServerUnavailable, BadReply, StopRun: as `SamClient.upload` and `ServerPool.verify_model`.
    """
    for form_id, read in _list_forms(image, compress):
        if server.remembers(form_id):
            return form_id
        limits = pool.verify_model(server).limits  # the server may have been restarted between two images
        if server.has_image(form_id):
            return form_id
        data = read()
        if image.height * image.width > limits.image_pixels:
            raise ImageError(f"{server.url} accepts images of at most {limits.image_pixels} pixels")
        if data is None or len(data) > limits.image_bytes:
            continue
        info = server.upload(form_id, data)
        if (info.height, info.width) != image.size:
            text = f"{server.url} reads the image as {info.width}×{info.height} pixels, this machine as"
            raise ImageError(f"{text} {image.width}×{image.height}; set `compress: png` to send the pixels themselves")
        log(f"{image.ref.key}: {len(data)} bytes sent to {server.url}")
        return form_id
    raise ImageError(f"{server.url} accepts images of at most {limits.image_bytes} bytes")


def _list_forms(image: Image, compress: Compress) -> Iterator[Form]:
    """Yield the forms in which an image may be sent, the best first; each is encoded when its turn comes."""
    if compress == "jpeg":
        yield _make_form(encode_jpeg(image.pixels, QUALITY))
        return
    if compress == "none" and image.pixels_id == image.sha256 and _has_file(image):
        yield image_id(image.sha256), partial(_read_file, image)
    yield _make_form(encode_png(image.pixels))


def _make_form(data: bytes) -> Form:
    return image_id(hashlib.sha256(data).hexdigest()), lambda: data


def _has_file(image: Image) -> bool:
    try:
        image.ref.stat()
    except (OSError, ValueError, ImageReadError):
        return False
    return True


def _read_file(image: Image) -> bytes | None:
    try:
        data = image.ref.read()
    except ImageReadError:
        return None
    return data if hashlib.sha256(data).hexdigest() == image.sha256 else None
