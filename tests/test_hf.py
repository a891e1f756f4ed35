"""The backend hf gives what transformers gives when it is called by hand, for each kind of model."""

import functools
import importlib.util

import numpy as np
import pytest
from PIL import Image as Picture

from maskmill import Box, Image, ImageError, Point, Prompt, PromptError

pytest.importorskip("transformers")
pytest.importorskip("segment_anything")
import torch

from maskmill_plugins.backends.hf import Hf
from maskmill_plugins.backends.hf.families import INSTANCES
from maskmill_plugins.backends.hf.instances import InstanceSegmenter
from maskmill_plugins.backends.hf.loading import load_image_processor, load_model

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_torch_thread")]

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="needs timm")
INSTANCE_KINDS = ("sam", "sam_hq", "sam2_video", "edgetam", "sam3_tracker")
KINDS = [pytest.param(kind, marks=needs_timm if kind == "edgetam" else ()) for kind in INSTANCE_KINDS]
CLASSES = {
    "sam": ("SamModel", "SamProcessor"),
    "sam_hq": ("SamHQModel", "SamHQProcessor"),
    "sam2_video": ("Sam2Model", "Sam2Processor"),
    "edgetam": ("EdgeTamModel", "Sam2Processor"),
    "sam3_tracker": ("Sam3TrackerModel", "Sam3TrackerProcessor"),
}
SHAPES = {"wide": (60, 100), "tall": (100, 45)}
PROMPTS = {
    "box": Prompt(box=Box(0.2, 0.2, 0.7, 0.8)),
    "point": Prompt(points=[[0.4, 0.5]]),
    "points": Prompt(points=[[0.4, 0.5], [0.6, 0.3, 1], [0.1, 0.9, 0]]),
    "box and points off the object": Prompt(box=Box(0.1, 0.1, 0.9, 0.8), points=[[0.3, 0.3, 0], [0.5, 0.6, 0]]),
}


@functools.cache
def load_by_hand(folder, kind):
    import transformers

    model, processor = (getattr(transformers, name) for name in CLASSES[kind])
    return model.from_pretrained(folder).eval(), processor.from_pretrained(folder)


def compute_by_hand(folder, kind, pixels, prompt, three, **options):
    """Full-size logits (k, H, W) and scores (k,), by the calls that transformers' documentation shows."""
    model, processor = load_by_hand(folder, kind)
    given = {}
    if prompt.points:
        given["input_points"] = [[[[point.x, point.y] for point in prompt.points]]]
        given["input_labels"] = [[[point.label for point in prompt.points]]]
    if prompt.box:
        given["input_boxes"] = [[list(prompt.box.xyxy)]]
    inputs = processor(images=np.array(pixels), return_tensors="pt", input_data_format="channels_last", **given)
    sizes = [inputs.pop(name) for name in ("original_sizes", "reshaped_input_sizes") if name in inputs]
    with torch.no_grad():
        out = model(**inputs, multimask_output=three, **options)
    masks = processor.post_process_masks(out.pred_masks, *sizes, binarize=False)[0]
    return masks[0].numpy(), out.iou_scores[0, 0].numpy()


def make_image(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    return Image.from_array(np.array(Picture.fromarray(pixels).resize((width, height), Picture.Resampling.BICUBIC)))


def assert_equal(mask, logits, score, tolerance=1e-4):
    """The mask is where the logits are positive, except where they are within rounding of zero."""
    differs = mask.array != (logits > 0)
    assert not (differs & (np.abs(logits) > tolerance)).any()
    assert differs.mean() < 1e-3
    assert mask.score == pytest.approx(float(np.clip(score, -0.2, 1.2)), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_masks_are_those_of_transformers(kind, shape, opened_hf, hf_folders):
    image = make_image(*shape)
    prompts = [prompt.to_pixels(*image.size) for prompt in PROMPTS.values()]
    found = opened_hf(kind).masks(image, prompts)
    assert [mask.prompt for mask in found] == prompts
    some = 0
    for mask, prompt in zip(found, prompts, strict=True):
        is_point = len(prompt.points) == 1 and prompt.box is None
        logits, scores = compute_by_hand(hf_folders(kind), kind, image.pixels, prompt, three=is_point)
        best = int(np.argmax(scores))
        assert_equal(mask, logits[best], scores[best])
        some += 0 < mask.area < image.height * image.width
    assert some, "the masks of this model are not worth comparing"


@pytest.mark.parametrize("kind", KINDS)
def test_three_candidates_come_in_the_models_order(kind, opened_hf, hf_folders):
    image = make_image(60, 100)
    prompt = PROMPTS["box"].to_pixels(*image.size)
    logits, scores = compute_by_hand(hf_folders(kind), kind, image.pixels, prompt, three=True)
    for mask, one, score in zip(opened_hf(kind, multimask="all").masks(image, [prompt]), logits, scores, strict=True):
        assert_equal(mask, one, score)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pick_takes_one_of_the_candidates_if_they_have_an_order(kind, opened_hf, hf_folders):
    image = make_image(60, 100)
    prompt = Prompt(box=PROMPTS["box"].to_pixels(*image.size).box, pick=1)
    if kind == "sam_hq":
        with pytest.raises(PromptError, match="sorts its candidates by predicted IoU"):
            opened_hf(kind).masks(image, [prompt])
        return
    logits, scores = compute_by_hand(hf_folders(kind), kind, image.pixels, prompt, three=True)
    (mask,) = opened_hf(kind).masks(image, [prompt])
    assert_equal(mask, logits[1], scores[1])


def test_the_high_quality_token_alone(opened_hf, hf_folders):
    image = make_image(60, 100)
    prompt = PROMPTS["box"].to_pixels(*image.size)
    logits, scores = compute_by_hand(hf_folders("sam_hq"), "sam_hq", image.pixels, prompt, False, hq_token_only=True)
    (mask,) = opened_hf("sam_hq", hq_token_only=True).masks(image, [prompt])
    assert_equal(mask, logits[0], scores[0])
    assert mask.counts != opened_hf("sam_hq").masks(image, [prompt])[0].counts


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_depends_neither_on_the_other_prompts_nor_on_the_chunk(kind, opened_hf, hf_folders):
    image, rng = make_image(90, 70), np.random.default_rng(1)
    prompts = [prompt.to_pixels(*image.size) for prompt in PROMPTS.values()]
    for x, y in rng.uniform(0, 30, (4, 2)):
        prompts.append(Prompt(box=Box(x, y, x + 25, y + 30)))
    backend = opened_hf(kind)
    embedding = backend.embed(image)
    together = backend.masks(image, prompts, embedding)
    assert together == [mask for prompt in prompts for mask in backend.masks(image, [prompt], embedding)]
    family, folder = INSTANCES[kind], hf_folders(kind)
    model = load_model(folder, family, torch.device("cpu"))
    chunks = InstanceSegmenter(model, load_image_processor(folder, family), family, batch_size=16)
    for one, other in zip(together, chunks.masks(embedding, image.size, prompts, "auto"), strict=True):
        assert other.prompt == one.prompt
        assert np.count_nonzero(one.array != other.array) <= 2
        assert other.score == pytest.approx(one.score, abs=1e-5)


def test_a_picture_too_narrow_for_a_padded_input_is_refused(opened_hf):
    image = Image.from_array(np.zeros((1, 1000, 3), np.uint8))
    with pytest.raises(ImageError, match="too long and narrow"):
        opened_hf("sam").masks(image, [Prompt(box=Box(0, 0, 500, 1))])
    assert len(opened_hf("sam2_video").masks(image, [Prompt(box=Box(0, 0, 500, 1))])) == 1


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("kind", ["sam_hq", "sam2_video"])
def test_cached_embeddings_give_the_same_masks(kind, precision, hf_folders, tmp_path):
    backend = Hf(model=str(hf_folders(kind)), device="cpu", cache=tmp_path, cache_precision=precision)
    backend.open()
    image = make_image(60, 100)
    prompts = [prompt.to_pixels(*image.size) for prompt in PROMPTS.values()]
    first = backend.masks(image, prompts)
    stored = list((tmp_path / "embeddings").glob("*.npz"))
    backend._segmenter.embed = None  # it must not be called again
    assert backend.masks(image, prompts) == first
    assert list((tmp_path / "embeddings").glob("*.npz")) == stored
    assert len(stored) == 1


@pytest.mark.parametrize("kind", ["sam", "sam2_video"])
def test_everything_mode_finds_what_the_generator_finds(kind, opened_hf, hf_folders):
    """The published generator's steps with transformers' masks: thresholds, then suppression of similar boxes."""
    from torchvision.ops import nms

    from maskmill import Grid
    from maskmill.masks import stability_score

    image = make_image(80, 120)
    grid = Grid(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.3, box_nms_thresh=0.5)
    kept = []
    for y in range(4):
        for x in range(4):
            point = Prompt(points=[Point((x + 0.5) * 30, (y + 0.5) * 20)])
            logits, scores = compute_by_hand(hf_folders(kind), kind, image.pixels, point, three=True)
            for one, score in zip(logits, scores, strict=True):
                if score > 0 and stability_score(one) >= 0.3 and (one > 0).any():
                    rows, columns = np.nonzero(one > 0)
                    kept.append((score, [columns.min(), rows.min(), columns.max(), rows.max()], one))
    boxes = torch.tensor(np.array([box for _, box, _ in kept]), dtype=torch.float)
    order = nms(boxes, torch.tensor([float(score) for score, _, _ in kept]), 0.5).tolist()
    found = [mask for mask in opened_hf(kind).masks(image, [Prompt(grid=grid)]) if mask.area]
    assert len(found) == len(order) > 0
    for mask, index in zip(found, order, strict=True):
        assert_equal(mask, kept[index][2], kept[index][0])


def test_models_without_a_published_generator_refuse_everything_mode(opened_hf):
    assert "everything" not in opened_hf("sam_hq").accepts() | opened_hf("sam3_tracker").accepts()
