"""Images: where one is (`ImageRef`), its pixels (`Image`), and which key a written name means (`find_key`)."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import json
import os
import stat
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import storage
from .decoding.bit_depth import DEFAULT, Conversion, ValueRange
from .decoding.decoder import MAX_PIXELS, decode_with_range
from .display import brief
from .errors import DatasetError, ImageReadError, Problem, nearest_name

PACKAGE = "package:"

#: Whether names that differ only by case are one file on this system.
IGNORES_CASE = sys.platform in ("win32", "darwin")

#: Packages that are not installed under their import name.
_INSTALLED_BY = {"skimage": "maskmill[samples]"}


@dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image is, before it is read.

    Attributes:
        uri: a path, `package:PACKAGE/PATH` for a file inside an installed package, or an address (`maskmill.storage`).
        key: POSIX path relative to the dataset's root, with its extension; unique in the
            dataset; names the outputs.
        state: of an object, (size in bytes, version), as it was listed; None until it is asked for.
    """

    uri: str
    key: str
    state: tuple[int, int] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.state is not None:  # a list, if it comes from JSON
            object.__setattr__(self, "state", (self.state[0], self.state[1]))

    def __repr__(self) -> str:
        return f"ImageRef({brief(self.shown)}, key={brief(self.key)})"

    @property
    def is_remote(self) -> bool:
        """Whether it is no file of this machine, but an object of a bucket or on the web."""
        return storage.is_address(self.uri)

    @property
    def shown(self) -> str:
        """The uri for messages and outputs: an address without a signature."""
        return storage.hide_query(self.uri) if self.is_remote else self.uri

    @property
    def path(self) -> Path:
        """The file on this machine.

        Raises:
            ImageReadError: the package of a `package:` uri is not installed, or it is no file of this machine.
        """
        if self.is_remote:
            raise ImageReadError(f"{self.shown} is no file of this machine")
        return package_path(self.uri) if self.uri.startswith(PACKAGE) else Path(self.uri)

    def stat(self) -> tuple[int, int]:
        """(size in bytes, modification time in nanoseconds) of the file; of an object, a version instead of the time.

        Raises:
            OSError: the file is gone.
            ImageReadError: the package of a `package:` uri is not installed.
        """
        if self.is_remote:
            if self.state is None:
                object.__setattr__(self, "state", storage.stat(self.uri))  # asked once, as those of a listing
            assert self.state is not None, "set above"
            return self.state
        about = os.stat(self.path if self.uri.startswith(PACKAGE) else self.uri)  # noqa: PTH116 - once an image
        return about.st_size, about.st_mtime_ns

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            ImageReadError: the file cannot be read, or is empty.
            Transient: the server that has it is busy.
            StopRun: the server cannot be reached, or refuses access.
        """
        if self.is_remote:
            data = storage.read(self.uri, self.state)
            if not data:
                raise ImageReadError(f"{self.shown} is empty (0 bytes)")
            return data
        size = 0
        try:
            path = self.path
            about = path.stat()
            if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):  # reading one might never end
                raise ImageReadError(f"{self.uri} is a pipe, socket or device, not a file")
            size = about.st_size
            data = path.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise ImageReadError(f"cannot read {self.uri}: {getattr(error, 'strerror', None) or error}") from None
        except MemoryError:
            raise ImageReadError(f"{self.uri}: not enough memory to read its {size} bytes") from None
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
        value_range: of the values in the file if they have more than 8 bits, else None.
        conversion: how the file became these pixels.
    """

    pixels: npt.NDArray[np.uint8]
    ref: ImageRef
    sha256: str
    value_range: ValueRange | None = None
    conversion: Conversion = DEFAULT

    def __post_init__(self) -> None:
        pixels = self.pixels.view()
        pixels.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)

    def __repr__(self) -> str:
        return f"<Image {brief(self.ref.key)}: {self.width}×{self.height} pixels>"

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return int(self.pixels.shape[1])

    @property
    def pixels_id(self) -> str:
        """Identifies the pixels, in caches: the file's sha256, or one of it and of a conversion that changed them."""
        how = self.conversion.to_json()
        if self.value_range is None:
            how.pop("high_bit_depth", None)
        if not how:
            return self.sha256
        return hashlib.sha256(f"{self.sha256} {json.dumps(how, sort_keys=True)}".encode()).hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @classmethod
    def load(cls, ref: ImageRef, max_pixels: int = MAX_PIXELS, conversion: Conversion = DEFAULT) -> Image:
        """Read and decode the file of `ref`.

        Raises:
            ImageReadError: it cannot be read or decoded; the text names the file and the reason.
        """
        return cls.from_bytes(ref.read(), ref, max_pixels, conversion)

    @classmethod
    def from_bytes(
        cls, data: bytes, ref: ImageRef, max_pixels: int = MAX_PIXELS, conversion: Conversion = DEFAULT
    ) -> Image:
        """Decode the bytes of an image file.

        Raises:
            ImageReadError: they cannot be decoded; the text names `ref` and the reason.
        """
        try:
            pixels, value_range = decode_with_range(data, max_pixels, conversion)
        except ImageReadError as error:
            raise ImageReadError(f"{ref.shown}: {error}") from None
        return cls(pixels, ref, hashlib.sha256(data).hexdigest(), value_range, conversion)

    @classmethod
    def from_array(cls, pixels: npt.NDArray[np.uint8], key: str = "array") -> Image:
        """An image from pixels in memory: uint8 (H, W, 3) RGB.

        Raises:
            ValueError: the shape or dtype is another.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}")
        pixels = np.ascontiguousarray(pixels)
        return cls(pixels, ImageRef(key, key), hashlib.sha256(pixels.tobytes()).hexdigest())


def package_path(uri: str) -> Path:
    """The file or folder of `package:PACKAGE/PATH`.

    Raises:
        ImageReadError: the package is not installed, or the path leads outside it.
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


def normalize_key(name: str) -> str:
    """A key or a pattern of keys in composed characters (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def fold_key(name: str, ignore_case: bool | None = None) -> str:
    """What keys of one image have in common: composed characters and, where the system ignores it, no case."""
    folded = normalize_key(name)
    return normalize_key(folded.casefold()) if ignore_case or (ignore_case is None and IGNORES_CASE) else folded


def spellings(key: str) -> list[str]:
    """The key, and the same letters composed (NFC, as most systems write them) and decomposed (NFD, as macOS did)."""
    return list(dict.fromkeys([key, *(unicodedata.normalize(form, key) for form in ("NFC", "NFD"))]))


def find_key(name: str, keys: Iterable[str], ignore_case: bool | None = None) -> str | None:
    """The key that a name means: the same text, or else the one key of the same letters.

    Composed and decomposed letters (NFC, NFD) are the same. A name is no pattern: brackets mean themselves.

    Args:
        name: as somebody wrote it.
        keys: read once, up to the same text.
        ignore_case: take a key that differs by case if none differs by less; None: as the system does.

    Returns:
        The key, None if there is none.

    Raises:
        DatasetError: several keys fit equally well.
    """
    folded = fold_key(name, ignore_case)
    fitting = []
    for key in keys:
        if key == name:
            return key
        if fold_key(key, ignore_case) == folded:
            fitting.append(key)
    return choose_key(name, fitting)


def choose_key(name: str, fitting: Sequence[str]) -> str | None:
    """The one of the keys with the same `fold_key` that a name means; None if there are none.

    Raises:
        DatasetError: several keys fit equally well.
    """
    if name in fitting:
        return name
    wanted = normalize_key(name)
    found = [key for key in fitting if normalize_key(key) == wanted] or list(fitting)
    if len(found) > 1:
        hint = "write it exactly as one of them"
        raise DatasetError(Problem(f"{name!r} matches several images: {', '.join(map(ascii, found))}", hint=hint))
    return found[0] if found else None


def matches_pattern(key: str, pattern: str) -> bool:
    """Whether a pattern of keys (`*`, `?`, `[...]`) fits; as for names, letters may be composed or decomposed."""
    return fnmatch.fnmatchcase(fold_key(key), fold_key(pattern))


def is_pattern(name: str) -> bool:
    """Whether a name has wildcards, and thus means more than itself where no image has it."""
    return bool({"*", "?", "["} & set(name))


class KeySample:
    """The first keys of a dataset, to suggest one for a name that fits none."""

    def __init__(self, most: int = 5_000) -> None:
        self._most = most
        self._keys: list[str] = []

    def add(self, key: str) -> None:
        """Remember a key."""
        if len(self._keys) < self._most:
            self._keys.append(key)

    def suggest(self, name: str) -> str:
        """The name, with the nearest key if there is one."""
        close = nearest_name(name, self._keys)
        return f"{name} (did you mean {close}?)" if close else name
