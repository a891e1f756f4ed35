"""labelstudio: tasks to import into Label Studio, masks as its brush strokes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from pydantic import Field

from maskmill import Artifact, ImageResult, Mask, Writer, hookimpl
from maskmill.files import atomic_path
from maskmill_plugins._shared.export import rlepack
from maskmill_plugins._shared.export.classes import UNLABELLED
from maskmill_plugins._shared.export.stems import made, save_as

NAME = "tasks.json"
CONFIG = "config.xml"


class LabelStudio(Writer):
    """`tasks.json`, to import into Label Studio, and `config.xml`, the labelling interface that goes with it.

    Each mask is a brush region, run-length encoded as Label Studio does it: holes, parts and overlaps
    come back exactly. Images without masks are tasks without regions. Image files are not copied:
    Label Studio finds them under `url` followed by the key, percent-encoded.
    """

    needs_pixels: ClassVar[bool] = False

    kind: Literal["predictions", "annotations"] = Field(
        "predictions", description="`predictions`: suggestions to look through; `annotations`: counted as done"
    )
    url: str = Field(
        "/data/local-files/?d=", description="what stands before the key in an image's address, here of local storage"
    )

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write both files; the tasks grow on disk."""
        labels: set[str] = set()
        with atomic_path(folder / NAME) as unfinished, unfinished.open("w", encoding="ascii", newline="\n") as out:
            out.write("[")
            for number, result in enumerate(results):
                labels.update(mask.label or UNLABELLED for mask in result.kept)
                task = json.dumps(self._task(result), separators=(",", ":"), allow_nan=False)
                out.write(f"{',' if number else ''}\n{task}")
            out.write("]\n")
        return [made(folder, NAME), save_as(folder, CONFIG, _config(sorted(labels)))]

    def _task(self, result: ImageResult) -> dict[str, Any]:
        regions = [_region(number, mask) for number, mask in enumerate(result.kept) if mask.area]
        about: dict[str, Any] = {"result": regions}
        if self.kind == "predictions":
            about["model_version"] = str(
                result.provenance.get("model") or result.provenance.get("backend") or "maskmill"
            )
        key = quote(result.key, errors="surrogateescape")
        return {"data": {"image": f"{self.url}{key}", "key": result.key}, self.kind: [about]}


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
            "rle": rlepack.encode(mask.array),
            "brushlabels": [mask.label or UNLABELLED],
        },
    }
    if mask.score is not None and math.isfinite(mask.score):
        region["score"] = mask.score
    return region


def _config(labels: list[str]) -> bytes:
    """The labelling interface: one image, one brush a label."""
    lines = "".join(f"    <Label value={quoteattr(label)}/>\n" for label in labels)
    text = (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <BrushLabels name="label" toName="image">\n{lines}  </BrushLabels>\n</View>\n'
    )
    return text.encode("utf-8", "replace")


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Offer `labelstudio`."""
    register("labelstudio", LabelStudio)
