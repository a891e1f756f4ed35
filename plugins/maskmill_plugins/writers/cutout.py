"""cutout: the objects, cut out of the image, on a transparent, coloured or blurred background."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageColor
from pycocotools import mask as coco_mask
from pydantic import Field, field_validator

from maskmill import Artifact, Image, ImageResult, Mask, Problem, Writer, hookimpl, save
from maskmill.files import safe_path
from maskmill.plugins.entries import Entries
from maskmill.plugins.stage import ONLY_IF_SET
from maskmill_plugins._shared.drawing.backdrop import Pixels, Sides, Window, blur_around, soften_edge
from maskmill_plugins._shared.drawing.pixels import crop_mask, encode_png, load_cv2
from maskmill_plugins._shared.export.file_names import name_image_file
from maskmill_plugins._shared.export.mask_table import BY_MEANING, By, list_masks, name_mask_file, write_mask_table


class Cutout(Writer):
    """PNG files: by default RGBA, the object opaque, all else transparent (and black, so that nothing shows through).

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
    margin: int = Field(0, ge=0, description="pixels around a tight crop, within the image")
    square: bool = Field(
        False,
        description="make the picture square, with the crop in its middle; what is outside the image is background",
        json_schema_extra=ONLY_IF_SET,
    )
    size: int | None = Field(
        None,
        ge=1,
        le=65000,
        description="reduce or enlarge the picture to this longer side, in pixels; empty: as large as in the image",
        json_schema_extra=ONLY_IF_SET,
    )
    background: str = Field(
        "transparent",
        description="what is behind the object: `transparent`; `blurred`: the image itself, out of focus; or a colour,"
        ' such as `white` or `"#ffcc00"`. The last two make RGB files without transparency',
        json_schema_extra=ONLY_IF_SET,
    )
    feather: int = Field(
        0,
        ge=0,
        le=1000,
        description="width in pixels of a soft edge, inside the object, so that nothing around it shows",
        json_schema_extra=ONLY_IF_SET,
    )

    @field_validator("background")
    @classmethod
    def _check_background(cls, value: str) -> str:
        if value not in ("transparent", "blurred"):
            _parse_color(value)
        return value

    def open(self) -> None:
        """Fail early if OpenCV is missing and needed."""
        if self.feather or self.background == "blurred":
            load_cv2()

    def check(self) -> list[Problem]:
        """A file of all objects belongs to no class."""
        if self.per == "image" and self.by == "class":
            return [Problem("by: class is for per: object only")]
        return []

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the cut-outs of this image."""
        if self.per == "object":
            return [
                save(folder, name_mask_file(self.by, result.key, number, mask), data)
                for number, mask, data in self._objects(image, result.kept)
            ]
        together = _union(result.kept) if result.kept else None
        return [
            save(folder, name_image_file(result.key), data, ".png")
            for _, _, data in self._objects(image, [together] if together else [])
        ]

    def make_entry(self, result: ImageResult) -> bytes:
        """The rows of `masks.csv`."""
        return list_masks(result, self._find_file)

    def finish_entries(self, entries: Entries, folder: Path) -> list[Artifact]:
        """Write `masks.csv`."""
        return [write_mask_table(entries, folder)]

    def _find_file(self, result: ImageResult, number: int, mask: Mask) -> str:
        if not mask.area:
            return ""
        if self.per == "image":
            return safe_path(name_image_file(result.key), ".png")
        return safe_path(name_mask_file(self.by, result.key, number, mask))

    def _objects(self, image: Image, masks: Sequence[Mask]) -> Iterator[tuple[int, Mask, bytes]]:
        for number, mask in enumerate(masks):
            if (crop := crop_mask(mask)) is not None:
                yield number, mask, encode_png(self._cut(image.pixels, *crop))

    def _cut(self, image: Pixels, mask: npt.NDArray[np.bool_], x: int, y: int) -> PIL.Image.Image:
        """The picture of the object whose mask crop has its top-left corner at (x, y)."""
        window = self._choose_window(image.shape[:2], mask.shape[:2], x, y)
        alpha = np.zeros((window.height, window.width), np.uint8)
        softened = soften_edge(mask, self.feather, _touched_sides(image.shape[:2], mask.shape[:2], x, y))
        window.view(alpha, x, y, mask.shape[:2])[:] = softened
        colors = np.zeros((window.height, window.width, 3), np.uint8)
        window.view(colors, x, y, mask.shape[:2])[:] = image[y : y + mask.shape[0], x : x + mask.shape[1]]
        if self.background == "transparent":
            return _hide_transparent(self._resize(PIL.Image.fromarray(np.dstack([colors, alpha]))))
        if self.background == "blurred":
            behind = blur_around(image, mask, x, y, window)
        else:
            behind = np.full_like(colors, _parse_color(self.background))
        picture = PIL.Image.fromarray(behind)
        picture.paste(PIL.Image.fromarray(colors), mask=PIL.Image.fromarray(alpha))
        return self._resize(picture)

    def _choose_window(self, size: tuple[int, ...], crop: tuple[int, ...], x: int, y: int) -> Window:
        """The part of the image that the picture shows; a square one may reach beyond the image."""
        (height, width), (rows, columns) = size, crop
        left, top, right, bottom = 0, 0, width, height
        if self.crop == "tight":
            left, top = max(0, x - self.margin), max(0, y - self.margin)
            right, bottom = min(width, x + columns + self.margin), min(height, y + rows + self.margin)
        if not self.square:
            return Window(left, top, right - left, bottom - top)
        side = max(right - left, bottom - top)
        return Window(left - (side - (right - left)) // 2, top - (side - (bottom - top)) // 2, side, side)

    def _resize(self, picture: PIL.Image.Image) -> PIL.Image.Image:
        if self.size is None:
            return picture
        scale = self.size / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        return picture.resize((width, height), PIL.Image.Resampling.LANCZOS)  # Pillow weights colours by their opacity


def _hide_transparent(picture: PIL.Image.Image) -> PIL.Image.Image:
    rgba = np.array(picture)
    rgba[rgba[:, :, 3] == 0] = 0
    return PIL.Image.fromarray(rgba)


def _parse_color(text: str) -> tuple[int, int, int]:
    """Red, green and blue of a colour.

    Raises:
        ValueError: it is none, or not opaque.
    """
    try:
        color = PIL.ImageColor.getcolor(text, "RGBA")
    except ValueError:
        color = None
    if not isinstance(color, tuple) or len(color) != 4 or color[3] != 255:
        raise ValueError(f"{text!r} is neither transparent, blurred nor a colour such as white or '#ffcc00'")
    return color[:3]


def _touched_sides(size: tuple[int, ...], crop: tuple[int, ...], x: int, y: int) -> Sides:
    """Whether a crop lies at the left, top, right and bottom edge of the image."""
    return x == 0, y == 0, x + crop[1] == size[1], y + crop[0] == size[0]


def _union(masks: Sequence[Mask]) -> Mask:
    merged = coco_mask.merge([mask.rle for mask in masks])
    return Mask(masks[0].size, bytes(merged["counts"]).decode("ascii"))


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `cutout`."""
    register("cutout", Cutout)
