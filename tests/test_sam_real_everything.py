"""Everything mode with the sizes of ViT-B and 4×4 points, against `SamAutomaticMaskGenerator`."""

from __future__ import annotations

import os
from dataclasses import asdict

import numpy as np
import pytest
import small_sam

from maskmill import Grid, Mask, Prompt

pytestmark = [pytest.mark.torch, pytest.mark.slow]

#: Random weights predict IoUs around 0 and logits far below 1.
GRID = Grid(
    points_per_side=4,
    pred_iou_thresh=0,
    stability_score_thresh=0.05,
    stability_score_offset=0.02,
    box_nms_thresh=0.97,
)
THRESHOLD = 0.15


@pytest.fixture
def sam():
    """Random weights whose masks follow their point: sharp attention, and a threshold that few pixels pass."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    sam = small_sam.shallow_vit_b()
    with torch.no_grad():
        for name, parameter in sam.mask_decoder.transformer.named_parameters():
            if ("cross_attn" in name or "final_attn" in name) and name.endswith("q_proj.weight"):
                parameter.mul_(20)
    sam.mask_threshold = THRESHOLD
    yield sam
    torch.set_num_threads(before)


def near(value: float, threshold: float) -> bool:
    return abs(value - threshold) < 1e-4


def test_the_fast_way_finds_what_the_generator_finds(sam, monkeypatch):
    import torch
    from segment_anything import SamAutomaticMaskGenerator

    from maskmill_plugins.backends.sam.segment.fast import FastSegmenter

    pixels = small_sam.photo(400, 600, seed=1)
    segmenter = FastSegmenter(sam)
    embedding = segmenter.embed(pixels)
    found = segmenter.everything(embedding, pixels, Prompt(grid=GRID))
    # test_sam_real.py compares the encoders; the stock one takes long
    monkeypatch.setattr(sam.image_encoder, "forward", lambda _: torch.as_tensor(embedding))
    records = SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **asdict(GRID)).generate(pixels)
    expected = [
        (Mask((400, 600), one["segmentation"]["counts"]).array, one["predicted_iou"], one["stability_score"])
        for one in records
    ]
    assert len(expected) > 3
    missing = [
        (score, stability)
        for array, score, stability in expected
        if not any((array != mask.array).sum() <= 5 and abs(mask.score - score) < 1e-4 for mask in found)
    ]
    unjustified = [
        (score, stability)
        for score, stability in missing
        if not (near(score, GRID.pred_iou_thresh) or near(stability, GRID.stability_score_thresh))
    ]
    assert unjustified == []
    assert len(missing) <= 1, "the threshold is met by chance only"
    assert abs(len(found) - len(expected)) <= len(missing) + 1
    assert np.mean([array.sum() for array, *_ in expected]) > 50
