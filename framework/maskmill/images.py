"""Images: where one is (`ImageRef`), its pixels (`Image`), and the one decoder.

Every part of maskmill decodes through `decode`, so that a file which opens in one place
opens in all of them, with the same pixels. Pillow does the work.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

from .errors import ImageReadError

#: What a dataset takes for an image, lower case.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
#: Images of more pixels are refused before they are decoded (3 bytes each in memory).
MAX_PIXELS = 250_000_000
PACKAGE = "package:"

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF")
_opening = threading.Lock()


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
        """(size in bytes, modification time in nanoseconds) of the file; OSError if it is gone."""
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            ImageReadError: the file cannot be read, or is empty.
        """
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise ImageReadError(f"cannot read {self.uri}: {error.strerror or error}") from None
        if not data:
            raise ImageReadError(f"{self.uri} is empty (0 bytes)")
        return data


@dataclass(frozen=True, eq=False, slots=True)
class Image:
    """One image, upright.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, EXIF orientation applied.
        ref: where it came from.
        sha256: of the file's bytes, hexadecimal.
    """

    pixels: npt.NDArray[np.uint8]
    ref: ImageRef
    sha256: str

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
    """The file behind `package:PACKAGE/PATH`.

    Raises:
        ImageReadError: the package is not installed, or the path leaves it.
    """
    package, _, inside = uri.removeprefix(PACKAGE).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ImageReadError(f"{uri}: the package {package!r} is not installed (pip install {package})")
    if ".." in inside.split("/"):
        raise ImageReadError(f"{uri}: a path inside a package cannot contain '..'")
    return Path(spec.submodule_search_locations[0], inside)


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode an image file's bytes to uint8 (H, W, 3) RGB, upright.

    EXIF orientation is applied; 16-bit gray is divided by 257, without stretching;
    transparency is laid on white; of an animation the first frame is taken.

    Args:
        data: the bytes of a JPEG, PNG, BMP, TIFF, WebP or GIF file.
        max_pixels: larger images are refused, by their header, before decoding.

    Raises:
        ImageReadError: not such an image, truncated, too large, or of a kind without
            a fixed range of values (floating point, signed 32-bit).
    """
    if not data:
        raise ImageReadError("the file is empty (0 bytes)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide
        picture = _open(data)
        width, height = picture.size
        if width * height > max_pixels:
            raise ImageReadError(
                f"{width}×{height} is {width * height / 1e6:.0f} million pixels; at most"
                f" {max_pixels / 1e6:.0f} million are decoded (run: {{max_pixels: ...}} raises the limit)"
            )
        try:
            picture.load()
            return np.ascontiguousarray(_rgb(_upright(picture)), dtype=np.uint8)
        except ImageReadError:
            raise
        except Exception as error:  # damaged files raise nearly anything
            raise ImageReadError(f"damaged or truncated {picture.format} file: {error}") from None


def _open(data: bytes) -> PIL.Image.Image:
    with _opening:  # Pillow's own limit is a global; ours is checked by the caller
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            return PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
        except PIL.UnidentifiedImageError:
            raise ImageReadError("not a JPEG, PNG, BMP, TIFF, WebP or GIF image") from None
        except Exception as error:
            raise ImageReadError(f"not a readable image: {error}") from None
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


def _upright(picture: PIL.Image.Image) -> PIL.Image.Image:
    try:
        return PIL.ImageOps.exif_transpose(picture)
    except Exception:  # unreadable EXIF says nothing about orientation
        return picture


def _rgb(picture: PIL.Image.Image) -> npt.NDArray[Any]:
    if picture.mode.startswith("I"):
        return _from_16_bit(np.asarray(picture))
    if picture.mode == "F":
        raise ImageReadError("floating-point pixels have no fixed range; convert the image to 8 or 16 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(ground, picture)
    return np.asarray(picture.convert("RGB"))


def _from_16_bit(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ImageReadError("pixels beyond 16 bits have no fixed range; convert the image to 8 or 16 bits")
    gray = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)
