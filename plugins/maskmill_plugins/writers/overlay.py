"""overlay: the image with its masks, labels and prompts drawn on it, for visual inspection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from maskmill import Artifact, Image, ImageResult, Mask, Problem, Writer, colors, hookimpl, save
from maskmill_plugins._shared.drawing.canvas import Canvas
from maskmill_plugins._shared.drawing.name_tags import NameTags
from maskmill_plugins._shared.drawing.pixels import check_cv2, encode_jpeg, encode_png
from maskmill_plugins._shared.export.file_names import name_image_file


class Overlay(Writer):
    """One picture per image, `<key>.jpg`: translucent masks with outlines, labels and prompts.

    Images without masks also get a picture, with the reason written on it.
    """

    alpha: float = Field(0.4, ge=0, le=1, description="opacity of the masks; 0 leaves them unfilled")
    outline: bool = Field(True, description="draw the outlines of the masks")
    labels: bool = Field(True, description="write each object's label next to it")
    scores: bool = Field(False, description="also write each mask's score, to find a threshold for the filter `score`")
    prompts: bool = Field(True, description="draw boxes and points, including those whose masks were dropped")
    color_by: Literal["object", "label"] = Field(
        "object",
        description="`object`: one colour per object; `label`: one per label, nearly always the same in every image",
    )
    format: Literal["jpg", "png"] = Field("jpg", description="`jpg` is smaller, `png` keeps every pixel")
    quality: int = Field(90, ge=1, le=100, description="of the JPEG")
    max_side: int = Field(1600, ge=64, le=65000, description="larger images are reduced to this longer side, in pixels")
    min_side: int = Field(
        640,
        ge=1,
        le=65000,
        description="smaller images are enlarged to this longer side, in pixels, so that labels are readable",
    )

    def check(self) -> list[Problem]:
        """OpenCV must load."""
        return check_cv2()

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the picture."""
        canvas = Canvas(image.pixels, min(self.min_side, self.max_side), self.max_side)
        tones = self._choose_colors(result.kept)
        drawn = sorted(zip(result.kept, tones, strict=True), key=lambda pair: -pair[0].area)
        for mask, tone in drawn:  # large ones first, so that small ones on top of them stay visible
            canvas.draw_mask(mask, tone, self.alpha, self.outline)
        if self.prompts:
            canvas.draw_prompts(result.prompts)
        tags = NameTags(canvas)
        for mask, tone in zip(result.kept, tones, strict=True):
            tags.add(self._tag_text(mask), tone, mask)
        if self.labels and not result.kept:
            tags.add(f"empty: {result.reason or 'no masks'}", (70, 70, 70))
        tags.add_legend()
        if numbers := tags.legend.to_json():
            self.note("labels shown by number", numbers)
        data = encode_png(canvas.pixels) if self.format == "png" else encode_jpeg(canvas.pixels, self.quality)
        return [save(folder, name_image_file(result.key), data, f".{self.format}")]

    def _choose_colors(self, masks: Sequence[Mask]) -> list[colors.Rgb]:
        if self.color_by == "object":
            return [colors.nth(number) for number in range(len(masks))]
        tones = colors.by_label(mask.label for mask in masks)
        return [tones[mask.label] for mask in masks]

    def _tag_text(self, mask: Mask) -> str:
        label = mask.label if self.labels and mask.label else ""
        score = f"{mask.score:.2f}" if self.scores and mask.score is not None else ""
        return f"{label} {score}"


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `overlay`."""
    register("overlay", Overlay)
