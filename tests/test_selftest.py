"""`maskmill selftest`: equal is said of what is equal, and only of that."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import small_sam

from maskmill import Image, testing
from maskmill.cli import main
from maskmill_plugins.backends.sam.selftest import (
    Difference,
    SelftestResult,
    compare_implementations,
    format_report,
    make_prompts,
)
from maskmill_plugins.backends.sam.weights import download


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A small model in the place of vit_b, found beside where the command runs."""
    import torch

    torch.set_num_threads(1)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    return small_sam.save(small_sam.seeded(), tmp_path / "small.pth")


def run(*words) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["selftest", *map(str, words)])
    return ended.value.code


@pytest.mark.torch
@pytest.mark.parametrize("size", [(200, 320), (301, 77), (4, 4)], ids=str)
def test_the_fast_way_is_equal(weights, tmp_path, capsys, size):
    testing.write_picture(tmp_path / "照片.png", *size)
    assert run("照片.png", "--checkpoint", weights, "--rounds", 2) == 0
    said = capsys.readouterr().out
    assert "small.pth, vit_b, sha256" in said
    assert "\nEQUAL: " in said
    assert re.search(rf"12 masks: \d+ of {12 * size[0] * size[1]} pixels differ, 0 of them", said)
    assert len(re.findall(r"(?:encoder|masks) +\d+\.\d\d s +\d+\.\d\d s +\d+\.\d\d×", said)) == 2


@pytest.mark.torch
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_way_that_computes_something_else_is_not_equal(weights, part):
    import torch
    from segment_anything import SamPredictor

    from maskmill_plugins.backends.sam.segment.fast import FastSegmenter

    sam = small_sam.seeded()
    fast, image = FastSegmenter(sam), Image.from_array(small_sam.photo(90, 120))
    other = small_sam.seeded()
    with torch.no_grad():  # too little to be seen
        if part == "encoder":
            other.image_encoder.neck[3].weight.mul_(1.001)
        else:
            other.mask_decoder.output_hypernetworks_mlps[2].layers[-1].weight.mul_(1.001)
    assert compare_implementations(SamPredictor(sam), fast, image, 1).is_equal
    result = compare_implementations(SamPredictor(other), fast, image, 1)
    assert not result.is_equal
    assert result.embedding.is_rounding == (part == "decoder")
    said = format_report(result)
    assert "MORE THAN ROUNDING" in said
    assert "\nNOT EQUAL: " in said


def test_a_difference_that_is_no_number_is_not_rounding():
    difference = Difference(1e-5)
    difference.add(np.array([1.0, math.nan], np.float32), np.array([1.0, 2.0], np.float32))
    difference.add(np.array([1.0], np.float32), np.array([1.0], np.float32))
    assert not difference.is_rounding


def test_large_values_may_differ_more():
    difference = Difference(1e-5)
    difference.add(np.array([30.0002], np.float32), np.array([30.0], np.float32))
    assert difference.is_rounding
    difference.add(np.array([30.001], np.float32), np.array([30.0], np.float32))
    assert not difference.is_rounding


def test_a_pixel_beyond_rounding_and_a_test_without_masks_are_not_equal():
    assert SelftestResult(masks=1, differing=3).is_equal
    assert not SelftestResult(masks=1, differing=3, beyond=1).is_equal
    assert not SelftestResult().is_equal


@pytest.mark.parametrize("size", [(1, 1), (3000, 2)], ids=str)
def test_the_prompts_lie_in_the_image(size):
    for prompt in make_prompts(*size):
        assert prompt.fit(*size) == prompt


@pytest.mark.torch
def test_what_is_missing_is_said(weights, tmp_path, capsys, monkeypatch):
    testing.write_picture(tmp_path / "a.png")
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("MASKMILL_WEIGHTS_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(download, "PAUSES", ())
    assert run("a.png") == 2
    assert "cannot download http://127.0.0.1:9/sam_vit_b_01ec64.pth" in capsys.readouterr().err
    assert run("a.png", "--checkpoint", "gone.pth") == 2
    assert "gone.pth" in capsys.readouterr().err
    assert run("gone.png", "--checkpoint", weights) == 1
    assert "gone.png" in capsys.readouterr().err
