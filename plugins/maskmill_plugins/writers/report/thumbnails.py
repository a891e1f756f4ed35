"""Small pictures with masks and prompts drawn on them."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image

from maskmill import Image, ImageResult
from maskmill.files import safe_path
from maskmill_plugins._shared.drawing import colors
from maskmill_plugins._shared.drawing.draw import Canvas
from maskmill_plugins._shared.export.naming import image_file

FOLDER = "thumbnails"
SUFFIX = ".webp"
_DROPPED: colors.Rgb = (150, 150, 150)
_MOST_DROPPED = 20


def thumbnail_name(key: str) -> str:
    """Name of an image's thumbnail below the writer's folder, without its suffix, for `maskmill.save`."""
    return f"{FOLDER}/{image_file(key)}"


def thumbnail_path(folder: Path, key: str) -> Path:
    """Where an image's thumbnail lies, if it has one."""
    return folder / safe_path(thumbnail_name(key), SUFFIX)


def thumbnail(image: Image, result: ImageResult, side: int, quality: int) -> bytes:
    """A WebP file's bytes: kept masks filled, prompts on top; where none is kept, the outlines of the dropped ones.

    Args:
        image: the image.
        result: what was found in it.
        side: longer side of the picture in pixels; smaller images are not enlarged.
        quality: of the WebP, 1..100.
    """
    canvas = Canvas(image.pixels, 1, side)
    kept = sorted(enumerate(result.kept), key=lambda pair: -pair[1].area)
    for number, mask in kept:  # large ones first, so that small ones on top of them stay visible
        canvas.mask(mask, colors.nth(number))
    if not kept:
        for mask in sorted(result.masks, key=lambda mask: -mask.area)[:_MOST_DROPPED]:
            canvas.mask(mask, _DROPPED, alpha=0)
    canvas.prompts(result.prompts)
    buffer = io.BytesIO()
    PIL.Image.fromarray(canvas.pixels).save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()
