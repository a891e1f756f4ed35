"""png: masks as PNG files, one a mask or one indexed map an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import PIL.Image
from pydantic import Field

from maskmill import Artifact, Image, ImageError, ImageResult, Mask, Writer, hookimpl, save
from maskmill_plugins._shared import colors, pictures
from maskmill_plugins._shared.naming import image_file, object_file


class Png(Writer):
    """Masks as PNG files of the image's size.

    `masks`: one file a mask, `<key>/000_<label>.png`, gray, 255 on the object and 0 off it.

    `indexed`: one file an image, `<key>.png`; a pixel's value is 1 + the number of its mask, 0 is
    background. Where masks overlap the smaller one wins. Up to 255 masks the file has 8 bits and
    a palette, beyond that 16 bits. Images without masks get a file too, all background.

    Numbers count the kept masks of an image, in the backend's order.
    """

    needs_pixels: ClassVar[bool] = False

    layout: Literal["masks", "indexed"] = Field(
        "masks", description="`masks`: one file a mask; `indexed`: one file an image, a number for each mask"
    )

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the mask files of this image.

        Raises:
            ImageError: more masks than an indexed map can number.
        """
        if self.layout == "indexed":
            data = _indexed(result.kept, result.size or image.size)
            return [save(folder, image_file(result.key), data, ".png")]
        return [
            save(folder, object_file(result.key, number, mask.label, ".png"), _binary(mask))
            for number, mask in enumerate(result.kept)
        ]


def _binary(mask: Mask) -> bytes:
    picture = np.zeros(mask.size, np.uint8)
    _paint(picture, mask, 255)
    return pictures.png(picture, flat=True)


def _indexed(masks: Sequence[Mask], size: tuple[int, int]) -> bytes:
    if len(masks) > 65535:
        raise ImageError(f"an indexed map numbers 65535 masks, not {len(masks)}; use layout: masks, or a filter")
    numbers = np.zeros(size, np.uint8 if len(masks) < 256 else np.uint16)
    order = sorted(enumerate(masks, start=1), key=lambda item: -item[1].area)
    for number, mask in order:
        _paint(numbers, mask, number)
    picture = PIL.Image.fromarray(numbers)
    if numbers.dtype == np.uint8:
        tones = [(0, 0, 0), *(colors.nth(number) for number in range(255))]
        picture.putpalette([value for tone in tones for value in tone])
    return pictures.png(picture, flat=True)


def _paint(picture: npt.NDArray[Any], mask: Mask, value: int) -> None:
    if (crop := pictures.crop_of(mask)) is not None:
        pixels, x, y = crop
        rows, columns = pixels.shape
        picture[y : y + rows, x : x + columns][pixels] = value


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Offer `png`."""
    register("png", Png)
