"""The fast decoder with models of transformers: the logits of their own decoders, except for rounding."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from maskmill import Box, Grid, Image, ImageError, Point, Prompt, testing

pytest.importorskip("transformers")
pytest.importorskip("segment_anything")
import hf_models
import loky
import torch

from maskmill_plugins._shared.sam.decoder import MAX_TOKENS
from maskmill_plugins._shared.sam.decoding_threads import DecodingThreads
from maskmill_plugins.backends.hf import Hf
from maskmill_plugins.backends.hf.families import INSTANCES
from maskmill_plugins.backends.hf.fast_decoder import make_decoder
from maskmill_plugins.backends.hf.loading import load_model

pytestmark = pytest.mark.torch

LOGITS = 1e-5
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm")
KINDS = ["sam", "sam2_video", pytest.param("edgetam", marks=needs_timm), "sam3_tracker"]
#: (points, boxes) of each prompt
SHAPES = {"box": (0, 1), "point": (1, 0), "points": (4, 0), "box and points": (3, 1), "very many": (MAX_TOKENS, 0)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root, made = tmp_path_factory.mktemp("models"), {}

    def make(kind):
        if kind not in made:
            made[kind] = hf_models.save(kind, root / kind)
        return made[kind]

    return make


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=KINDS)
def model(request, folders):
    loaded = load_model(folders(request.param), INSTANCES[request.param], torch.device("cpu"))
    with torch.no_grad():  # as if it had learned something
        loaded.prompt_encoder.no_mask_embed.weight.normal_(generator=torch.Generator().manual_seed(5))
    return loaded


def make_prompts(model, count: int, points: int, boxes: int):
    """What transformers' forward takes for prompts at random places of the model's input."""
    generator = torch.Generator().manual_seed(count + points)
    side = model.prompt_encoder.input_image_size
    given = {}
    if points:
        given["input_points"] = torch.rand(1, count, points, 2, generator=generator) * side
        given["input_labels"] = torch.randint(0, 2, (1, count, points), generator=generator)
    if boxes:
        corners = torch.rand(count, 2, 2, generator=generator).sort(1).values * side
        given["input_boxes"] = corners.flatten(1)[None]
    return given


def encode_noise(model) -> list[torch.Tensor]:
    generator, channels = torch.Generator().manual_seed(1), model.prompt_encoder.hidden_size
    grid = model.prompt_encoder.image_embedding_size[0]
    coarse = torch.randn(1, channels, grid, grid, generator=generator)
    if not hasattr(model.mask_decoder, "conv_s0"):
        return [coarse]
    sizes = ((channels // 8, 4 * grid), (channels // 4, 2 * grid))
    return [*(torch.randn(1, depth, side, side, generator=generator) for depth, side in sizes), coarse]


def decode(model, parts, given, wanted):
    decoder = make_decoder(model)
    *fine, coarse = parts
    with torch.inference_mode():
        names = ("input_points", "input_labels", "input_boxes", "input_masks")
        prompts = model.prompt_encoder(**{name: given.get(name) for name in names})[0][0]
    return decoder(decoder.prepare_image(coarse, tuple(fine)), prompts, wanted)


def decode_by_hand(model, parts, given, three: bool):
    with torch.inference_mode():
        embedding = parts if len(parts) > 1 else parts[0]
        answer = model(image_embeddings=embedding, multimask_output=three, **given)
    return answer.pred_masks[0], answer.iou_scores[0]


@pytest.mark.parametrize("three", [False, True], ids=["one mask", "three masks"])
@pytest.mark.parametrize(("points", "boxes"), SHAPES.values(), ids=SHAPES)
def test_logits_and_scores_are_those_of_transformers(model, points, boxes, three):
    parts, given = encode_noise(model), make_prompts(model, 5, points, boxes)
    expected, expected_scores = decode_by_hand(model, parts, given, three)
    logits, scores = decode(model, parts, given, "three" if three else "one")
    assert logits.shape == expected.shape
    assert (logits - expected).abs().max() < LOGITS * max(1, expected.abs().max())
    assert (scores - expected_scores).abs().max() < LOGITS


def test_a_mask_that_is_not_stable_is_replaced_by_the_best_candidate(folders):
    """As SAM 2 does for each prompt: at a suitable offset some masks are stable and others are not."""
    model = load_model(folders("sam2_video"), INSTANCES["sam2_video"], torch.device("cpu"))
    parts, given = encode_noise(model), make_prompts(model, 16, 0, 1)
    decoder = model.mask_decoder
    decoder.dynamic_multimask_via_stability = False
    plain, _ = decode_by_hand(model, parts, given, False)
    decoder.dynamic_multimask_via_stability, decoder.dynamic_multimask_stability_delta = True, 0.5
    stable = [float((one > 0.5).sum() / (one > -0.5).sum()) for one in plain]
    decoder.dynamic_multimask_stability_thresh = float(np.median(stable))
    expected, expected_scores = decode_by_hand(model, parts, given, False)
    replaced = (expected != plain).flatten(1).any(1)
    assert 0 < replaced.sum() < 16
    logits, scores = decode(model, parts, given, "one")
    assert (logits - expected).abs().max() < LOGITS * expected.abs().max()
    assert (scores - expected_scores).abs().max() < LOGITS


def open_backend(folder, **options) -> Hf:
    backend = Hf(model=str(folder), device="cpu", **options)
    assert backend.check() == []
    backend.open()
    return backend


def test_masks_of_the_backend_are_those_of_transformers_whatever_the_number_of_threads(folders, monkeypatch):
    """Boxes, points, candidates and everything mode, on a picture of another shape than the model's input."""
    folder, image = folders("sam2_video"), Image.from_array(testing.pixels(90, 140))
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (100, 2, 2)), 1) * [image.width, image.height]
    prompts = [Prompt(box=Box(*map(float, corner.ravel()))) for corner in corners]
    prompts += [Prompt(points=(Point(*map(float, corner[0])),)) for corner in corners[:5]]
    everything = Prompt(grid=Grid(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0))
    monkeypatch.setattr(loky, "cpu_count", lambda: 4)
    monkeypatch.setattr("maskmill_plugins._shared.sam.decoding_threads.LEAST_NUMBERS", 0)  # as for large models
    found = {}
    for count in (1, 2, 4):
        monkeypatch.setenv("MASKMILL_THREADS", str(count))
        backend = open_backend(folder)
        found[count] = [(m.counts, m.score, m.stability) for m in backend.masks(image, [*prompts, everything])]
        backend.close()
    assert found[1] == found[2] == found[4]
    monkeypatch.setenv("MASKMILL_THREADS", "1")
    own, fast = open_backend(folder, fast=False), open_backend(folder)
    some = prompts[::5]
    expected, masks = own.masks(image, some), fast.masks(image, some)
    assert [m.score for m in masks] == pytest.approx([m.score for m in expected], abs=LOGITS)
    assert sum(int((m.array != o.array).sum()) for m, o in zip(masks, expected, strict=True)) <= 2
    assert any(0.01 < m.array.mean() < 0.99 for m in masks)
    assert own._segmenter.fast is None


@pytest.mark.parametrize("kind", ["sam", "sam2_video", pytest.param("edgetam", marks=needs_timm)])
def test_an_encoder_in_half_precision_is_near(folders, kind):
    image = Image.from_array(testing.pixels(90, 140))
    exact, near = open_backend(folders(kind)), open_backend(folders(kind), precision="bfloat16")
    for wanted, found in zip(exact.embed(image), near.embed(image), strict=True):
        assert found.dtype == np.float32
        assert 0 < np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()
    assert Hf(model="a/b", precision="float16").digest() != Hf(model="a/b").digest()


def test_what_half_precision_cannot_hold_fails_the_image(folders):
    backend = open_backend(folders("sam"), precision="float16")
    with torch.no_grad():
        backend._segmenter.model.vision_encoder.pos_embed.fill_(1e30)
    with pytest.raises(ImageError, match="precision: float32"):
        backend.embed(Image.from_array(testing.pixels(90, 140)))


def test_masks_that_a_gpu_decoded_are_upscaled_side_by_side_with_the_same_bits(folders, monkeypatch):
    """The way of a GPU, on a CPU: prompts decoded together, their masks made in several threads."""
    monkeypatch.setattr(loky, "cpu_count", lambda: 4)
    image = Image.from_array(testing.pixels(90, 140))
    prompts = [Prompt(box=Box(x, x, x + 30, x + 40)) for x in range(0, 40, 4)]
    found = []
    for count in (1, 3):
        backend = open_backend(folders("sam2_video"))
        segmenter = backend._segmenter
        segmenter.batch_size, segmenter.mask_threads = 8, DecodingThreads(count)
        found.append([(mask.counts, mask.score, mask.prompt) for mask in backend.masks(image, prompts)])
        backend.close()
    assert found[0] == found[1]
    assert [prompt for *_, prompt in found[0]] == prompts
