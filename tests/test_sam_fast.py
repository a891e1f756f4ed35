"""The fast implementation of the `sam` backend against `segment_anything`'s own: the same numbers, to rounding."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import small_sam

from maskmill import Box, Mask, Point, Prompt

torch = pytest.importorskip("torch")

from maskmill.masks import stability_score  # noqa: E402
from maskmill_plugins._shared.sam.decoder import MAX_TOKENS, select_masks  # noqa: E402
from maskmill_plugins._shared.sam.upsample import Upsampler, encode_part  # noqa: E402
from maskmill_plugins.backends.sam.model.decoder import make_decoder  # noqa: E402
from maskmill_plugins.backends.sam.model.encoder import FastEncoder  # noqa: E402
from maskmill_plugins.backends.sam.model.loading import load_model  # noqa: E402
from maskmill_plugins.backends.sam.segment.fast import FastSegmenter  # noqa: E402
from maskmill_plugins.backends.sam.segment.stock import StockSegmenter  # noqa: E402

pytestmark = pytest.mark.torch

EMBEDDING, LOGITS = 2e-5, 1e-5
SIZE = (200, 320)
PROMPTS = {
    "box": Prompt(box=Box(40, 30, 200.5, 150)),
    "one point": Prompt(points=(Point(100, 80),)),
    "points": Prompt(points=(Point(100, 80), Point(61.5, 140))),
    "negative points": Prompt(points=(Point(100, 80), Point(200, 150, 0), Point(10, 10, 0))),
    "only negative": Prompt(points=(Point(100, 80, 0),)),
    "box and points": Prompt(points=(Point(100, 80), Point(90, 50, 0)), box=Box(40, 30, 200, 150)),
    "very many points": Prompt(points=tuple(Point(10 * n, 5 * n, n % 2) for n in range(MAX_TOKENS))),
}
SIZES = {"wide": (200, 320), "tall": (301, 77), "small": (40, 40), "thin": (5, 400), "square": (256, 256)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def sam():
    return small_sam.seeded()


@pytest.fixture(scope="module")
def both(sam):
    return FastSegmenter(sam), StockSegmenter(sam)


def sparse_embeddings(sam, count: int, points: int, boxes: bool):
    generator = torch.Generator().manual_seed(count + points)
    side = small_sam.SIDE
    coordinates = torch.rand(count, points, 2, generator=generator) * side
    labels = torch.randint(0, 2, (count, points), generator=generator)
    corners = torch.rand(count, 2, 2, generator=generator).sort(1).values.flatten(1) * side
    with torch.no_grad():
        given = (coordinates, labels) if points else None
        return sam.prompt_encoder(points=given, boxes=corners if boxes else None, masks=None)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_embedding_equals_the_stock_encoders(both, size):
    fast, stock = both
    pixels = small_sam.photo(*size)
    expected = stock.embed(pixels)
    found = fast.embed(pixels)
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert expected.std() > 0.5
    assert np.abs(found - expected).max() < EMBEDDING


def test_a_second_image_is_not_disturbed_by_the_first(sam):
    encoder = FastEncoder(sam.image_encoder)
    first, second = (torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(n)) for n in range(2))
    expected = FastEncoder(sam.image_encoder)(second)
    kept = encoder(first)
    copy = kept.clone()
    assert torch.equal(encoder(second), expected)
    assert torch.equal(kept, copy)


@pytest.mark.parametrize("wanted", ["one", "three"])
@pytest.mark.parametrize(
    ("points", "boxes"),
    [(0, True), (1, True), (1, False), (4, True), (4, False), (MAX_TOKENS, False)],
    ids=["box", "box and point", "point", "box and points", "points", "very many points"],
)
def test_low_resolution_logits_equal_the_stock_decoders(sam, points, boxes, wanted):
    embedding = torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(3))
    sparse, dense = sparse_embeddings(sam, 3, points, boxes)
    with torch.no_grad():
        logits, scores = sam.mask_decoder(
            embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=wanted == "three"
        )
    decoder = make_decoder(sam)
    found_logits, found_scores = decoder(decoder.prepare_image(embedding), sparse, wanted)
    assert found_logits.shape == logits.shape
    assert (found_logits - logits).abs().max() < LOGITS
    assert (found_scores - scores).abs().max() < LOGITS


def test_best_makes_the_mask_with_the_best_predicted_iou(sam):
    embedding = torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(4))
    sparse, _ = sparse_embeddings(sam, 16, 1, False)
    decoder = make_decoder(sam)
    image = decoder.prepare_image(embedding)
    logits, scores = decoder(image, sparse, "three")
    best_logits, best_scores = decoder(image, sparse, "best")
    best = scores.argmax(1)
    assert torch.equal(best_scores[:, 0], scores.max(1).values)
    assert (best_logits[:, 0] - logits[range(16), best]).abs().max() < LOGITS


@pytest.mark.parametrize(
    ("wanted", "expected"), [("one", [[0], [0]]), ("three", [[1, 2, 3], [1, 2, 3]]), ("best", [[2], [1]])]
)
def test_mask_0_is_for_clear_prompts_and_the_others_are_candidates(wanted, expected):
    scores = torch.tensor([[9.0, 1, 3, 2], [9, 3, 1, 2]])
    assert select_masks(scores, wanted).tolist() == expected


@pytest.mark.parametrize("at_a_time", [1, 4, 16])
def test_results_do_not_depend_on_how_many_are_decoded_together(sam, at_a_time):
    embedding = torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(5))
    sparse, _ = sparse_embeddings(sam, 16, 2, True)
    decoder = make_decoder(sam)
    image = decoder.prepare_image(embedding)
    alone, _ = decoder(image, sparse, "three")
    parts = [decoder(image, part, "three")[0] for part in sparse.split(at_a_time)]
    assert (torch.cat(parts) - alone).abs().max() < LOGITS


@pytest.mark.parametrize("multimask", ["off", "all", "auto"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_masks_equal_the_stock_ones_but_for_logits_at_the_threshold(both, size, multimask):
    fast, stock = both
    pixels = small_sam.photo(*size)
    prompts = [stretched(prompt, size) for prompt in PROMPTS.values()]
    embedding = stock.embed(pixels)
    expected = stock.masks(embedding, size, prompts, multimask)
    found = fast.masks(fast.embed(pixels), size, prompts, multimask)
    assert [mask.prompt for mask in found] == [mask.prompt for mask in expected]
    for mask, other in zip(found, expected, strict=True):
        assert mask.score == pytest.approx(other.score, abs=1e-5)
        assert mask.stability == pytest.approx(other.stability, abs=1e-4)
        assert differing_beyond_rounding(stock, embedding, size, mask, other, multimask) == 0
    assert any(0 < mask.array.mean() < 1 for mask in found)


def stretched(prompt, size):
    """The same prompt on an image of another size than SIZE."""
    down, right = size[0] / SIZE[0], size[1] / SIZE[1]
    points = tuple(Point(point.x * right, point.y * down, point.label) for point in prompt.points)
    x1, y1, x2, y2 = prompt.box.xyxy if prompt.box else (0, 0, 1, 1)
    return Prompt(points=points, box=Box(x1 * right, y1 * down, x2 * right, y2 * down) if prompt.box else None)


def differing_beyond_rounding(stock, embedding, size, mask, other, multimask) -> int:
    """How many pixels differ whose logit is not within rounding of the threshold."""
    differs = mask.array != other.array
    if not differs.any():
        return 0
    stock._set_embedding(embedding, size)
    points, prompt = mask.prompt.points, mask.prompt
    logits, _, _ = stock.predictor.predict(
        np.array([[p.x, p.y] for p in points]) if points else None,
        np.array([p.label for p in points]) if points else None,
        np.array(prompt.box.xyxy) if prompt.box else None,
        multimask_output=multimask != "off",
        return_logits=True,
    )
    return int((differs & (np.abs(logits).min(0) >= LOGITS)).sum())


def test_mixed_prompts_come_back_in_their_order_whatever_the_chunk(sam):
    rng = np.random.default_rng(0)
    kinds = list(PROMPTS.values())
    prompts = [kinds[number] for number in rng.integers(0, len(kinds), 40)]
    chunks = {count: FastSegmenter(sam, batch_size=count) for count in (1, 3, 16)}
    embedding = chunks[1].embed(small_sam.photo(*SIZE))
    found = {count: segmenter.masks(embedding, SIZE, prompts, "auto") for count, segmenter in chunks.items()}
    assert [mask.prompt for mask in found[1]] == prompts
    for masks in (found[3], found[16]):
        for mask, alone in zip(masks, found[1], strict=True):
            assert mask.prompt is alone.prompt
            assert mask.score == pytest.approx(alone.score, abs=1e-5)
            assert (mask.array != alone.array).sum() <= 2


def test_on_a_cpu_a_prompts_mask_does_not_depend_on_its_neighbours(both):
    fast, _ = both
    embedding = fast.embed(small_sam.photo(*SIZE))
    prompts = list(PROMPTS.values())
    together = fast.masks(embedding, SIZE, prompts, "auto")
    assert together == [fast.masks(embedding, SIZE, [prompt], "auto")[0] for prompt in prompts]


def stock_upscaling(logits, input_side, inside, size):
    interpolate = torch.nn.functional.interpolate
    large = interpolate(logits[None, None], (input_side, input_side), mode="bilinear", align_corners=False)
    large = large[..., : inside[0], : inside[1]]
    return interpolate(large, size, mode="bilinear", align_corners=False)[0, 0].numpy()


@pytest.mark.parametrize("shift", [0, 2, 6, 30], ids=["everywhere", "regions", "spots", "nowhere"])
@pytest.mark.parametrize("size", [*SIZES.values(), (427, 640), (2000, 1300)], ids=str)
def test_upscaling_and_encoding_a_crop_equal_the_whole(size, shift):
    scale = 256 / max(size)
    inside = (int(size[0] * scale + 0.5), int(size[1] * scale + 0.5))
    spots = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(sum(size)))
    logits = torch.nn.functional.interpolate(spots, (64, 64), mode="bicubic")[0, 0] * 5 - shift
    expected = stock_upscaling(logits, 256, inside, size)
    crop = Upsampler(64, 256, inside, size).crop(logits, -1.0)
    area = (slice(crop.top, crop.top + crop.logits.shape[1]), slice(crop.left, crop.left + crop.logits.shape[0]))
    whole = np.full(size, -np.inf)
    whole[area] = crop.logits.T
    outside = np.isneginf(whole)
    assert np.all(expected[outside] <= -1 + LOGITS)
    assert np.abs(whole - expected)[~outside].max(initial=0) < LOGITS
    assert crop.encode_rle(0.0) == Mask.from_array(whole > 0).counts
    assert crop.compute_stability(0.0) == pytest.approx(stability_score(expected), abs=1e-3)


def test_run_lengths_of_a_part_are_pycocotools_own():
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width = (int(n) for n in rng.integers(1, 12, 2))
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        part = rng.random((rng.integers(0, width - left + 1), rng.integers(0, height - top + 1)))
        part = part < rng.choice([0, 0.3, 0.7, 1])
        whole = np.zeros((height, width), dtype=bool)
        whole[top : top + part.shape[1], left : left + part.shape[0]] = part.T
        assert encode_part(part, left, top, (height, width)) == Mask.from_array(whole).counts


def mapped_at(address: int) -> list[Path]:
    """The file that is mapped at this address of the process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, _, end = line.split()[0].partition("-")
        if int(start, 16) <= address < int(end, 16):
            return [Path(name) for name in line.split(maxsplit=5)[5:]]
    return []


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is mapped")
def test_weights_are_mapped_from_the_file_and_shared_with_the_fast_way(sam, tmp_path, monkeypatch):

    path = small_sam.save(sam, tmp_path / "small.pth")
    loaded = load_model(path)
    assert all(path in mapped_at(parameter.data_ptr()) for parameter in loaded.parameters())
    segmenter = FastSegmenter(loaded)
    before = path.read_bytes()
    segmenter.masks(segmenter.embed(small_sam.photo(64, 64)), (64, 64), [Prompt(points=(Point(9, 9),))], "auto")
    assert path.read_bytes() == before
    assert segmenter.encoder.blocks[0].qkv.weight is loaded.image_encoder.blocks[0].attn.qkv.weight


def test_an_encoder_of_another_build_is_refused(sam):
    from segment_anything.modeling import ImageEncoderViT

    with pytest.raises(ValueError, match="not an encoder of SAM"):
        FastEncoder(ImageEncoderViT(img_size=64, embed_dim=16, depth=1, num_heads=2))
