"""TIFF files with several pages, or with more bands than a picture has."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import PIL.Image
import PIL.TiffImagePlugin

from ..errors import ImageReadError
from ..wording import count_noun

#: Pages looked at in search of a second picture; a hostile file can have millions.
MOST = 10_000
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _BITS, _SAMPLES, _SAMPLE_FORMAT = 254, 255, 258, 277, 339  # TIFF tags
_REDUCED, _MASK, _OLD_REDUCED = 1, 4, 2  # bits of the first, value of the second
_FORMATS = {1: "unsigned", 2: "signed", 3: "floating-point"}


def open_page(picture: PIL.Image.Image, page: int | None) -> PIL.Image.Image:
    """Go to the page of a TIFF file that is meant; other files stay at their first picture.

    Reduced copies (previews, the levels of a pyramid) and masks are no pages.

    Args:
        picture: open, not loaded.
        page: from 1; None where the file must have only one.

    Raises:
        ImageReadError: there are several pages and none was named, or not so many.
    """
    if picture.format != "TIFF":
        return picture
    pages = _find_pages(picture, 2 if page is None else page)
    if page is None and len(pages) > 1:
        raise ImageReadError("a TIFF file with several pages; name the one to use, as images: {page: 1}, or split it")
    if page is not None and len(pages) < page:
        count = count_noun(len(pages), "page")
        raise ImageReadError(f"a TIFF file with {count}; there is no page {page} (images: {{page: {page}}})")
    picture.seek(pages[(page or 1) - 1] if pages else 0)
    return picture


def _find_pages(picture: PIL.Image.Image, wanted: int) -> list[int]:
    """The frames that are pages, up to so many."""
    pages: list[int] = []
    for frame in range(MOST):
        try:
            picture.seek(frame)
        except Exception:  # the end, or a damaged page after a good one
            break
        tags: Any = getattr(picture, "tag_v2", {})
        kind = tags.get(_SUBFILE_TYPE, 0)
        is_copy = isinstance(kind, int) and kind & (_REDUCED | _MASK)
        if frame == 0 or not (is_copy or tags.get(_OLD_SUBFILE_TYPE) == _OLD_REDUCED):
            pages.append(frame)
        if len(pages) >= wanted:
            break
    return pages


def describe_bands(data: bytes) -> str:
    """Why a TIFF file with a sound header has no picture that can be read: its bands; "" if that is not known."""
    with contextlib.suppress(Exception):
        directory = PIL.TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        bits = directory[_BITS]
        kind = _FORMATS.get(directory.get(_SAMPLE_FORMAT, (1,))[0], "other")
        bands = directory.get(_SAMPLES, 1)
        return (
            f"a TIFF file of {count_noun(bands, 'band')} of {bits[0]}-bit {kind} values, which is not"
            " supported; save the bands to be used as a gray or RGB file of 8 or 16 bits"
        )
    return ""
