"""The `sam` backend: masks equal to `SamPredictor`'s, and weights that are found, refused and read safely.

The fast implementation is tested in test_sam_fast.py, the real architecture in test_sam_real.py.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import small_sam

import maskmill.testing
from maskmill import Box, Image, ImageError, PipelineError, Point, Prompt
from maskmill_plugins.backends import sam as sam_plugin
from maskmill_plugins.backends.sam import Sam
from maskmill_plugins.backends.sam.weights.published import MODELS

BOX = Prompt(box=Box(40, 30, 200.5, 150))
POINT = Prompt(points=(Point(100, 80),))
PROMPTS = {
    "box": BOX,
    "one point": POINT,
    "points": Prompt(points=(Point(100, 80), Point(61.5, 140))),
    "negative points": Prompt(points=(Point(100, 80), Point(200, 150, 0), Point(10, 10, 0))),
    "only negative": Prompt(points=(Point(100, 80, 0),)),
    "box and points": Prompt(points=(Point(100, 80), Point(90, 50, 0)), box=Box(40, 30, 200, 150), label="车辆"),
}
BOX_INSIDE = Prompt(box=Box(20, 30, 100.5, 90))
POINT_INSIDE = Prompt(points=(Point(60, 50),))
SHAPES = {"wide": (200, 320), "tall": (301, 77), "small": (40, 40), "thin": (5, 400)}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("MASKMILL_THREADS", "1")


@pytest.fixture
def small(tmp_path):
    """The checkpoint of a small model."""
    return small_sam.save(small_sam.seeded(), tmp_path / "small.pth")


@pytest.fixture
def opened():
    stages = []

    def start(**options) -> Sam:
        stage = Sam(**{"device": "cpu", "fast": False} | options)
        stage.open()
        stages.append(stage)
        return stage

    yield start
    for stage in stages:
        stage.close()


def predictor_for(sam, pixels):
    import torch
    from segment_anything import SamPredictor

    torch.set_num_threads(1)
    predictor = SamPredictor(sam)
    predictor.set_image(pixels)
    return predictor


def predicted(predictor, prompt, multimask):
    """What `SamPredictor` itself answers: masks bool (n, H, W), scores (n,)."""
    points = prompt.points
    masks, scores, _ = predictor.predict(
        point_coords=np.array([[p.x, p.y] for p in points]) if points else None,
        point_labels=np.array([p.label for p in points]) if points else None,
        box=np.array(prompt.box.xyxy) if prompt.box else None,
        multimask_output=multimask,
    )
    return masks, scores


def image_of(shape):
    return Image.from_array(small_sam.photo(*shape), "photo.png")


@pytest.mark.torch
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_embedding_is_the_predictors_bit_for_bit(small, opened, shape):
    image = image_of(shape)
    embedding = opened(checkpoint=small).embed(image)
    expected = predictor_for(small_sam.seeded(), image.pixels).get_image_embedding().numpy()
    assert embedding.dtype == np.float32
    np.testing.assert_array_equal(embedding, expected)


@pytest.mark.torch
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "stock"])
def test_the_side_of_the_input_is_the_models_own(small, opened, fast):
    stage = opened(checkpoint=small, fast=fast)
    assert stage.input_side() == small_sam.SIDE
    stage.close()
    assert stage.input_side() is None


@pytest.mark.torch
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_masks_are_the_predictors_bit_for_bit(small, opened, shape):
    image = image_of(shape)
    prompts = [prompt for prompt in PROMPTS.values() if fits(prompt, shape)]
    prompts = [prompt if prompt == PROMPTS["only negative"] else prompt.fit(*image.size) for prompt in prompts]
    found = opened(checkpoint=small, multimask="off").masks(image, prompts)
    predictor = predictor_for(small_sam.seeded(), image.pixels)
    for mask, prompt in zip(found, prompts, strict=True):
        masks, scores = predicted(predictor, prompt, multimask=False)
        np.testing.assert_array_equal(mask.array, masks[0])
        assert mask.score == scores[0]
        assert mask.prompt is prompt


def fits(prompt, shape):
    height, width = shape
    return all(p.x <= width and p.y <= height for p in prompt.points) and (
        prompt.box is None or prompt.box.clip(*shape) is not None
    )


@pytest.mark.torch
def test_all_gives_the_three_masks_of_every_prompt(small, opened):
    image = image_of((200, 320))
    prompts = list(PROMPTS.values())
    found = opened(checkpoint=small, multimask="all").masks(image, prompts)
    assert len(found) == 3 * len(prompts)
    predictor = predictor_for(small_sam.seeded(), image.pixels)
    for number, prompt in enumerate(prompts):
        masks, scores = predicted(predictor, prompt, multimask=True)
        for mask, expected, score in zip(found[3 * number : 3 * number + 3], masks, scores, strict=True):
            assert 0 < expected.mean() < 1
            np.testing.assert_array_equal(mask.array, expected)
            assert mask.score == score
            assert mask.prompt is prompt


@pytest.mark.torch
@pytest.mark.parametrize("name", PROMPTS)
def test_auto_takes_the_best_of_three_for_a_single_point_and_one_mask_otherwise(small, opened, name):
    image, prompt = image_of((200, 320)), PROMPTS[name]
    [mask] = opened(checkpoint=small).masks(image, [prompt])
    ambiguous = name in ("one point", "only negative")
    masks, scores = predicted(predictor_for(small_sam.seeded(), image.pixels), prompt, multimask=ambiguous)
    best = int(np.argmax(scores))
    np.testing.assert_array_equal(mask.array, masks[best])
    assert mask.score == scores[best]


@pytest.mark.torch
def test_stability_is_that_of_the_automatic_mask_generator(small, opened):
    import torch
    from segment_anything.utils.amg import calculate_stability_score

    image = image_of((200, 320))
    [mask] = opened(checkpoint=small).masks(image, [BOX])
    predictor = predictor_for(small_sam.seeded(), image.pixels)
    logits, _, _ = predictor.predict(box=np.array(BOX.box.xyxy), multimask_output=False, return_logits=True)
    expected = calculate_stability_score(torch.as_tensor(logits), 0.0, 1.0).item()
    assert 0 < expected < 1
    assert mask.stability == pytest.approx(expected, abs=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "stock"])
def test_one_encoder_pass_an_image_however_many_prompts(small, opened, fast):
    stage, image = opened(checkpoint=small, fast=fast), image_of((64, 64))
    passes = count_encoder_passes(stage)
    assert len(stage.masks(image, [Prompt(box=Box(n, n, n + 20, n + 30)) for n in range(20)])) == 20
    assert len(passes) == 1


@pytest.mark.torch
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "stock"])
def test_a_given_embedding_takes_the_place_of_the_encoder(small, opened, fast):
    stage, image = opened(checkpoint=small, fast=fast), image_of((200, 320))
    expected = stage.masks(image, [BOX, POINT])
    embedding = stage.embed(image)
    stage.embed(image_of((64, 64)))  # another image between the two must not matter
    embedding.flags.writeable = False  # as one that comes from a cache may be
    passes = count_encoder_passes(stage)
    assert stage.masks(image, [BOX, POINT], embedding) == expected
    assert not passes


def count_encoder_passes(stage):
    passes = []
    stage._segmenter.sam.image_encoder.patch_embed.proj.register_forward_hook(lambda *_: passes.append(1))
    return passes


@pytest.mark.torch
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "stock"])
def test_an_image_too_thin_for_the_model_fails_alone(small, opened, fast):
    with pytest.raises(ImageError, match="too long and narrow"):
        opened(checkpoint=small, fast=fast).masks(image_of((1, 2000)), [Prompt(points=(Point(5, 0),))])


@pytest.mark.torch
def test_closing_releases_the_model(small, opened):
    stage = opened(checkpoint=small)
    stage.close()
    with pytest.raises(RuntimeError, match="open"):
        stage.embed(image_of((64, 64)))


@pytest.mark.torch
@pytest.mark.parametrize(
    "size",
    [{"width": 64}, {"width": 48, "channels": 64}, {"channels": 16}, {"depth": 5}, {"window": 16}, {"side": 128}],
    ids=lambda size: ", ".join(f"{name} {value}" for name, value in size.items()),
)
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "stock"])
def test_a_checkpoint_of_any_size_needs_no_other_option(tmp_path, opened, size, fast):
    sam = small_sam.seeded(**size)
    path = small_sam.save(sam, tmp_path / "tuned.pth")
    image = image_of((60, 100))
    embedding = opened(checkpoint=path, fast=fast).embed(image)
    grid = sam.image_encoder.img_size // 16
    assert embedding.shape == (1, size.get("channels", 32), grid, grid)
    np.testing.assert_allclose(embedding, opened(checkpoint=path, fast=not fast).embed(image), atol=2e-5)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda w: w.pop("image_encoder.pos_embed"), "image_encoder.pos_embed is missing"),
        (lambda w: w.pop("mask_decoder.mask_tokens.weight"), "mask_decoder.mask_tokens.weight is missing"),
        (
            lambda w: w.update({"classifier.weight": w["mask_decoder.mask_tokens.weight"]}),
            "classifier.weight is unknown",
        ),
        (
            lambda w: w.update({"image_encoder.neck.1.weight": w["image_encoder.neck.1.weight"][:3]}),
            r"image_encoder.neck.1.weight has the shape \[3\], not \[32\]",
        ),
        (
            lambda w: w.update({"image_encoder.pos_embed": w["image_encoder.pos_embed"][0]}),
            r"image_encoder.pos_embed has the shape \[16, 16, 32\]; expected 4 dimensions",
        ),
        (lambda w: w.pop("image_encoder.blocks.1.attn.rel_pos_h"), "image_encoder.blocks.1.attn.rel_pos_h is missing"),
    ],
    ids=[
        "no positions",
        "no mask tokens",
        "more than a SAM",
        "another shape",
        "no batch axis",
        "no relative positions",
    ],
)
def test_a_checkpoint_that_fits_no_sam_names_the_tensor(tmp_path, change, text):
    import torch

    weights = dict(small_sam.seeded().state_dict())
    change(weights)
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(PipelineError, match=rf"other.pth does not contain the weights of a SAM: {text}"):
        Sam(checkpoint=tmp_path / "other.pth").open()


@pytest.mark.torch
@pytest.mark.parametrize("way", ["in the file", "in safetensors' metadata", "by the option"])
def test_the_decoders_heads_are_told_by_the_file_or_an_option(tmp_path, opened, way):
    import torch
    from safetensors.torch import save_file

    sam = small_sam.seeded(heads=4)
    path, options = tmp_path / "heads.pth", {}
    if way == "in the file":
        torch.save({"model": sam.state_dict(), "config": {"decoder_heads": 4}}, path)
    elif way == "by the option":
        torch.save(sam.state_dict(), path)
        options = {"decoder_heads": 4}
    else:
        path = path.with_suffix(".safetensors")
        save_file(sam.state_dict(), path, {"decoder_heads": "4"})
    image = image_of((60, 100))
    [mask] = opened(checkpoint=path, fast=False, **options).masks(image, [BOX_INSIDE])
    from segment_anything import SamPredictor

    predictor = SamPredictor(sam)
    predictor.set_image(image.pixels)
    expected = predictor.predict(box=np.array(BOX_INSIDE.box.xyxy), multimask_output=False)[0][0]
    np.testing.assert_array_equal(mask.array, expected)


@pytest.mark.torch
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("mask_decoder.iou_token.weight"), "iou_token.weight is missing"),
        (lambda weights: weights.update(extra=weights["mask_decoder.iou_token.weight"]), "extra is unknown"),
    ],
    ids=["missing", "unknown"],
)
def test_weights_of_no_known_model_are_refused(small, tmp_path, change, message):
    import torch

    weights = small_sam.seeded().state_dict()
    change(weights)
    torch.save(weights, tmp_path / "odd.pth")
    with pytest.raises(PipelineError, match=message):
        Sam(checkpoint=tmp_path / "odd.pth").open()


class RunsCommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.torch
@pytest.mark.parametrize("form", ["zip", "older torch", "pickle"])
def test_a_checkpoint_that_would_run_a_command_is_refused_unexecuted(small, tmp_path, form):
    import torch

    ran = tmp_path / "ran"
    content = {"weights": RunsCommand(f'echo > "{ran}"')}
    if form == "pickle":
        small.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, small, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(PipelineError, match=r"small\.pth is refused: it contains \w+\.system"):
        Sam(checkpoint=small).open()
    assert not ran.exists()


@pytest.mark.torch
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"<html>404 Not Found</html>",
        lambda data: b"\0" * 1000,
    ],
    ids=["empty", "truncated", "a web page", "zeros"],
)
def test_a_damaged_checkpoint_is_a_clear_error(small, damage):
    small.write_bytes(damage(small.read_bytes()))
    with pytest.raises(PipelineError, match=r"small\.pth (cannot be read|is refused)"):
        Sam(checkpoint=small).open()


@pytest.mark.torch
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "it is a pointer of git-lfs"),
        (b"<!DOCTYPE html><html>404</html>", "it is a web page; the download went wrong"),
    ],
    ids=["git-lfs", "a web page"],
)
def test_a_file_that_is_something_else_is_named_as_that(small, content, text):
    small.write_bytes(content)
    with pytest.raises(PipelineError, match=text):
        Sam(checkpoint=small).open()


@pytest.mark.torch
def test_the_state_of_an_optimizer_is_named_as_that(small):
    import torch

    torch.save(torch.optim.AdamW(small_sam.seeded().parameters()).state_dict(), small)
    with pytest.raises(PipelineError, match="it has the state of an optimizer, not weights"):
        Sam(checkpoint=small).open()


@pytest.mark.torch
def test_a_file_in_torchs_older_format_is_read(small, opened):
    import torch

    torch.save(small_sam.seeded().state_dict(), small, _use_new_zipfile_serialization=False)
    assert opened(checkpoint=small).embed(image_of((64, 64))).shape == (1, 32, 16, 16)


@pytest.mark.torch
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda weights: {"model": weights, "epoch": 3},
        lambda weights: {"state_dict": {f"module.{name}": tensor for name, tensor in weights.items()}},
        lambda weights: {"state_dict": {f"model.{name}": tensor for name, tensor in weights.items()}},
        lambda weights: {"model": {f"_orig_mod.module.{name}": tensor for name, tensor in weights.items()}},
    ],
    ids=["beside other things", "from parallel training", "from Lightning", "compiled and parallel"],
)
def test_a_training_scripts_checkpoint_gives_the_same_masks(small, opened, tmp_path, wrapped):
    import torch

    torch.save(wrapped(small_sam.seeded().state_dict()), tmp_path / "tuned.pth")
    image = image_of((64, 64))
    expected = opened(checkpoint=small).embed(image)
    np.testing.assert_array_equal(opened(checkpoint=tmp_path / "tuned.pth").embed(image), expected)


@pytest.mark.torch
def test_half_precision_weights_are_computed_with_in_single_precision(small, opened, tmp_path):
    import torch

    halves = {name: tensor.half() for name, tensor in small_sam.seeded().state_dict().items()}
    torch.save(halves, tmp_path / "half.pth")
    image = image_of((64, 64))
    expected = opened(checkpoint=small).embed(image)
    np.testing.assert_allclose(opened(checkpoint=tmp_path / "half.pth").embed(image), expected, atol=0.05)


@pytest.mark.torch
def test_a_file_without_named_tensors_is_a_clear_error(small):
    import torch

    torch.save({"model": "vit_b", "epoch": 3}, small)
    with pytest.raises(PipelineError, match="it has no named tensors"):
        Sam(checkpoint=small).open()


@pytest.mark.torch
def test_safetensors_give_the_same_masks(small, opened, tmp_path):
    safetensors_torch = pytest.importorskip("safetensors.torch")
    path = tmp_path / "small.safetensors"
    safetensors_torch.save_file(small_sam.seeded().state_dict(), path)
    image = image_of((200, 320))
    expected = opened(checkpoint=small).masks(image, [BOX, POINT])
    assert opened(checkpoint=path).masks(image, [BOX, POINT]) == expected


@pytest.mark.torch
def test_an_absent_device_is_a_clear_error(small):
    import torch

    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(PipelineError, match=f"no {absent} device"):
        Sam(checkpoint=small, device=absent).open()


def test_auto_finds_the_published_name_beside_the_pipeline_file_first(tmp_path, monkeypatch):
    here, hub = tmp_path / "pipelines", tmp_path / "torch/hub/checkpoints"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    stage = Sam.from_options({"model": "vit_l"}, base=here)
    for folder in (hub, tmp_path / "checkpoints", tmp_path / "weights", tmp_path, here / "weights", here):
        folder.mkdir(parents=True, exist_ok=True)
        content = str(folder).encode()
        (folder / "sam_vit_l_0b3195.pth").write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        monkeypatch.setitem(MODELS, "vit_l", replace(MODELS["vit_l"], bytes=len(content), sha256=sha256))
        assert stage.check() == []
        assert stage.checkpoint_path().resolve().parent == folder
        assert stage.model_id() == sha256


def test_missing_weights_say_which_file_from_where_and_to_where(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    [problem] = Sam(model="vit_h").check()
    assert "sam_vit_h_4b8939.pth (2565 MB) will be downloaded" in problem.message
    assert "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth" in problem.message
    assert str(tmp_path / "cache" / "weights") in problem.message
    assert str(tmp_path / "weights") in problem.hint
    assert problem.warning


def test_a_named_checkpoint_that_does_not_exist_is_a_problem(tmp_path):
    [problem] = Sam.from_options({"checkpoint": "gone.pth"}, base=tmp_path).check()
    assert str(tmp_path / "gone.pth") in problem.message
    with pytest.raises(PipelineError):
        Sam(checkpoint=tmp_path / "gone.pth").model_id()


def test_model_id_follows_the_files_content(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"one")
    first = Sam(checkpoint=path).model_id()
    assert first == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"other")
    assert Sam(checkpoint=path).model_id() == hashlib.sha256(b"other").hexdigest()


def test_where_the_weights_lie_and_the_device_do_not_enter_the_digest(tmp_path):
    assert Sam().digest() == Sam(checkpoint=tmp_path / "a.pth", device="cuda").digest()
    assert Sam().digest() != Sam(multimask="all").digest()


def test_larger_models_need_more_memory_and_the_fast_way_less():
    for fast in (True, False):
        base, large, huge = (Sam(model=name, fast=fast).memory_per_worker() for name in MODELS)
        assert base < large < huge
    assert all(Sam(model=name).memory_per_worker() < Sam(model=name, fast=False).memory_per_worker() for name in MODELS)


def test_checking_does_not_import_torch(tmp_path):
    code = (
        "import sys, maskmill_plugins.backends.sam as s; stage = s.Sam(); stage.check(); stage.accepts();"
        " stage.memory_per_worker(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_it_is_registered_as_sam_and_as_local():
    names = {}
    sam_plugin.register_backends(register=names.__setitem__)
    assert names == {"sam": Sam, "local": Sam}


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "stock"])
def test_a_prompt_can_pick_one_of_the_three_candidates(small, opened, fast):
    image = maskmill.testing.image(120, 160)
    asked = [BOX_INSIDE, replace(BOX_INSIDE, pick=2), replace(BOX_INSIDE, pick=0), POINT_INSIDE]
    candidates = opened(checkpoint=small, fast=fast, multimask="all").masks(image, [BOX_INSIDE])
    masks = opened(checkpoint=small, fast=fast).masks(image, asked)
    assert [mask.prompt for mask in masks] == asked
    assert [mask.rle for mask in masks[1:3]] == [candidates[2].rle, candidates[0].rle]
