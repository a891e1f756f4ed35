"""labelstudio: tasks to import into Label Studio, with masks as brush regions or polygons."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskmill import Artifact, Image, ImageResult, Mask, Problem, Writer, hookimpl
from maskmill.files import atomic_path
from maskmill.plugins.entries import Entries
from maskmill_plugins._shared.drawing.pixels import check_cv2
from maskmill_plugins._shared.drawing.polygons import OUTLINE_MEANING, Outline, polygon_iou, to_polygons
from maskmill_plugins._shared.export.classes import UNLABELLED
from maskmill_plugins._shared.export.mask_map import summarize_iou
from maskmill_plugins._shared.export.output_files import describe_file, save_as

NAME = "tasks.json"
CONFIG = "config.xml"
_SIZES = (3, 4, 8, 16)  # bits for the length of a run
_CHANNELS = 4
_DIGITS = 5  # of a percent: a hundredth of a pixel in an image of 10,000 pixels is 0.0001


class LabelStudio(Writer):
    """`tasks.json`, to import into Label Studio, and `config.xml`, the matching labelling interface.

    `shapes: brush`: each mask is a brush region in Label Studio's run-length encoding; holes, parts and overlaps
    are kept exactly. `shapes: polygons` can be edited corner by corner: each part is a polygon, a hole is joined
    with the outline by a bridge of zero width, and the resulting `iou` is noted. Images without masks are tasks
    without regions. Image files are not copied: Label Studio loads them from `url` followed by the
    percent-encoded key.

    Regions have the mask's score, and a prediction has their mean, by which Label Studio can sort tasks.
    """

    needs_pixels: ClassVar[bool] = False
    version: ClassVar[int] = 2

    kind: Literal["predictions", "annotations"] = Field(
        "predictions", description="`predictions`: suggestions to review; `annotations`: finished work"
    )
    url: str = Field(
        "/data/local-files/?d=", description="prefix of the key in an image's address; the default is for local storage"
    )
    shapes: Literal["brush", "polygons"] = Field(
        "brush", description="`brush` keeps every pixel; `polygons` can be edited corner by corner"
    )
    tolerance: float = Field(
        0.75,
        ge=0,
        le=100,
        description="maximum distance of a polygon from the mask's border, in pixels; 0 follows it exactly",
    )
    outline: Outline = Field("edges", description=OUTLINE_MEANING)

    def check(self) -> list[Problem]:
        """OpenCV, which draws the polygons, must load."""
        return check_cv2() if self.shapes == "polygons" else []

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Measure the polygons of this image; `finish` writes everything."""
        if self.shapes == "polygons":
            ious = [polygon_iou(mask, self._polygons(mask), self.outline) for mask in result.kept if mask.area]
            if measured := summarize_iou(ious):
                self.note("iou", measured)
        return []

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
        return [describe_file(folder, NAME), save_as(folder, CONFIG, self._config(sorted(labels)))]

    def _task(self, result: ImageResult) -> dict[str, Any]:
        regions = [region for number, mask in enumerate(result.kept) for region in self._regions(number, mask)]
        about: dict[str, Any] = {"result": regions}
        if self.kind == "predictions":
            origin = result.provenance
            about["model_version"] = str(origin.get("model") or origin.get("backend") or "maskmill")
            if scores := [region["score"] for region in regions if "score" in region]:
                about["score"] = sum(scores) / len(scores)
        key = quote(result.key, errors="surrogateescape")
        return {"data": {"image": f"{self.url}{key}", "key": result.key}, self.kind: [about]}

    def _polygons(self, mask: Mask) -> list[list[float]]:
        return to_polygons(mask, self.tolerance, self.outline, holes="bridge")

    def _regions(self, number: int, mask: Mask) -> Iterator[dict[str, Any]]:
        """The regions of a mask: one brush, or a polygon for each part."""
        if not mask.area:
            return
        label, value = mask.label or UNLABELLED, dict[str, Any]()
        if self.shapes == "brush":
            value = {"format": "rle", "rle": encode_rle(mask.array), "brushlabels": [label]}
            yield _make_region(f"mask-{number}", "brushlabels", mask, value)
            return
        height, width = mask.size
        for part, line in enumerate(self._polygons(mask)):
            percent = np.round(np.reshape(line, (-1, 2)) * 100 / (width, height), _DIGITS)
            value = {"points": percent.tolist(), "closed": True, "polygonlabels": [label]}
            yield _make_region(f"mask-{number}-{part}", "polygonlabels", mask, value)

    def _config(self, labels: list[str]) -> bytes:
        """The labelling interface: one image, one brush or polygon per label."""
        lines = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
        tag = "BrushLabels" if self.shapes == "brush" else "PolygonLabels"
        text = (
            '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
            f'  <{tag} name="label" toName="image">\n{lines}  </{tag}>\n</View>\n'
        )
        return text.encode("utf-8", "replace")


def _make_region(name: str, kind: str, mask: Mask, value: dict[str, Any]) -> dict[str, Any]:
    height, width = mask.size
    region = {
        "id": name,
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }
    if mask.score is not None and math.isfinite(mask.score):
        region["score"] = mask.score
    return region


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


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


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `labelstudio`."""
    register("labelstudio", LabelStudio)
