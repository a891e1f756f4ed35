"""The sizes of ViT-B, with random weights and fewer blocks: both ways against `SamPredictor`."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
import small_sam

from maskmill import Box, Image, Point, Prompt
from maskmill_plugins.backends.sam import Sam

pytestmark = [pytest.mark.torch, pytest.mark.slow]

PROMPTS = [
    Prompt(box=Box(40, 30, 200.5, 150)),
    Prompt(points=(Point(100, 80),)),
    Prompt(points=(Point(100, 80), Point(200, 150, 0), Point(10, 10, 0))),
    Prompt(points=(Point(100, 80), Point(90, 50, 0)), box=Box(40, 30, 200, 150)),
]


@pytest.fixture(scope="module")
def threads():
    """As many as there are: the stock encoder takes seconds."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKMILL_THREADS", str(os.cpu_count() or 1))
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def real(threads, tmp_path_factory):
    """A checkpoint, a photo, and what `SamPredictor` makes of them: logits of three masks a prompt."""
    from segment_anything import SamPredictor

    sam = small_sam.shallow_vit_b()
    path = small_sam.save(sam, tmp_path_factory.mktemp("weights") / "b.pth")
    image = Image.from_array(small_sam.photo(600, 400))
    predictor = SamPredictor(sam)
    predictor.set_image(image.pixels)
    answers = [
        predictor.predict(
            np.array([[p.x, p.y] for p in prompt.points]) if prompt.points else None,
            np.array([p.label for p in prompt.points]) if prompt.points else None,
            np.array(prompt.box.xyxy) if prompt.box else None,
            return_logits=True,
        )
        for prompt in PROMPTS
    ]
    return SimpleNamespace(path=path, image=image, embedding=predictor.features.numpy(), answers=answers)


@pytest.fixture
def opened(real):
    stages = []

    def start(fast):
        stage = Sam(checkpoint=real.path, device="cpu", multimask="all", fast=fast)
        stages.append(stage)
        stage.open()
        return stage

    yield start
    for stage in stages:
        stage.close()


def test_stock_is_the_predictor_bit_for_bit(real, opened):
    found = iter(opened(fast=False).masks(real.image, PROMPTS, real.embedding))  # whose encoder is the predictor's own
    for logits, scores, _ in real.answers:
        for expected, score in zip(logits, scores, strict=True):
            mask = next(found)
            np.testing.assert_array_equal(mask.array, expected > 0)
            assert mask.score == score
    assert next(found, None) is None


def test_the_fast_way_is_the_predictor_to_rounding(real, opened):
    import torch

    stage = opened(fast=True)
    embedding = stage.embed(real.image)
    assert np.abs(embedding - real.embedding).max() < 2e-5
    segmenter = stage._segmenter
    image = segmenter.decoder.prepare_image(torch.as_tensor(real.embedding))
    masks = iter(stage.masks(real.image, PROMPTS, embedding))
    for prompt, (logits, scores, low) in zip(PROMPTS, real.answers, strict=True):
        found, _ = segmenter.decoder(image, segmenter.embed_prompts([prompt], real.image.size), "three")
        assert np.abs(found[0].numpy() - low).max() < 1e-5
        for expected, score in zip(logits, scores, strict=True):
            mask = next(masks)
            assert mask.score == pytest.approx(score, abs=1e-5)
            assert 0 < (expected > 0).mean() < 1
            assert not (mask.array != (expected > 0))[np.abs(expected) >= 1e-5].any()
