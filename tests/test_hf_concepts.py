"""SAM 3 in the backend hf: all objects of a text, as transformers finds them."""

import numpy as np
import pytest
from PIL import Image as Picture

from maskmill import Image, Prompt, PromptError
from maskmill.plugins.stage import collecting

pytest.importorskip("transformers")
import torch

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_torch_thread")]
#: Random weights give small scores, of which a part is above it.
THRESHOLD = 0.2
TEXTS = ("a red cat", "person", "a very small traffic light")


@pytest.fixture(scope="module")
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.from_array(np.array(Picture.fromarray(pixels).resize((150, 90), Picture.Resampling.BICUBIC)))


@pytest.fixture(scope="module")
def by_hand(hf_folders, image):
    """The objects of each text, by the calls that transformers' documentation shows, one whole call a text."""
    import transformers

    model = transformers.Sam3Model.from_pretrained(hf_folders("sam3")).eval()
    processor = transformers.Sam3Processor.from_pretrained(hf_folders("sam3"))

    def find(text, **boxes):
        inputs = processor(images=np.array(image.pixels), text=text, return_tensors="pt", **boxes)
        sizes = inputs["original_sizes"].tolist()
        with torch.no_grad():
            out = model(**{name: value for name, value in inputs.items() if name != "original_sizes"})
        options = {"threshold": THRESHOLD, "target_sizes": sizes}
        return processor.post_process_instance_segmentation(out, **options)[0]

    return find


def assert_equal(found, expected):
    assert len(found) == len(expected["scores"]) > 0
    for mask, other, score in zip(found, expected["masks"], expected["scores"], strict=True):
        assert np.count_nonzero(mask.array != other.numpy().astype(bool)) <= 2
        assert mask.score == pytest.approx(float(score), abs=1e-5)


def test_objects_of_several_texts_come_from_one_pass_of_the_image(opened_hf, image, by_hand):
    backend = opened_hf("sam3", threshold=THRESHOLD)
    assert backend.accepts() == {"text", "exemplars"}
    embedding = backend.embed(image)
    backend._segmenter.embed, embed = None, backend._segmenter.embed  # it must not be called again
    try:
        prompts = [Prompt(text=text, label=text.split()[-1]) for text in TEXTS]
        found = backend.masks(image, prompts, embedding)
    finally:
        backend._segmenter.embed = embed
    for prompt in prompts:
        assert_equal([mask for mask in found if mask.prompt is prompt], by_hand(prompt.text))
    assert {mask.label for mask in found} == {"cat", "person", "light"}


@pytest.mark.parametrize("text", ["a red cat", None], ids=["with-text", "alone"])
def test_exemplars_find_what_transformers_finds(opened_hf, image, by_hand, text):
    boxes, labels = [[10, 20, 60, 70], [80, 5, 140, 85.5], [0, 0, 150, 30]], [1, 1, 0]
    given = [[*box, label] for box, label in zip(boxes, labels, strict=True)]
    prompt = Prompt(text=text, exemplars=given, label="thing")
    found = opened_hf("sam3", threshold=THRESHOLD).masks(image, [Prompt(text="person"), prompt])
    expected = by_hand(text, input_boxes=[boxes], input_boxes_labels=[labels])
    assert_equal([mask for mask in found if mask.prompt is prompt], expected)
    assert [mask.counts for mask in found if mask.prompt is prompt] != [
        mask.counts for mask in opened_hf("sam3", threshold=THRESHOLD).masks(image, [Prompt(text=text or "visual")])
    ]


def test_a_text_that_is_too_long_is_named(opened_hf, image):
    with pytest.raises(PromptError, match="tokens, and SAM 3 reads 32 at most"):
        opened_hf("sam3", threshold=THRESHOLD).masks(image, [Prompt(text="word " * 40)])


def test_when_every_query_found_something_the_result_is_doubtful(opened_hf, image):
    doubts = []
    with collecting({}, doubts=doubts):
        opened_hf("sam3", threshold=0.0).masks(image, [Prompt(text="cat")])
    assert [doubt.code for doubt in doubts] == ["truncated"]
    assert "10 at most" in doubts[0].message


def test_nothing_above_the_threshold_is_no_mask(opened_hf, image):
    assert opened_hf("sam3", threshold=1.0).masks(image, [Prompt(text="cat")]) == []


def test_sixty_concepts_on_one_picture_are_each_found_as_if_alone(opened_hf, image):
    backend = opened_hf("sam3", threshold=THRESHOLD)
    prompts = [Prompt(text=f"{text} number {number}", label=str(number)) for number in range(20) for text in TEXTS]
    embedding = backend.embed(image)
    found = backend.masks(image, prompts, embedding)
    assert [mask.prompt for mask in found] == sorted((mask.prompt for mask in found), key=prompts.index)
    assert {mask.prompt for mask in found} == set(prompts)
    for prompt in (prompts[0], prompts[31], prompts[59]):
        alone = backend.masks(image, [prompt], embedding)
        together = [mask for mask in found if mask.prompt is prompt]
        assert [(mask.counts, mask.score) for mask in together] == [(mask.counts, mask.score) for mask in alone]
