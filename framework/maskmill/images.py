"""Images: where one is (`ImageRef`), its pixels (`Image`), and the one decoder.

Every part of maskmill decodes through `decode`, so that a file which opens in one place
opens in all of them, with the same pixels. Pillow does the work.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from .errors import ImageReadError

#: What a dataset takes for an image, lower case.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
#: Images of more pixels are refused before they are decoded (3 bytes each in memory).
MAX_PIXELS = 250_000_000
PACKAGE = "package:"

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
_pillow = threading.Lock()

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

#: Where a package is not installed by its import name.
_INSTALLED_BY = {"skimage": "maskmill[samples]"}


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image is, before it is read.

    Attributes:
        uri: a path, or `package:PACKAGE/PATH` for a file inside an installed package.
        key: POSIX path relative to the dataset's root, with its extension; unique in the
            dataset; names the outputs.
    """

    uri: str
    key: str

    @property
    def path(self) -> Path:
        """The file on this machine.

        Raises:
            ImageReadError: the package of a `package:` uri is not installed.
        """
        return package_path(self.uri) if self.uri.startswith(PACKAGE) else Path(self.uri)

    def stat(self) -> tuple[int, int]:
        """(size in bytes, modification time in nanoseconds) of the file.

        Raises:
            OSError: the file is gone.
            ImageReadError: the package of a `package:` uri is not installed.
        """
        stat = os.stat(self.path if self.uri.startswith(PACKAGE) else self.uri)  # noqa: PTH116 - once an image
        return stat.st_size, stat.st_mtime_ns

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            ImageReadError: the file cannot be read, or is empty.
        """
        try:
            data = self.path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise ImageReadError(f"cannot read {self.uri}: {getattr(error, 'strerror', None) or error}") from None
        if not data:
            raise ImageReadError(f"{self.uri} is empty (0 bytes)")
        return data


@dataclass(frozen=True, eq=False, slots=True)
class Image:
    """One image, upright.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, EXIF orientation applied; read-only, because every stage
            sees the same array.
        ref: where it came from.
        sha256: of the file's bytes, hexadecimal.
    """

    pixels: npt.NDArray[np.uint8]
    ref: ImageRef
    sha256: str

    def __post_init__(self) -> None:
        pixels = self.pixels.view()
        pixels.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @classmethod
    def load(cls, ref: ImageRef, max_pixels: int = MAX_PIXELS) -> Image:
        """Read and decode the file behind `ref`.

        Raises:
            ImageReadError: it cannot be read or decoded; the text names the file and the reason.
        """
        return cls.from_bytes(ref.read(), ref, max_pixels)

    @classmethod
    def from_bytes(cls, data: bytes, ref: ImageRef, max_pixels: int = MAX_PIXELS) -> Image:
        """Decode the bytes of an image file.

        Raises:
            ImageReadError: they cannot be decoded; the text names `ref` and the reason.
        """
        try:
            pixels = decode(data, max_pixels)
        except ImageReadError as error:
            raise ImageReadError(f"{ref.uri}: {error}") from None
        return cls(pixels, ref, hashlib.sha256(data).hexdigest())

    @classmethod
    def from_array(cls, pixels: npt.NDArray[np.uint8], key: str = "array") -> Image:
        """An image that is already in memory: uint8 (H, W, 3) RGB.

        Raises:
            ValueError: another shape or dtype.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}")
        pixels = np.ascontiguousarray(pixels)
        return cls(pixels, ImageRef(key, key), hashlib.sha256(pixels.tobytes()).hexdigest())


def package_path(uri: str) -> Path:
    """The file or folder behind `package:PACKAGE/PATH`.

    Raises:
        ImageReadError: the package is not installed, or the path leaves it.
    """
    package, _, inside = uri.removeprefix(PACKAGE).partition("/")
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except ValueError:  # a module without a spec, such as __main__
        spec = None
    if spec is None or not spec.submodule_search_locations:
        what = _INSTALLED_BY.get(package)
        hint = f' (pip install "{what}")' if what else ""
        raise ImageReadError(f"{uri}: the package {package!r} is not installed{hint}")
    parts = inside.replace("\\", "/").split("/")
    if ".." in parts or inside.startswith("/") or ":" in parts[0]:
        raise ImageReadError(f"{uri}: a path inside a package is relative and has no '..'")
    places = [Path(folder, inside) for folder in spec.submodule_search_locations]
    return next((place for place in places if place.exists()), places[0])


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
        picture = _open(data)
        width, height = picture.size
        if width * height > max_pixels:
            raise ImageReadError(
                f"{width}×{height} is {width * height / 1e6:.0f} million pixels; at most"
                f" {max_pixels / 1e6:.0f} million are decoded (run: {{max_pixels: ...}} raises the limit)"
            )
        try:
            _refuse_garbled(picture)
            PIL.Image.MAX_IMAGE_PIXELS = max_pixels  # tiles and frames may be larger than the header said
            picture.load()
            return np.ascontiguousarray(_rgb(_upright(picture)), dtype=np.uint8)
        except ImageReadError:
            raise
        except MemoryError:
            raise ImageReadError(f"not enough memory to decode {width}×{height} pixels") from None
        except Exception as error:  # damaged files raise nearly anything
            raise ImageReadError(f"damaged or truncated {picture.format} file: {error}") from None


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


def _open(data: bytes) -> PIL.Image.Image:
    try:
        return PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
    except PIL.UnidentifiedImageError:
        for name in _FORMATS:  # the signature may be right and the rest unknown to Pillow
            accept = PIL.Image.OPEN[name][1]
            if accept is not None and accept(data[:16]):
                raise ImageReadError(f"a {name} file whose header is damaged or of an unsupported kind") from None
        raise ImageReadError("not a JPEG, PNG, BMP, TIFF, WebP or GIF image") from None
    except Exception as error:
        raise ImageReadError(f"not a readable image: {error}") from None


def _upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    # Not ImageOps.exif_transpose: it rewrites the metadata too, and fails where they are odd.
    try:
        method = _UPRIGHT.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # unreadable EXIF says nothing about orientation
        return picture
    return picture if method is None else picture.transpose(method)


def _rgb(picture: PIL.Image.Image) -> npt.NDArray[Any]:
    if picture.mode.startswith("I;16"):
        return _from_gray_16(picture)
    if picture.mode in ("I", "F"):
        raise ImageReadError(
            "pixels of floating-point, signed or 32-bit type have no fixed range; convert the image to 8 or 16 bits"
        )
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(ground, picture)
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _from_gray_16(picture: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """16-bit gray divided by 257 (12-bit by 4095/255), rounded."""
    tags = getattr(picture, "tag_v2", {})
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
