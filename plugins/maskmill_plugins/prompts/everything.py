"""everything: all objects of every image, found like `segment_anything`'s automatic mask generator does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import ClassVar, Self

from pydantic import Field, model_validator

from maskmill import Grid, Image, Prompt, PromptSource, hookimpl

DEFAULT = Grid()
NAMES = {field.name for field in fields(Grid)}


class Everything(PromptSource):
    """One grid of points per image; the options are those of `SamAutomaticMaskGenerator`, with its defaults.

    Reference: Kirillov et al., Segment Anything, arXiv:2304.02643, appendix B.
    """

    always_answers: ClassVar[bool] = True

    points_per_side: int = Field(
        DEFAULT.points_per_side, ge=1, description="points along one side of the image; the grid has their square"
    )
    pred_iou_thresh: float = Field(DEFAULT.pred_iou_thresh, ge=0, le=1, description="minimum predicted IoU of a mask")
    stability_score_thresh: float = Field(
        DEFAULT.stability_score_thresh, ge=0, le=1, description="minimum stability score of a mask"
    )
    stability_score_offset: float = Field(
        DEFAULT.stability_score_offset,
        ge=0,
        description="how far the stability score moves the threshold, up and down, in logits",
    )
    box_nms_thresh: float = Field(
        DEFAULT.box_nms_thresh, ge=0, le=1, description="of masks whose boxes have a larger IoU, only the best is kept"
    )
    crop_n_layers: int = Field(
        DEFAULT.crop_n_layers, ge=0, le=8, description="also search crops of the image: 1: 4 crops, 2: 16 more, ..."
    )
    crop_nms_thresh: float = Field(
        DEFAULT.crop_nms_thresh, ge=0, le=1, description="like box_nms_thresh, between masks of different crops"
    )
    crop_overlap_ratio: float = Field(
        DEFAULT.crop_overlap_ratio,
        ge=0,
        lt=1,
        description="overlap of crops, as a fraction of the image's shorter side; halved with each layer",
    )
    crop_n_points_downscale_factor: int = Field(
        DEFAULT.crop_n_points_downscale_factor,
        ge=1,
        description="the points along a side of a crop are divided by this number, once per layer",
    )
    min_mask_region_area: int = Field(
        DEFAULT.min_mask_region_area, ge=0, description="holes and islands of fewer pixels are removed; 0: none"
    )
    label: str | None = Field(None, description="class name of all masks")

    @model_validator(mode="after")
    def _require_points_in_crops(self) -> Self:
        if self.points_per_side < self.crop_n_points_downscale_factor**self.crop_n_layers:
            raise ValueError(
                f"crop_n_points_downscale_factor: {self.points_per_side} points per side divided"
                f" {self.crop_n_layers} times by {self.crop_n_points_downscale_factor} leave none in the last layer"
            )
        return self

    def kinds(self) -> frozenset[str]:
        """Everything mode."""
        return frozenset({"everything"})

    def prompts(self, image: Image) -> list[Prompt]:
        """The same prompt for every image."""
        return [Prompt(grid=Grid(**self.model_dump(include=NAMES)), label=self.label)]


@hookimpl
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Register `everything`."""
    register("everything", Everything)
