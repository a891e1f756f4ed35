"""The image files themselves, beside their annotations, so that a dataset can be moved as one folder."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

from maskmill import Artifact, Image, ImageError, ImageReadError, ImageResult
from maskmill.decoding.bit_depth import DEFAULT, Conversion
from maskmill.decoding.decoder import MAX_PIXELS, find_orientation
from maskmill.decoding.formats import SUFFIXES
from maskmill.files import TEMPORARY_PREFIX, replace
from maskmill_plugins._shared.drawing.pixels import encode_jpeg, encode_png

from .file_names import Folders, image_path, split_suffix
from .output_files import save_as

Images = Literal["none", "link", "copy", "upright"]
IMAGES_MEANING = (
    "`none`: the images stay where they are; `link`: hard links to them, or copies where that is impossible; `copy`:"
    " copies; `upright`: copies, but pictures that EXIF turns are stored upright (JPEG of quality 95), and formats"
    " other than JPEG, PNG and BMP become PNG, for readers that ignore EXIF or cannot open the format"
)
#: Suffixes that `upright` keeps -> how such a file begins.
_KEPT = {".jpg": b"\xff\xd8", ".jpeg": b"\xff\xd8", ".png": b"\x89PNG", ".bmp": b"BM"}
_QUALITY = 95


def image_suffix(key: str, images: Images) -> str:
    """The suffix of the file of an image; "" if its key has none that says what it is."""
    suffix = split_suffix(key.rpartition("/")[2])[1]
    if images == "upright" and suffix.lower() not in _KEPT:
        return ".png"
    return suffix if suffix.lower() in SUFFIXES else ""


def picture_path(key: str, folders: Folders, images: Images) -> str:
    """The path of an image whose annotations name it with its suffix; the key itself if it stays where it is."""
    if images == "none" and folders == "nested":
        return key
    path = image_path(key, folders)
    folder, slash, name = path.rpartition("/")
    stem, suffix = split_suffix(name)
    if images == "upright" and suffix.lower() not in _KEPT:
        return f"{folder}{slash}{stem}_{suffix[1:]}.png"
    return path


def save_image(image: Image, result: ImageResult, folder: Path, path: str, images: Images) -> Artifact:
    """Copy or link the file of an image to `path` below `folder`.

    Raises:
        ImageError: the file has changed since the masks were made.
        ImageReadError: it cannot be read.
    """
    ref = image.ref
    if ref.uri == ref.key and not ref.is_remote and not ref.path.exists():  # an export that does not know where it is
        raise ImageReadError(f"not found; name the folder that contains it as {ref.key} with --images FOLDER")
    data = ref.read()
    if hashlib.sha256(data).hexdigest() != image.sha256:
        raise ImageError(f"{image.ref.shown} has changed since its masks were made: run the pipeline again")
    if images == "link" and not image.ref.is_remote and _try_link(image.ref.path, folder / path):
        return Artifact(path, image.sha256, len(data))
    return save_as(folder, path, _turn_upright(data, image, result) if images == "upright" else data)


def _turn_upright(data: bytes, image: Image, result: ImageResult) -> bytes:
    """The file as it is if it is upright and of a common format, otherwise its pixels as the masks were made on."""
    suffix = split_suffix(image.ref.key.rpartition("/")[2])[1].lower()
    if suffix in _KEPT and data.startswith(_KEPT[suffix]) and find_orientation(data) in (None, 1):
        return data
    how = image.conversion
    if how == DEFAULT:  # in an export the image itself does not know
        how = Conversion.from_json(result.provenance.get("images"))
    limit = max(MAX_PIXELS, image.height * image.width)
    pixels = Image.from_bytes(data, image.ref, limit, how).pixels
    return encode_jpeg(pixels, _QUALITY) if suffix in (".jpg", ".jpeg") else encode_png(pixels)


def _try_link(source: Path, target: Path) -> bool:
    """Make `target` a hard link to `source`; False if the file system does not support it or they are on two disks."""
    temporary = target.with_name(f"{TEMPORARY_PREFIX}link-{target.name}"[:200])
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if target.exists() and target.samefile(source):  # renaming a link to a link of the same file does nothing
            return True
        temporary.unlink(missing_ok=True)
        os.link(source.resolve(), temporary)
        replace(temporary, target)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        return False
    return True
