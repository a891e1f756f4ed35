"""cutout: the objects, cut out of the image, on a transparent background."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask
from pydantic import Field

from maskmill import Artifact, Image, ImageResult, Mask, Problem, Writer, hookimpl, save
from maskmill.files import safe_path
from maskmill_plugins._shared.drawing.pixels import crop_mask, encode_png
from maskmill_plugins._shared.export.classes import UNLABELLED
from maskmill_plugins._shared.export.file_names import name_class_file, name_image_file, name_object_file
from maskmill_plugins._shared.export.mask_table import BY_MEANING, By, write_mask_table


class Cutout(Writer):
    """RGBA PNG files: the object is opaque, everything else transparent (and black, so that nothing shows through).

    `per: object` writes `a_jpg/000_<label>.png` for each mask of `a.jpg`, `per: image` one `<key>.png` with
    all masks. Images without masks get no file. `masks.csv` lists file, key, number (`index`), label and score
    of each mask.
    """

    version: ClassVar[int] = 2

    per: Literal["object", "image"] = Field(
        "object", description="`object`: one file per mask; `image`: one file with all masks of the image"
    )
    crop: Literal["tight", "frame"] = Field(
        "tight",
        description="`tight`: cropped to the object; `frame`: the size of the image, object in its position",
    )
    by: By = Field("image", description=f"for `per: object`: {BY_MEANING}")
    margin: int = Field(0, ge=0, description="transparent pixels around a tight crop, within the image")

    def check(self) -> list[Problem]:
        """A file of all objects belongs to no class."""
        if self.per == "image" and self.by == "class":
            return [Problem("by: class is for per: object only")]
        return []

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the cut-outs of this image."""
        if self.per == "object":
            return [
                save(folder, self._name(result.key, number, mask), data)
                for number, mask, data in self._objects(image, result.kept)
            ]
        together = _union(result.kept) if result.kept else None
        return [
            save(folder, name_image_file(result.key), data, ".png")
            for _, _, data in self._objects(image, [together] if together else [])
        ]

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write `masks.csv`."""
        return [write_mask_table(results, folder, self._find_file)]

    def _name(self, key: str, number: int, mask: Mask) -> str:
        if self.by == "class":
            return name_class_file(key, number, mask.label or UNLABELLED, ".png")
        return name_object_file(key, number, mask.label, ".png")

    def _find_file(self, result: ImageResult, number: int, mask: Mask) -> str:
        if not mask.area:
            return ""
        if self.per == "image":
            return safe_path(name_image_file(result.key), ".png")
        return safe_path(self._name(result.key, number, mask))

    def _objects(self, image: Image, masks: Sequence[Mask]) -> Iterator[tuple[int, Mask, bytes]]:
        for number, mask in enumerate(masks):
            if (crop := crop_mask(mask)) is not None:
                yield number, mask, encode_png(self._cut(image.pixels, *crop))

    def _cut(
        self, image: npt.NDArray[np.uint8], pixels: npt.NDArray[np.bool_], x: int, y: int
    ) -> npt.NDArray[np.uint8]:
        """RGBA uint8 of the object whose mask crop `pixels` has its top-left corner at (x, y)."""
        height, width = image.shape[:2]
        rows, columns = pixels.shape
        left, top, right, bottom = 0, 0, width, height
        if self.crop == "tight":
            left, top = max(0, x - self.margin), max(0, y - self.margin)
            right, bottom = min(width, x + columns + self.margin), min(height, y + rows + self.margin)
        rgba = np.zeros((bottom - top, right - left, 4), np.uint8)
        inside = rgba[y - top : y - top + rows, x - left : x - left + columns]
        inside[:, :, :3] = image[y : y + rows, x : x + columns]
        inside[:, :, 3] = 255
        inside[~pixels] = 0
        return rgba


def _union(masks: Sequence[Mask]) -> Mask:
    merged = coco_mask.merge([mask.rle for mask in masks])
    return Mask(masks[0].size, bytes(merged["counts"]).decode("ascii"))


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `cutout`."""
    register("cutout", Cutout)
