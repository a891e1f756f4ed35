"""Kinds of image files: those that are read, those that need a package more, and those that only look like images."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Mapping
from functools import cache

import PIL.features
import PIL.Image

from ..errors import ImageReadError
from ..wording import count_noun

#: Endings of the image files that maskmill reads, lower case; `readable_suffixes` leaves out what cannot be read here.
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".heic", ".heif", ".hif"}
)
_HEIF = frozenset({".heic", ".heif", ".hif"})
_RAW = frozenset(
    {".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"}
    | {".srw", ".3fr", ".iiq", ".x3f", ".kdc", ".mrw", ".erf"}
)
#: Endings of images that are never read: a folder's are counted, and named instead of being skipped in silence.
UNSUPPORTED = _RAW | {
    *(".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".jxr", ".jfif", ".psd", ".exr", ".hdr", ".tga", ".svg", ".ico"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".dcm", ".dicom", ".nii", ".czi", ".nd2", ".lif", ".svs", ".ndpi", ".mrxs"),
}
_INSTALL_HEIF = 'pip install "maskmill[heic]"'
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
#: First bytes of files that are not read -> what they are.
_SIGNATURES = {
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"\x76\x2f\x31\x01": "OpenEXR",
    b"FUJIFILMCCD-RAW": "camera raw (RAF)",
}
_CAMERA_RAW = "a camera raw file; develop it to a TIFF, PNG or JPEG file first"
_DNG_VERSION, _SUB_FILES, _SUBFILE_TYPE, _REDUCED = 50706, 330, 254, 1  # TIFF tags; the bit of a preview


@cache
def reads_heif() -> bool:
    """Whether the package that reads HEIF files is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


@cache
def readable_suffixes() -> frozenset[str]:
    """The endings of `SUFFIXES` that can be read here."""
    missing = set() if reads_heif() else set(_HEIF)
    if not PIL.features.check("avif"):
        missing.add(".avif")
    return SUFFIXES - missing


@cache
def left_out_suffixes() -> frozenset[str]:
    """The endings of files that look like images and cannot be read here."""
    return UNSUPPORTED | (SUFFIXES - readable_suffixes())


def describe_left_out(counts: Mapping[str, int], complete: bool = True) -> str:
    """A line about the files of a folder that look like images and were not listed, and what to do; "" if none.

    Args:
        counts: files by ending.
        complete: whether the whole dataset was listed.
    """
    total = sum(counts.values())
    if not total:
        return ""
    names = ", ".join(sorted(counts, key=lambda ending: (-counts[ending], ending)))
    hints = []
    if counts.keys() & _HEIF:
        hints.append(_INSTALL_HEIF)
    if ".avif" in counts:
        hints.append("pip install --upgrade pillow")
    if counts.keys() - _HEIF - {".avif"}:
        others = ", ".join(sorted(counts.keys() - _HEIF - {".avif"})) if hints else "them"
        hints.append(f"convert {others} to PNG, TIFF or JPEG files")
    found = f"{count_noun(total, 'file')} left out{'' if complete else ' so far'}"
    return f"{found}: {names}; {'; '.join(hints)}"


def open_heif(data: bytes) -> PIL.Image.Image | None:
    """The picture in a HEIF file, not decoded; None for other files.

    Raises:
        ImageReadError: the package that reads it is missing, or the file is damaged.
    """
    brands = _read_brands(data)
    if not brands & _HEIF_BRANDS or brands & _AVIF_BRANDS:
        return None
    if not reads_heif():
        raise ImageReadError(f"a HEIC file, which needs one package more: {_INSTALL_HEIF}")
    plugin = importlib.import_module("pillow_heif.as_plugin")
    try:
        picture: PIL.Image.Image = plugin.HeifImageFile(io.BytesIO(data))
    except Exception as error:
        raise ImageReadError(f"a damaged or truncated HEIC file: {error}") from None
    return picture


def heif_orientation(picture: PIL.Image.Image, data: bytes) -> int:
    """The EXIF orientation that is still to be applied to a HEIF picture.

    The file's own rotation and mirroring are applied while decoding, and EXIF repeats them; only in a file
    without any does EXIF say something new.
    """
    end = data.find(b"mdat")
    if any(box in data[: end if end > 0 else None] for box in (b"irot", b"imir")):
        return 1
    return int(picture.info.get("original_orientation") or 1)


def refuse_unsupported(data: bytes) -> None:
    """Refuse files whose first bytes show that they are of a kind that is not read.

    Raises:
        ImageReadError: names the kind.
    """
    if b"crx " in _read_brands(data) or (data[:2] in (b"II", b"MM") and data[8:10] == b"CR"):
        raise ImageReadError(_CAMERA_RAW)
    for start, name in _SIGNATURES.items():
        if data.startswith(start):
            raise ImageReadError(f"a {name} file, which is not supported; convert it to a PNG, TIFF or JPEG file")


def refuse_camera_raw(tags: Mapping[int, object]) -> None:
    """Refuse TIFF files whose picture is a preview of what a camera recorded.

    Raises:
        ImageReadError: it is one.
    """
    kind = tags.get(_SUBFILE_TYPE, 0)
    if _DNG_VERSION in tags or (isinstance(kind, int) and kind & _REDUCED and _SUB_FILES in tags):
        raise ImageReadError(_CAMERA_RAW)


def _read_brands(data: bytes) -> set[bytes]:
    """The brands of a file of the ISO base media format, such as HEIF and AVIF; none for other files."""
    if data[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(data[:4], "big"), 512)
    return {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
