"""Downloadable files of one image's masks, made by the same writers as in a batch run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import quote

from fastapi.responses import Response

from maskmill import Image, ImageRef, ImageResult, Mask, Prompt, Writer
from maskmill.files import safe_part
from maskmill.plugins.registry import Registry

from ..server.errors import ApiError
from .pages import GUARDED
from .wire import FileFormat

#: Writer and its options, the file name's ending, the media type.
_KINDS: Mapping[FileFormat, tuple[dict[str, Any], str, str]] = {
    "mask": ({"use": "png", "layout": "indexed"}, ".mask.png", "image/png"),
    "cutout": ({"use": "cutout", "per": "image", "crop": "frame"}, ".cutout.png", "image/png"),
    "coco": ({"use": "coco"}, ".coco.json", "application/json"),
}


def make_download(
    image: Image, key: str, prompts: Sequence[Prompt], masks: Sequence[Mask], kind: FileFormat
) -> Response:
    """The file as a response that the browser saves.

    Args:
        image: with pixels.
        key: of the image; gives the file its name.
        prompts: of the image.
        masks: of these prompts.
        kind: the format.

    Raises:
        ApiError: there is no object to cut out.
    """
    options, ending, media_type = _KINDS[kind]
    numbered = tuple(replace(mask, index=number) for number, mask in enumerate(masks))
    image = replace(image, ref=ImageRef(key, key))
    result = ImageResult.done_or_empty(key, image.size, image.sha256, prompts, numbered)
    writer = cast(Writer, Registry.load().build("writer", options, Path.cwd()))
    with tempfile.TemporaryDirectory(prefix="maskmill-") as name:
        folder = Path(name)
        writer.open()
        made = [*writer.write(image, result, folder), *writer.finish(iter([result]), folder)]
        writer.close()
        wanted = [file for file in made if file.path.endswith(PurePosixPath(ending).suffix)]  # not a table beside it
        if not wanted:
            raise ApiError("not-found", f"{key}: there is no object to cut out")
        data = (folder / wanted[0].path).read_bytes()
    return Response(data, media_type=media_type, headers={**GUARDED, "Content-Disposition": _disposition(key, ending)})


def _disposition(key: str, ending: str) -> str:
    """The header by RFC 6266: a Unicode name, and an ASCII name for old clients."""
    name = safe_part(PurePosixPath(key).stem, ending)
    plain = "".join(letter if (letter.isalnum() and letter.isascii()) or letter in "-_." else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"
