"""fiftyone: a dataset directory that FiftyOne loads with its images, with a mask for each object."""

from __future__ import annotations

import base64
import io
import json
import math
import mimetypes
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskmill import Artifact, Image, ImageResult, Mask, Problem, Writer, hookimpl
from maskmill.files import atomic_path
from maskmill_plugins._shared.drawing.pixels import crop_mask
from maskmill_plugins._shared.export.classes import label_of, order_labels
from maskmill_plugins._shared.export.dataset_writer import DatasetWriter
from maskmill_plugins._shared.export.file_names import SHARED_HINT
from maskmill_plugins._shared.export.image_files import IMAGES_MEANING, Images
from maskmill_plugins._shared.export.output_files import LIST, ImageTable, describe_file, save_as

SAMPLES = "samples.json"
ABOUT = "metadata.json"
_FIELD = "segmentations"
_NUDGE = 1e-6  # pixels: FiftyOne cuts corners off to whole pixels, and 28.999 must not become 28


class FiftyOne(DatasetWriter):
    """`data/` with the images, `samples.json` and `metadata.json`, which FiftyOne imports as a `FiftyOneDataset`.

    The field `segmentations` has a detection for each mask: label, box, the pixels inside the box, the score as
    `confidence`. Holes, parts and overlaps are kept exactly. The split is a tag of the sample, and the field
    `key` is the image's key. Images without masks are samples without detections.

    The layout is the one without a version, which every release of FiftyOne reads without a migration.
    """

    version: ClassVar[int] = 1

    images: Images = Field("copy", description=IMAGES_MEANING)

    def check(self) -> list[Problem]:
        """The format consists of images with their labels."""
        problems = [Problem("images: none: FiftyOne needs the images; set copy, link or upright")]
        return (problems if self.images == "none" else []) + super().check()

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Copy the image; `finish` writes the rest.

        Raises:
            ImageError: the image file changed during the run.
            ImageReadError: the image file cannot be read.
        """
        return self.save_picture(image, result, folder, self._image_file(result.key))

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write both files, the samples incrementally.

        Raises:
            OutputError: two images would share a file.
        """
        labels: set[str] = set()
        with ExitStack() as stack:
            table = stack.enter_context(ImageTable(folder, ["split"], ["image"], SHARED_HINT))
            path = stack.enter_context(atomic_path(folder / SAMPLES))
            out = stack.enter_context(path.open("w", encoding="ascii", newline="\n"))
            out.write('{"samples":[')
            for number, result in enumerate(results):
                table.add(result.key, self.find_split(result.key), self._image_file(result.key))
                labels.update(label_of(mask) for mask in result.kept)
                sample = json.dumps(self._describe(result), separators=(",", ":"), allow_nan=False)
                out.write(f"{',' if number else ''}\n{sample}")
            out.write("]}\n")
        about = {"media_type": "image", "info": {"classes": {_FIELD: order_labels((), labels)}}}
        text = json.dumps(about, indent=1).encode("ascii")
        return [describe_file(folder, SAMPLES), describe_file(folder, LIST), save_as(folder, ABOUT, text)]

    def _image_file(self, key: str) -> str:
        return f"data/{self.name_picture(key)}"

    def _describe(self, result: ImageResult) -> dict[str, Any]:
        """The sample of an image."""
        height, width = result.size or (0, 0)
        path = self._image_file(result.key)
        about = {"_cls": "ImageMetadata", "width": width, "height": height}
        if kind := mimetypes.guess_type(path)[0]:
            about["mime_type"] = kind
        found = [entry for mask in result.kept if (entry := _describe_mask(mask)) is not None]
        return {
            "filepath": path,
            "tags": [self.find_split(result.key)],
            "metadata": about,
            "key": result.key,
            _FIELD: {"_cls": "Detections", "detections": found},
        }


def _describe_mask(mask: Mask) -> dict[str, Any] | None:
    """A detection, None for a mask without pixels."""
    crop = crop_mask(mask)
    if crop is None:
        return None
    pixels, x, y = crop
    (rows, columns), (height, width) = pixels.shape, mask.size
    entry: dict[str, Any] = {
        "_cls": "Detection",
        "attributes": {},
        "tags": [],
        "label": label_of(mask),
        "bounding_box": [(x + _NUDGE) / width, (y + _NUDGE) / height, columns / width, rows / height],
        "mask": {"$binary": {"base64": _pack(pixels), "subType": "00"}},
    }
    if mask.score is not None and math.isfinite(mask.score):
        entry["confidence"] = mask.score
    return entry


def _pack(pixels: npt.NDArray[np.bool_]) -> str:
    """A mask as FiftyOne stores arrays: NumPy's file format, compressed."""
    buffer = io.BytesIO()
    np.save(buffer, pixels, allow_pickle=False)
    return base64.b64encode(zlib.compress(buffer.getvalue())).decode("ascii")


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `fiftyone`."""
    register("fiftyone", FiftyOne)
