"""Files of one image's masks, made by the writers that a batch uses."""

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

from ..server.http.problems import ApiError
from .pages import GUARDED
from .wire import Format

#: Writer and its options, the ending of the file's name, its media type.
_KINDS: Mapping[Format, tuple[dict[str, Any], str, str]] = {
    "mask": ({"use": "png", "layout": "indexed"}, ".mask.png", "image/png"),
    "cutout": ({"use": "cutout", "per": "image", "crop": "frame"}, ".cutout.png", "image/png"),
    "coco": ({"use": "coco"}, ".coco.json", "application/json"),
}


def download(image: Image, key: str, prompts: Sequence[Prompt], masks: Sequence[Mask], kind: Format) -> Response:
    """The file as an answer that the browser saves.

    Args:
        image: with pixels.
        key: names the file, and the image within it.
        prompts: what was asked.
        masks: all of this image.
        kind: which file.

    Raises:
        ApiError: a cut-out of nothing.
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
        if not made:
            raise ApiError("not-found", f"{key}: there is no object to cut out")
        data = (folder / made[0].path).read_bytes()
    return Response(data, media_type=media_type, headers={**GUARDED, "Content-Disposition": _named(key, ending)})


def _named(key: str, ending: str) -> str:
    """RFC 6266: a name of any letters, and one for programs that know ASCII only."""
    name = safe_part(PurePosixPath(key).stem, ending)
    plain = "".join(letter if (letter.isalnum() and letter.isascii()) or letter in "-_." else "_" for letter in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"
