"""The script that trains the small SAM: it learns, and what it saves is a checkpoint for `sam`."""

import importlib
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskmill import Box, Image, ImageRef, Point, Prompt
from maskmill_plugins.backends.sam import Sam

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
pytest.importorskip("segment_anything")

FOLDER = Path(__file__).parent / "data" / "scene_sam"
SCENE = Path(__file__).parent.parent / "datasets" / "scenes" / "images" / "000.jpg"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield importlib.import_module("train")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("MASKMILL_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(script, monkeypatch):
    """Run the script with options, as from the command line."""

    def main(*options):
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, options), "--threads", "1"])
        with torch.random.fork_rng():
            script.main()

    threads = cv2.getNumThreads()
    yield main
    cv2.setNumThreads(threads)


@pytest.fixture
def model(script):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield script.build_model()


def test_what_it_saves_is_a_checkpoint_for_sam(run, tmp_path, capsys):
    """One step on crops, one on whole pictures."""
    saved = tmp_path / "sam.pth"
    run("--output", saved, "--steps", 2, "--batch", 2, "--scenes", 6, "--dataset-scenes", 1, "--held-out", 1)
    assert capsys.readouterr().out.count("mean IoU on") == 2
    assert list(tmp_path.iterdir()) == [saved]
    content = torch.load(saved, weights_only=True)
    assert content["config"] == {"decoder_heads": 4}
    assert {tensor.dtype for tensor in content["model"].values()} == {torch.float16}
    committed = torch.load(FOLDER / "scene_sam.pth", weights_only=True)["model"]
    assert {name: tensor.shape for name, tensor in content["model"].items()} == {
        name: tensor.shape for name, tensor in committed.items()
    }

    sam = Sam(checkpoint=saved, device="cpu")
    sam.open()
    image = Image.load(ImageRef(str(SCENE), SCENE.name))
    prompts = [Prompt(box=Box(20, 20, 120, 90)), Prompt(points=(Point(50, 60, 1),))]
    masks = sam.masks(image, prompts, sam.embed(image))
    assert [mask.array.shape for mask in masks] == [(240, 320)] * 2
    assert all(np.isfinite(mask.score) for mask in masks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--output", FOLDER / "scene_sam.pth"], "must not exist"),
        (["--output", FOLDER / "nowhere" / "sam.pth"], "its folder must"),
        (["--scenes", "0"], "must be positive"),
        (["--minutes", "0"], "must be positive"),
        (["--seed", "-1"], "must not be negative"),
    ],
    ids=["file exists", "no folder", "no scenes", "no time", "negative seed"],
)
def test_mistakes_are_found_before_the_training(run, capsys, tmp_path, change, message):
    with pytest.raises(SystemExit, match="2"):
        run("--output", tmp_path / "sam.pth", *change)
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_scenes_without_objects_are_no_endless_loop(script, model):
    empty = script.Scene(np.zeros((256, 256, 3), np.uint8), np.zeros((256, 256), np.uint8))
    with pytest.raises(RuntimeError, match="draw more"):
        script.make_batch(np.random.default_rng(0), [empty], script.WHOLE, 1, 1, model)


def test_second_prompts_know_what_is_inside(script, model):
    """Every point has the label of the pixel it lies on; the first answer's errors are asked for."""
    scenes = script.draw_scenes(seed=2, first=0, count=6, side=256)
    random = np.random.default_rng(0)
    for _ in range(8):
        first = script.make_batch(random, scenes, script.WHOLE, 4, 6, model).prompts
        wrong = np.random.default_rng(1).random((24, 64, 64)) < 0.1
        second = script.make_second_prompts(random, first, wrong, script.WHOLE)
        assert second.points.shape[:2] == second.labels.shape
        for target, points, labels in zip(second.targets, second.points, second.labels, strict=True):
            kinds = set(labels.tolist())
            assert (script.NONE in kinds) != (script.CORNER in kinds)
            for point, label in zip(points.numpy(), labels.tolist(), strict=True):
                if label in {script.INSIDE, script.OUTSIDE}:
                    assert script.contains(target.mask, point) == (label == script.INSIDE)


def test_it_computes_what_segment_anything_computes(script, model):
    """The script has its own functions, for crops and for prompts of several pictures at once."""
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randn(2, 3, 256, 256, generator=generator)
    box = torch.tensor([[[30.0, 40.0], [90.0, 100.0]]])
    point = torch.tensor([[[50.0, 70.0], [0.0, 0.0]]])
    earlier = torch.randn(1, 1, 64, 64, generator=generator)
    with torch.no_grad():
        for name, table in model.image_encoder.named_parameters():
            if "rel_pos" in name:
                table.normal_(generator=generator)
        expected = model.image_encoder(pictures)
        embeddings = script.encode(model.image_encoder, pictures, script.WHOLE)
        torch.testing.assert_close(embeddings, expected)

        labels = torch.tensor([[script.CORNER, script.OPPOSITE], [script.INSIDE, script.NONE]])
        tokens = script.embed_points(model.prompt_encoder, torch.cat([box, point]), labels, script.WHOLE)
        use = torch.tensor([False, True])
        logits, scores = script.decode(model, embeddings, tokens, script.WHOLE, earlier.expand(2, -1, -1, -1), use)
        encoded = [
            model.prompt_encoder(None, box.reshape(1, 4), None),
            model.prompt_encoder((point[:, :1], torch.tensor([[1]])), None, earlier),
        ]
        for index, (sparse, dense) in enumerate(encoded):
            places = model.prompt_encoder.get_dense_pe()
            masks, iou = model.mask_decoder.predict_masks(expected[index : index + 1], places, sparse, dense)
            torch.testing.assert_close(logits[index : index + 1], masks, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(scores[index : index + 1], iou, atol=1e-4, rtol=1e-4)


def test_a_crop_keeps_its_place_in_the_whole_picture(script, model):
    """Else what is learned on crops would be wrong for whole pictures."""
    view = script.View(grid=8, top=3, left=5)
    labels, points = torch.tensor([[script.INSIDE]]), torch.tensor([[[20.0, 33.0]]])
    whole = points + torch.tensor([5 * 16.0, 3 * 16.0])
    in_crop = script.embed_points(model.prompt_encoder, points, labels, view)
    torch.testing.assert_close(in_crop, script.embed_points(model.prompt_encoder, whole, labels, script.WHOLE))

    picture = np.arange(256 * 200, dtype=np.int64).reshape(256, 200)
    cut = view.cut(script.Scene(picture, picture)).labels
    assert cut.shape == (128, 120)
    assert cut[33, 20] == picture[33 + 3 * 16, 20 + 5 * 16]


@pytest.mark.parametrize("grid", [8, 16], ids=["crop", "whole"])
def test_it_learns(script, model, grid):
    """The loss for the same pictures and prompts falls within a few steps."""
    scenes = script.draw_scenes(seed=3, first=0, count=3, side=256)
    head, view = script.DenseHead(), script.View(grid)
    optimizer = script.make_optimizer(model, head)

    def ask():
        torch.manual_seed(5)
        random = np.random.default_rng(5)
        return script.compute_loss(random, model, head, script.make_batch(random, scenes, view, 1, 4, model), view)

    losses = []
    for _ in range(6):
        loss, figures = ask()
        losses.append(figures["loss"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.85 * losses[0]


def test_the_loss_orders_masks_as_their_iou_does(script):
    """And what is beside the picture does not count."""
    truth, inside = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    truth[..., 4:16, 4:16] = 1
    inside[..., 24:] = 0
    beside = truth.clone()
    beside[..., 24:] = 1
    masks = torch.cat([truth, beside, truth.roll(1, 3), truth.roll(6, 3), torch.zeros_like(truth)], dim=1)
    losses, iou = script.measure_masks(masks * 20 - 10, truth, inside)
    torch.testing.assert_close(iou, torch.tensor([[1, 1, 11 / 13, 6 / 18, 0]]))
    exact, same, near, far, empty = losses[0].tolist()
    assert 0 <= exact == pytest.approx(same, abs=1e-3)
    assert exact + 0.05 < near < far - 0.05 < empty - 0.1


def test_scenes_are_exact_and_repeatable(script):
    first, again = (script.draw_scenes(seed=1, first=4, count=2, side=256) for _ in range(2))
    for scene, same in zip(first, again, strict=True):
        assert np.array_equal(scene.picture, same.picture)
        assert np.array_equal(scene.labels, same.labels)
        assert max(scene.labels.shape) == 256
        for target in script.list_targets(scene.labels, script.LEAST):
            (left, top), (right, bottom) = script.find_box(target.mask).astype(int)
            assert target.mask[top:bottom, left:right].sum() == target.mask.sum() >= script.LEAST // 2
            assert script.contains(target.mask, script.find_middle(target.mask))
