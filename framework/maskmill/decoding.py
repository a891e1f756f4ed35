"""The one decoder: an image file's bytes to pixels, whatever the file is.

Every part of maskmill decodes through `decode`, so that a file which opens in one place
opens in all of them, with the same pixels. Pillow does the work.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from .errors import ImageReadError

#: Images of more pixels are refused before they are decoded (3 bytes each in memory, 8 while decoding).
MAX_PIXELS = 250_000_000
#: Pixels converted at once: conversions take several times the memory of what they convert.
STRIP = 16_000_000
#: Passes over a JPEG file's pixels; encoders make about ten, and a few bytes can ask for each.
MAX_SCANS = 100

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
_pillow = threading.Lock()
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else its remarks on damaged files reach the terminal

#: EXIF orientation -> what brings the picture upright.
_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_ORIENTATION, _BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES = 274, 258, 259, 262, 284  # TIFF and EXIF tags


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode an image file's bytes to uint8 (H, W, 3) RGB, upright.

    EXIF orientation is applied; transparency is laid on white; of an animation, or a file of
    several pages, the first is taken. 16-bit gray is divided by 257 and rounded, without
    stretching; of 16-bit colours Pillow keeps the high byte, at most one level apart from
    that. Colour profiles are not applied.

    Args:
        data: the bytes of a JPEG, PNG, BMP, TIFF, WebP or GIF file.
        max_pixels: larger images are refused, by their header, before decoding.

    Raises:
        ImageReadError: not such an image, truncated, too large, or of a kind without
            a fixed range of values (floating point, 32-bit, signed).
    """
    if not data:
        raise ImageReadError("the file is empty (0 bytes)")
    with _alone_in_pillow():
        try:
            return _decoded(data, max_pixels)
        except ImageReadError:
            bare = _without_metadata(data)
            if len(bare) == len(data):
                raise
            return _decoded(bare, max_pixels)


def _decoded(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    picture = _open(data)
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageReadError(
            f"{width}×{height} is {width * height / 1e6:.0f} million pixels; at most"
            f" {max_pixels / 1e6:.0f} million are decoded (run: {{max_pixels: ...}} raises the limit)"
        )
    said: list[str] = []
    try:
        _refuse_garbled(picture)
        _refuse_endless(picture, data)
        PIL.Image.MAX_IMAGE_PIXELS = max_pixels  # tiles and frames may be larger than the header said
        with _libtiff_heard(said) if picture.format == "TIFF" else nullcontext():
            picture.load()
        return np.ascontiguousarray(_rgb(_upright(picture)), dtype=np.uint8)
    except ImageReadError:
        raise
    except MemoryError:
        raise ImageReadError(f"not enough memory to decode {width}×{height} pixels") from None
    except Exception as error:  # damaged files raise nearly anything
        reason = said[0] if said else str(error)
        raise ImageReadError(": ".join(filter(None, [f"damaged or truncated {picture.format} file", reason]))) from None


@contextmanager
def _alone_in_pillow() -> Iterator[None]:
    """One decoding at a time in a process: Pillow's limit and Python's warning filters are global."""
    with _pillow, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata is no news; the pixels decide
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _libtiff_heard(said: list[str]) -> Iterator[None]:
    """Adds to `said` what libtiff writes to the standard error, the only place where it gives reasons."""
    try:
        file, terminal = tempfile.TemporaryFile(), os.dup(2)  # noqa: SIM115 - closed below
    except OSError:  # a process without a standard error, or without a place for temporary files
        yield
        return
    with file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            file.seek(0)
            lines = file.read(10_000).decode("utf-8", "replace").splitlines()
            said += [line.removeprefix("tempfile.tif: ") for line in lines]


def _open(data: bytes) -> PIL.Image.Image:
    reason = ""
    try:
        return PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
    except PIL.UnidentifiedImageError:
        pass
    except Exception as error:
        reason = f": {error}"
    for name in _FORMATS:  # the signature may be right and the rest unknown to Pillow
        accept = PIL.Image.OPEN[name][1]
        if accept is not None and accept(data[:16]):
            raise ImageReadError(f"a {name} file whose header is damaged or of an unsupported kind{reason}")
    raise ImageReadError("not a JPEG, PNG, BMP, TIFF, WebP or GIF image")


def _without_metadata(data: bytes) -> bytes:
    """A PNG without texts and profile: Pillow refuses the image for large ones, and they change no pixel."""
    if not data.startswith(_PNG):
        return data
    kept, place = [_PNG], len(_PNG)
    while place + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if name not in _PNG_METADATA:
            kept.append(data[place:end])
        place = end
    return b"".join(kept)


def _upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    # Not ImageOps.exif_transpose: it rewrites the metadata too, and fails where they are odd.
    try:
        method = _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # unreadable EXIF says nothing about orientation
        return picture
    return picture if method is None else picture.transpose(method)


def _rgb(picture: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """Its colours as uint8 (H, W, 3), converted strip by strip."""
    if picture.mode in ("I", "F"):
        raise ImageReadError(
            "pixels of floating-point, signed or 32-bit type have no fixed range; convert the image to 8 or 16 bits"
        )
    width, height = picture.size
    rows = max(STRIP // width, 1)
    tags = getattr(picture, "tag_v2", {})
    if rows >= height:
        return _strip(picture, tags)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _strip(picture.crop((0, top, width, bottom)), tags)
    return pixels


def _strip(picture: PIL.Image.Image, tags: Mapping[int, Any]) -> npt.NDArray[np.uint8]:
    if picture.mode.startswith("I;16"):
        return _from_gray_16(picture, tags)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(ground, picture)
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _from_gray_16(picture: PIL.Image.Image, tags: Mapping[int, Any]) -> npt.NDArray[np.uint8]:
    """16-bit gray divided by 257 (12-bit by 4095/255), rounded."""
    top = (1 << tags.get(_BITS, (16,))[0]) - 1
    values = np.asarray(picture).astype(np.uint32)
    gray = ((values * 255 + top // 2) // top).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == 0:  # zero is white; Pillow turns only 8-bit gray round
        gray = 255 - gray
    if (clear := picture.info.get("transparency")) is not None:  # PNG: one gray value is transparent
        gray[values == clear] = 255
    return np.repeat(gray[:, :, None], 3, axis=2)


def _refuse_garbled(picture: PIL.Image.Image) -> None:
    """Pillow misreads 16-bit TIFF planes that are not compressed: noise instead of an error."""
    tags = getattr(picture, "tag_v2", {})
    if tags.get(_PLANES) == 2 and tags.get(_BITS, (8,))[0] > 8 and tags.get(_COMPRESSION, 1) == 1:
        raise ImageReadError("an uncompressed 16-bit TIFF in planes is not supported; save it interleaved")


def _refuse_endless(picture: PIL.Image.Image, data: bytes) -> None:
    """A small JPEG file may ask for hours of work."""
    start_of_scan = b"\xff\xda"
    if picture.format not in ("JPEG", "MPO") or data.count(start_of_scan) <= MAX_SCANS:
        return
    scans, place = 0, 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 4 <= len(data):
        marker, length = struct.unpack_from(">xBH", data, place)
        if marker == 0xD9:  # the end of the picture; what follows is none of it
            break
        scans += marker == 0xDA
        has_length = 0xC0 <= marker < 0xD0 or 0xDA <= marker < 0xFF
        place += 2 + length if has_length else 1 + (marker != 0xFF)
    if scans > MAX_SCANS:
        raise ImageReadError(f"a JPEG file of {scans} scans; no more than {MAX_SCANS} are decoded")
