"""labelstudio: tasks to import into Label Studio, with masks as brush regions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskmill import Artifact, ImageResult, Mask, Writer, hookimpl
from maskmill.files import atomic_path
from maskmill.plugins.entries import Entries
from maskmill_plugins._shared.export.classes import UNLABELLED
from maskmill_plugins._shared.export.output_files import describe_file, save_as

NAME = "tasks.json"
CONFIG = "config.xml"
_SIZES = (3, 4, 8, 16)  # bits for the length of a run
_CHANNELS = 4


class LabelStudio(Writer):
    """`tasks.json`, to import into Label Studio, and `config.xml`, the matching labelling interface.

    Each mask is a brush region in Label Studio's run-length encoding: holes, parts and overlaps are kept
    exactly. Images without masks are tasks without regions. Image files are not copied: Label Studio
    loads them from `url` followed by the percent-encoded key.
    """

    needs_pixels: ClassVar[bool] = False

    kind: Literal["predictions", "annotations"] = Field(
        "predictions", description="`predictions`: suggestions to review; `annotations`: finished work"
    )
    url: str = Field(
        "/data/local-files/?d=", description="prefix of the key in an image's address; the default is for local storage"
    )

    def make_entry(self, result: ImageResult) -> bytes:
        """The labels of the image in one line, its task in another."""
        labels = sorted({mask.label or UNLABELLED for mask in result.kept})
        return "\n".join(map(_dump, (labels, self._task(result)))).encode()

    def finish_entries(self, entries: Entries, folder: Path) -> list[Artifact]:
        """Write both files, the tasks incrementally."""
        labels: set[str] = set()
        with atomic_path(folder / NAME) as unfinished, unfinished.open("w", encoding="ascii", newline="\n") as out:
            out.write("[")
            for number, entry in enumerate(entries.read(NAME)):
                found, task = entry.data.decode().split("\n")
                labels.update(json.loads(found))
                out.write(f"{',' if number else ''}\n{task}")
            out.write("]\n")
        return [describe_file(folder, NAME), save_as(folder, CONFIG, _config(sorted(labels)))]

    def _task(self, result: ImageResult) -> dict[str, Any]:
        regions = [_region(number, mask) for number, mask in enumerate(result.kept) if mask.area]
        about: dict[str, Any] = {"result": regions}
        if self.kind == "predictions":
            origin = result.provenance
            about["model_version"] = str(origin.get("model") or origin.get("backend") or "maskmill")
        key = quote(result.key, errors="surrogateescape")
        return {"data": {"image": f"{self.url}{key}", "key": result.key}, self.kind: [about]}


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _region(number: int, mask: Mask) -> dict[str, Any]:
    height, width = mask.size
    region = {
        "id": f"mask-{number}",
        "type": "brushlabels",
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "format": "rle",
            "rle": encode_rle(mask.array),
            "brushlabels": [mask.label or UNLABELLED],
        },
    }
    if mask.score is not None and math.isfinite(mask.score):
        region["score"] = mask.score
    return region


def encode_rle(pixels: npt.NDArray[np.bool_]) -> list[int]:
    """A mask in Label Studio's run-length code, whose own encoder needs Pandas and NLTK and is slow.

    It is thi.ng's `rle-pack` over the bytes of an RGBA picture, all 255 on the mask and 0 elsewhere.

    Reference: https://github.com/thi-ng/umbrella/blob/develop/packages/rle-pack/src/index.ts

    Args:
        pixels: bool (H, W), read row by row.

    Returns:
        the bytes of the code, 0..255.
    """
    flat = pixels.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.append(starts, flat.size)) * _CHANNELS
    head = f"{flat.size * _CHANNELS:032b}{8 - 1:05b}" + "".join(f"{size - 1:04b}" for size in _SIZES)
    runs = (_encode_run(int(length), bool(flat[start])) for start, length in zip(starts, lengths, strict=True))
    bits = head + "".join(runs)
    bits += "0" * (-len(bits) % 8)
    return list(int(bits, 2).to_bytes(len(bits) // 8))


def _encode_run(length: int, value: bool) -> str:
    """The bits of a run: a 1, the number of the size, the length minus 1 in that size, the value; split if long."""
    word = "11111111" if value else "00000000"
    longest = 1 << _SIZES[-1]
    pieces, rest = divmod(length, longest)
    bits = f"1{len(_SIZES) - 1:02b}{longest - 1:0{_SIZES[-1]}b}{word}" * pieces
    if rest:
        number = next(number for number, size in enumerate(_SIZES) if rest <= 1 << size)
        bits += f"1{number:02b}{rest - 1:0{_SIZES[number]}b}{word}"
    return bits


def _config(labels: list[str]) -> bytes:
    """The labelling interface: one image, one brush per label."""
    lines = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    text = (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{lines}  </BrushLabels>\n</View>\n'
    )
    return text.encode("utf-8", "replace")


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `labelstudio`."""
    register("labelstudio", LabelStudio)
