"""The one decoder: from the bytes of an image file to pixels, with Pillow.

Every part of maskmill decodes through `decode`, so that a file opens everywhere or nowhere,
with the same pixels.
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
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from ..errors import ImageReadError
from .bit_depth import DEFAULT, Conversion, ValueRange, narrow_integers
from .formats import heif_orientation, open_heif, refuse_camera_raw, refuse_unsupported
from .tiff_pages import describe_bands, open_page
from .wide_pixels import find_raw_mode, narrow

#: Images of more pixels are refused before they are decoded (3 bytes each in memory, 8 while decoding).
MAX_PIXELS = 250_000_000
#: Pixels converted at once: a conversion takes several times the memory of its input.
STRIP = 16_000_000
#: Scans of a JPEG file; encoders write about ten, but a small hostile file can contain thousands.
MAX_SCANS = 100

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF")
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
_pillow = threading.Lock()
logging.getLogger("PIL").addHandler(
    logging.NullHandler()
)  # otherwise its messages about damaged files reach the terminal

#: EXIF orientation -> the transposition that turns the picture upright.
_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
#: Those of them that exchange width and height.
_ON_ITS_SIDE = frozenset({5, 6, 7, 8})
_ORIENTATION, _BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES = 274, 258, 259, 262, 284  # TIFF and EXIF tags


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode an image file's bytes to uint8 (H, W, 3) RGB, upright.

    As `decode_with_range` does by default.

    Args:
        data: the bytes of a JPEG, PNG, BMP, TIFF, WebP, GIF, AVIF or (with pillow-heif) HEIC file.
        max_pixels: larger images are refused, by their header, before decoding.

    Raises:
        ImageReadError: not such an image, truncated, too large, or of a kind without
            a fixed range of values (floating point, 32-bit, signed).
    """
    return decode_with_range(data, max_pixels)[0]


def decode_with_range(
    data: bytes, max_pixels: int = MAX_PIXELS, conversion: Conversion = DEFAULT
) -> tuple[npt.NDArray[np.uint8], ValueRange | None]:
    """Decode an image file's bytes to uint8 (H, W, 3) RGB, upright.

    EXIF orientation is applied; transparent pixels are blended with white; of an animation the first
    image is taken. By default 16-bit gray is divided by 257 and rounded, without stretching; for 16-bit
    colours Pillow keeps the high byte, which differs from that by at most one level. Colour profiles are
    not applied.

    Args:
        data: the bytes of a file, as for `decode`.
        max_pixels: larger images are refused, by their header, before decoding.
        conversion: how values of more than 8 bits are converted, and which page of a TIFF file is taken.

    Returns:
        The pixels, and the range of the file's values if these have more than 8 bits, else None.

    Raises:
        ImageReadError: not such an image, truncated, too large, with several pages of which none was named,
            or without a fixed range of values where the conversion needs one.
    """
    if not data:
        raise ImageReadError("the file is empty (0 bytes)")
    with _exclusive_pillow():
        try:
            return _decode(data, max_pixels, conversion)
        except ImageReadError:
            bare = _strip_metadata(data)
            if len(bare) == len(data):
                raise
            return _decode(bare, max_pixels, conversion)


def convert_picture(picture: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """The pixels of a picture that Pillow has opened or made, uint8 (H, W, 3) RGB, upright.

    As `decode`: an orientation that its EXIF still asks for is applied, transparency is blended with white.

    Raises:
        ImageReadError: it cannot be loaded, or has more than 8 bits per channel.
    """
    if picture.mode.startswith(("I", "F")):
        raise ImageReadError(
            f"a Pillow picture of mode {picture.mode} has no fixed range of values;"
            " give the path of its file, or convert it to 8 bits first"
        )
    with _exclusive_pillow():
        try:
            picture.load()
            turned = picture.format in ("TIFF", "HEIF")  # while loading
            method = None if turned else _UPRIGHT.get(_read_orientation(picture, b""))
            made = picture if method is None else picture.transpose(method)
            return np.ascontiguousarray(_convert_to_rgb(made, {}, None), dtype=np.uint8)
        except Exception as error:  # damaged files raise almost any error
            raise ImageReadError(f"the Pillow picture cannot be loaded: {error}") from None


def find_orientation(data: bytes) -> int | None:
    """The EXIF orientation, 1 to 8, that `decode` applies to an image file's bytes; None if they cannot be read."""
    with _exclusive_pillow():
        try:
            picture = _open(data)
            if picture.format == "PNG":  # its EXIF may stand behind the pixels
                picture.load()
            return _read_orientation(picture, data)
        except Exception:  # damaged files raise almost any error
            return None


def read_size(data: bytes) -> tuple[int, int]:
    """(height, width) of the upright image in a file (the first page), from its header, without decoding it.

    Raises:
        ImageReadError: as `decode_with_range`, as far as the header shows it.
    """
    if not data:
        raise ImageReadError("the file is empty (0 bytes)")
    with _exclusive_pillow():
        picture = open_page(_open(_strip_metadata(data)), 1)
        width, height = picture.size
        # Pillow turns TIFF files itself, and says so from the start.
        turned = picture.format != "TIFF" and _read_orientation(picture, data) in _ON_ITS_SIDE
    return (width, height) if turned else (height, width)


def _decode(data: bytes, max_pixels: int, conversion: Conversion) -> tuple[npt.NDArray[np.uint8], ValueRange | None]:
    picture = open_page(_open(data), conversion.page)
    width, height = picture.size
    if width * height > max_pixels:
        raise ImageReadError(
            f"{width}×{height} has {width * height / 1e6:.0f} million pixels; at most"
            f" {max_pixels / 1e6:.0f} million are decoded (run: {{max_pixels: ...}} raises the limit)"
        )
    messages: list[str] = []
    try:
        refuse_camera_raw(getattr(picture, "tag_v2", {}))
        _refuse_misread_planes(picture)
        _refuse_too_many_scans(picture, data)
        PIL.Image.MAX_IMAGE_PIXELS = max_pixels  # tiles and frames may be larger than the header announces
        with _capture_stderr(messages) if picture.format == "TIFF" else nullcontext():
            raw_mode = find_raw_mode(picture)
            picture.load()
            reopen = partial(_reopen, data, conversion.page)
            made, found = narrow(picture, raw_mode, reopen, conversion, max(STRIP // width, 1))
        tags = getattr(picture, "tag_v2", {})
        pixels = _convert_to_rgb(_apply_orientation(picture, data, made), tags, found)
        return np.ascontiguousarray(pixels, dtype=np.uint8), found
    except ImageReadError:
        raise
    except MemoryError:
        raise ImageReadError(f"not enough memory to decode {width}×{height} pixels") from None
    except Exception as error:  # damaged files raise almost any error
        reason = messages[0] if messages else str(error)
        raise ImageReadError(": ".join(filter(None, [f"damaged or truncated {picture.format} file", reason]))) from None


@contextmanager
def _exclusive_pillow() -> Iterator[None]:
    """Decode one image at a time in a process: Pillow's limit and Python's warning filters are global."""
    with _pillow, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # only the pixels matter, not odd metadata
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _capture_stderr(messages: list[str]) -> Iterator[None]:
    """Add to `messages` what libtiff writes to the standard error, the only place where it gives reasons."""
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
            messages += [line.removeprefix("tempfile.tif: ") for line in lines]


def _open(data: bytes) -> PIL.Image.Image:
    reason = ""
    refuse_unsupported(data)
    if (heif := open_heif(data)) is not None:
        return heif
    try:
        return PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
    except PIL.UnidentifiedImageError:
        pass
    except Exception as error:
        reason = f": {error}"
    for name in _FORMATS:  # the signature may be right although Pillow does not support the rest
        accept = PIL.Image.OPEN[name][1]
        if accept is not None and accept(data[:16]):
            bands = describe_bands(data) if name == "TIFF" else ""
            raise ImageReadError(bands or f"a {name} file with a damaged or unsupported header{reason}")
    raise ImageReadError("not a JPEG, PNG, BMP, TIFF, WebP, GIF, AVIF or HEIC image")


def _strip_metadata(data: bytes) -> bytes:
    """A PNG without texts and colour profile: Pillow refuses large ones, and they do not affect the pixels."""
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


def _reopen(data: bytes, page: int | None) -> PIL.Image.Image:
    return open_page(_open(data), page)


def _read_orientation(picture: PIL.Image.Image, data: bytes) -> int:
    """The EXIF orientation that is still to be applied to an opened picture, 1 to 8; 1 if there is none.

    It comes from tag 274 of the picture's own EXIF (of a TIFF: its directory) alone, as browsers read it.
    Pillow's `getexif` also looks into XMP and into text chunks of editors, which may contradict the pixels.
    """
    try:
        if picture.format == "HEIF":
            value = heif_orientation(picture, data)
        elif picture.format == "TIFF":  # gone after loading: Pillow has turned it
            value = getattr(picture, "tag_v2", {}).get(_ORIENTATION, 1)
        else:
            exif = PIL.Image.Exif()
            exif.load(picture.info.get("exif") or b"")
            value = exif.get(_ORIENTATION, 1)
    except Exception:  # unreadable EXIF has no orientation
        return 1
    return int(value) if value in _UPRIGHT else 1


def _apply_orientation(picture: PIL.Image.Image, data: bytes, made: PIL.Image.Image) -> PIL.Image.Image:
    """What was made of a picture, turned as its EXIF orientation says."""
    # Not ImageOps.exif_transpose: it rewrites the metadata too, and fails on odd ones.
    method = _UPRIGHT.get(_read_orientation(picture, data))
    return made if method is None else made.transpose(method)


def _convert_to_rgb(
    picture: PIL.Image.Image, tags: Mapping[int, Any], found: ValueRange | None
) -> npt.NDArray[np.uint8]:
    """The picture as uint8 (H, W, 3) RGB, converted strip by strip."""
    width, height = picture.size
    rows = max(STRIP // width, 1)
    if rows >= height:
        return _convert_strip(picture, tags, found)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _convert_strip(picture.crop((0, top, width, bottom)), tags, found)
    return pixels


def _convert_strip(
    picture: PIL.Image.Image, tags: Mapping[int, Any], found: ValueRange | None
) -> npt.NDArray[np.uint8]:
    if picture.mode.startswith("I;16") and found is not None:
        return _convert_gray_16(picture, tags, found)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(ground, picture)
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _convert_gray_16(picture: PIL.Image.Image, tags: Mapping[int, Any], found: ValueRange) -> npt.NDArray[np.uint8]:
    """16-bit gray from black to white; by default divided by 257 (12-bit by 4095/255), rounded."""
    values = np.asarray(picture)
    gray = narrow_integers(values, found)
    if tags.get(_PHOTOMETRIC) == 0:  # zero is white; Pillow inverts only 8-bit gray
        gray = 255 - gray
    if (clear := picture.info.get("transparency")) is not None:  # PNG: one gray value is transparent
        gray[values == clear] = 255
    return np.repeat(gray[:, :, None], 3, axis=2)


def _refuse_misread_planes(picture: PIL.Image.Image) -> None:
    """Refuse uncompressed 16-bit TIFF planes, which Pillow reads as noise without an error."""
    tags = getattr(picture, "tag_v2", {})
    if tags.get(_PLANES) == 2 and tags.get(_BITS, (8,))[0] > 8 and tags.get(_COMPRESSION, 1) == 1:
        raise ImageReadError(
            "an uncompressed 16-bit TIFF with separate colour planes is not supported; save it interleaved"
        )


def _refuse_too_many_scans(picture: PIL.Image.Image, data: bytes) -> None:
    """Refuse JPEG files with so many scans that decoding them would take hours."""
    start_of_scan = b"\xff\xda"
    if picture.format not in ("JPEG", "MPO") or data.count(start_of_scan) <= MAX_SCANS:
        return
    scans, place = 0, 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 4 <= len(data):
        marker, length = struct.unpack_from(">xBH", data, place)
        if marker == 0xD9:  # the end of the picture; the rest does not belong to it
            break
        scans += marker == 0xDA
        has_length = 0xC0 <= marker < 0xD0 or 0xDA <= marker < 0xFF
        place += 2 + length if has_length else 1 + (marker != 0xFF)
    if scans > MAX_SCANS:
        raise ImageReadError(f"the JPEG file has {scans} scans; at most {MAX_SCANS} are decoded")
