"""What the page opens large: outlines of the masks, and where the photo is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from urllib.parse import quote

import PIL.Image

from maskmill import Image, ImageResult, Mask, colors
from maskmill.files import path_from
from maskmill_plugins._shared.drawing.canvas import Canvas
from maskmill_plugins._shared.result_pages.layers import css_color, encode_outlines, encode_prompts

#: The name of the note with what is needed at the end of the run.
NOTE = "picture"
DROPPED: colors.Rgb = (150, 150, 150)
#: Formats that browsers show as they are.
_SHOWN_BY_BROWSERS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
_MOST_DROPPED = 20
_QUALITY = 85


def choose_masks(result: ImageResult) -> list[Mask]:
    """The masks that are drawn: kept ones, then the largest dropped ones."""
    dropped = sorted((mask for mask in result.masks if not mask.kept), key=lambda mask: -mask.area)
    return [*result.kept, *dropped[:_MOST_DROPPED]]


def describe_picture(image: Image, result: ImageResult, folder: Path, copy: str | None) -> dict[str, Any]:
    """What is noted about an image for the page.

    Args:
        image: the image.
        result: its result.
        folder: of the writer, from which the page opens the photo.
        copy: the path of a copy of the photo below it.
    """
    photo = locate_photo(image, folder)
    files = [quote(copy)] if copy else []
    return {"photos": [*([photo] if photo else []), *files], "outlines": encode_outlines(choose_masks(result))}


def locate_photo(image: Image, folder: Path) -> str | None:
    """The address of the image's file for a page in a folder; None if a browser cannot show it from disk."""
    if image.ref.is_remote or not image.ref.key.lower().endswith(_SHOWN_BY_BROWSERS):
        return None
    path = image.ref.path
    try:
        return quote(path_from(folder, path), errors="surrogatepass")
    except ValueError:  # on another drive
        return path.absolute().as_uri()


def encode_copy(image: Image, side: int) -> bytes:
    """A JPEG of the image, its longer side not longer than this."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(Canvas(image.pixels, 1, side).pixels).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def describe_layers(result: ImageResult, masks: list[Mask]) -> dict[str, Any]:
    """What the page draws over the photo.

    Args:
        result: with the note of `describe_picture`, or without it.
        masks: those in the table of the page, in its order.
    """
    found = (notes[NOTE] for notes in result.notes.values() if isinstance(notes, dict) and NOTE in notes)
    noted: dict[str, Any] = next(found, {})
    outlines = dict(noted.get("outlines", ()))
    tones = {mask.index: css_color(colors.nth(number)) for number, mask in enumerate(result.kept)}
    return {
        "photos": noted.get("photos", []),
        "masks": [[outlines.get(mask.index, ""), tones.get(mask.index, css_color(DROPPED))] for mask in masks],
        **encode_prompts(result.prompts),
    }
