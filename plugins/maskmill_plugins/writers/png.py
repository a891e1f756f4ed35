"""png: masks as PNG files, one per mask or one indexed map per image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskmill import Artifact, Image, ImageError, ImageResult, Mask, Problem, Writer, colors, hookimpl, save
from maskmill.files import safe_path
from maskmill.plugins.entries import Entries
from maskmill_plugins._shared.drawing.pixels import encode_png
from maskmill_plugins._shared.export.file_names import name_image_file
from maskmill_plugins._shared.export.mask_map import make_mask_map, measure_kept, paint_mask, summarize_iou
from maskmill_plugins._shared.export.mask_table import BY_MEANING, By, list_masks, name_mask_file, write_mask_table


class Png(Writer):
    """Masks as PNG files of the image's size.

    `masks`: one file per mask, `a_jpg/000_<label>.png` for `a.jpg`, grayscale, 255 on the object and 0 elsewhere.

    `indexed`: one file per image, `<key>.png`; a pixel's value is 1 + the number of its mask, 0 is
    background. Where masks overlap, the smaller one wins, and the resulting `iou` is noted. With up to
    255 masks the file has 8 bits and a palette, with more 16 bits. Images without masks also get a file,
    which is all background.

    Numbers count the kept masks of an image, in the backend's order. `masks.csv` lists file, key, number
    (`index`), label and score of each mask.
    """

    needs_pixels: ClassVar[bool] = False
    version: ClassVar[int] = 2

    layout: Literal["masks", "indexed"] = Field(
        "masks", description="`masks`: one file per mask; `indexed`: one file per image, with a number for each mask"
    )

    by: By = Field("image", description=f"for `masks`: {BY_MEANING}")

    def check(self) -> list[Problem]:
        """An indexed map belongs to no class."""
        if self.layout == "indexed" and self.by == "class":
            return [Problem("by: class is for layout: masks only")]
        return []

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the mask files of this image.

        Raises:
            ImageError: there are more masks than an indexed map can hold.
        """
        if self.layout == "indexed":
            numbers = _make_map(result.kept, result.size or image.size)
            if measured := summarize_iou(measure_kept(numbers, result.kept)):
                self.note("iou", measured)
            return [save(folder, name_image_file(result.key), _encode_indexed(numbers), ".png")]
        return [
            save(folder, name_mask_file(self.by, result.key, number, mask), _encode_binary(mask))
            for number, mask in enumerate(result.kept)
        ]

    def make_entry(self, result: ImageResult) -> bytes:
        """The rows of `masks.csv`."""
        return list_masks(result, self._find_file)

    def finish_entries(self, entries: Entries, folder: Path) -> list[Artifact]:
        """Write `masks.csv`."""
        return [write_mask_table(entries, folder)]

    def _find_file(self, result: ImageResult, number: int, mask: Mask) -> str:
        if self.layout == "indexed":
            return safe_path(name_image_file(result.key), ".png")
        return safe_path(name_mask_file(self.by, result.key, number, mask))


def _encode_binary(mask: Mask) -> bytes:
    picture = np.zeros(mask.size, np.uint8)
    paint_mask(picture, mask, 255)
    return encode_png(picture, flat=True)


def _make_map(masks: Sequence[Mask], size: tuple[int, int]) -> npt.NDArray[Any]:
    if len(masks) > 65535:
        raise ImageError(f"an indexed map holds at most 65535 masks, not {len(masks)}; use layout: masks, or a filter")
    return make_mask_map(masks, size, np.uint8 if len(masks) < 256 else np.uint16)


def _encode_indexed(numbers: npt.NDArray[Any]) -> bytes:
    tones = [(0, 0, 0), *(colors.nth(number) for number in range(255))]
    palette = [value for tone in tones for value in tone] if numbers.dtype == np.uint8 else None
    return encode_png(numbers, flat=True, palette=palette)


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `png`."""
    register("png", Png)
