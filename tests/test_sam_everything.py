"""Everything mode of the `sam` backend against `SamAutomaticMaskGenerator`."""

from __future__ import annotations

import numpy as np
import pytest
import small_sam

from maskmill import Box, Grid, Image, Mask, Point, Prompt

torch = pytest.importorskip("torch")

from maskmill_plugins.backends.sam import Sam  # noqa: E402
from maskmill_plugins.backends.sam.segment.fast import FastSegmenter  # noqa: E402
from maskmill_plugins.backends.sam.segment.stock import StockSegmenter  # noqa: E402

pytestmark = pytest.mark.torch

# Random weights predict an IoU around 0: thresholds that some masks pass and some do not.
LOOSE = {"pred_iou_thresh": 0.05, "stability_score_thresh": 0.1, "stability_score_offset": 0.2, "box_nms_thresh": 0.95}
GRIDS = {
    "plain": Grid(points_per_side=6, **LOOSE),
    "no thresholds": Grid(
        points_per_side=4, pred_iou_thresh=0, stability_score_thresh=0, stability_score_offset=0.2, box_nms_thresh=1
    ),
    "crops": Grid(points_per_side=6, crop_n_layers=1, crop_nms_thresh=0.9, **LOOSE),
    "crops with fewer points": Grid(points_per_side=8, crop_n_layers=2, crop_n_points_downscale_factor=2, **LOOSE),
    "small regions": Grid(points_per_side=6, min_mask_region_area=200, **LOOSE),
    "small regions in crops": Grid(points_per_side=4, crop_n_layers=1, min_mask_region_area=50, **LOOSE),
    "nothing good enough": Grid(points_per_side=4, pred_iou_thresh=0.99),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def sam():
    """Random weights whose masks follow their point: sharp attention, and a threshold that few pixels pass."""
    sam = small_sam.seeded(5, heads=4)
    with torch.no_grad():
        for name, parameter in sam.mask_decoder.transformer.named_parameters():
            if ("cross_attn" in name or "final_attn" in name) and name.endswith("q_proj.weight"):
                parameter.mul_(20)
    sam.mask_threshold = 3.0
    return sam


def generated(sam, pixels, grid):
    """What `SamAutomaticMaskGenerator` finds: its records."""
    from dataclasses import asdict

    from segment_anything import SamAutomaticMaskGenerator

    return SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **asdict(grid)).generate(pixels)


def found_by(segmenter, pixels, grid) -> list[Mask]:
    return segmenter.everything(segmenter.embed(pixels), pixels, Prompt(grid=grid, label="thing"))


@pytest.mark.parametrize("size", [(200, 320), (301, 177)], ids=str)
@pytest.mark.parametrize("name", GRIDS)
def test_the_fast_way_finds_the_same_masks_in_the_same_order(sam, name, size):
    pixels, grid = small_sam.photo(*size, seed=1), GRIDS[name]
    records = generated(sam, pixels, grid)
    found = found_by(FastSegmenter(sam), pixels, grid)
    assert not records if name == "nothing good enough" else len(records) > 1
    assert len(found) == len(records)
    for mask, record in zip(found, records, strict=True):
        expected = Mask(size, record["segmentation"]["counts"])
        assert mask.score == pytest.approx(record["predicted_iou"], abs=1e-5)
        assert mask.stability == pytest.approx(np.nan_to_num(record["stability_score"]), abs=1e-4)
        assert (mask.array != expected.array).sum() <= 2
        assert mask.label == "thing"


@pytest.mark.parametrize("at_a_time", [4, 16])
def test_decoding_points_together_finds_the_same(sam, at_a_time):
    pixels = small_sam.photo(200, 320, seed=1)
    alone = found_by(FastSegmenter(sam), pixels, GRIDS["plain"])
    together = found_by(FastSegmenter(sam, batch_size=at_a_time), pixels, GRIDS["plain"])
    assert len(alone) == len(together) > 3
    for one, other in zip(alone, together, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert (one.array != other.array).sum() <= 2


def test_stock_is_the_generators_bit_for_bit(sam):
    pixels, grid = small_sam.photo(200, 320, seed=1), GRIDS["crops"]
    records = generated(sam, pixels, grid)
    found = found_by(StockSegmenter(sam), pixels, grid)
    assert [mask.counts for mask in found] == [record["segmentation"]["counts"] for record in records]
    assert [mask.score for mask in found] == [record["predicted_iou"] for record in records]


@pytest.mark.parametrize("segmenter", [FastSegmenter, StockSegmenter])
def test_no_mask_in_any_crop_is_an_answer_not_an_error(sam, segmenter):
    grid = Grid(points_per_side=2, crop_n_layers=1, pred_iou_thresh=0.99)
    assert found_by(segmenter(sam), small_sam.photo(100, 120), grid) == []


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "stock"])
def test_grids_and_boxes_of_one_image_keep_their_order(sam, tmp_path, monkeypatch, fast):
    import segment_anything

    monkeypatch.setenv("MASKMILL_THREADS", "1")
    monkeypatch.setattr(segment_anything.modeling.Sam, "mask_threshold", sam.mask_threshold)
    stage = Sam(checkpoint=small_sam.save(sam, tmp_path / "small.pth"), device="cpu", fast=fast, decoder_heads=4)
    assert "everything" in stage.accepts()
    stage.open()
    grid, box = Prompt(grid=GRIDS["plain"]), Prompt(box=Box(40, 30, 200, 150))
    point = Prompt(points=(Point(9, 9),))
    found = stage.masks(Image.from_array(small_sam.photo(200, 320, seed=1)), [box, grid, point])
    assert found[0].prompt is box
    assert len(found) > 5
    assert all(mask.prompt is grid for mask in found[1:-1])
    assert found[-1].prompt is point
