"""From a model's coordinates to pixels: every family and shape, corrected and dropped objects."""

import random
import time

import pytest

from maskmill_plugins.prompts.qwen.coordinates.convert import (
    MAX_PIXELS,
    choose_send_size,
    convert_to_image,
    find_far_corner,
)
from maskmill_plugins.prompts.qwen.coordinates.families import DEFAULT_MODEL, FAMILIES, find_family
from maskmill_plugins.prompts.qwen.reply.parse import FoundObject, parse_reply

#: Width and height, as people say them.
SHAPES = [(4000, 300), (300, 4000), (1024, 1024), (37, 53)]
MODELS = [
    ("qwen3.7-plus", "rel1000"),
    ("qwen2.5-vl-7b-instruct", "abs_sent"),
    ("qwen-vl-max-2025-08-13", "abs_sent"),
]


def box(x1, y1, x2, y2, name="thing"):
    return FoundObject((name,), (float(x1), float(y1), float(x2), float(y2)))


def server_resize(size, grid):
    """What a model that answers in absolute pixels does to a picture before it looks."""
    return tuple(max(grid, round(side / grid) * grid) for side in size)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "{}×{}".format(*shape))
@pytest.mark.parametrize(("model", "convention"), MODELS)
def test_boxes_come_back_within_a_pixel(model, convention, shape):
    """The model sees an object in the picture as it is sent, and answers as its family does, in integers."""
    width, height = shape
    family = find_family(model)
    assert family.coords == convention
    sent = choose_send_size((height, width), family.coords, family.grid)
    if convention == "abs_sent":
        assert server_resize(sent, family.grid) == sent, "nothing is left for the server to resize"
    unit_x, unit_y = (1000, 1000) if convention == "rel1000" else (sent[1], sent[0])
    rng = random.Random(f"{model} {shape}")
    for _ in range(20):
        x1, y1 = rng.randrange(unit_x // 2), rng.randrange(unit_y // 2)
        told = [x1, y1, rng.randint(x1 + unit_x // 4, unit_x), rng.randint(y1 + unit_y // 4, unit_y)]
        units = (unit_x, unit_y, unit_x, unit_y)
        truth = [side / unit * whole for side, unit, whole in zip(told, units, (width, height) * 2, strict=True)]
        reading = parse_reply(f'[{{"bbox_2d": {told}, "label": "thing"}}]')
        ((found,), counts) = convert_to_image(reading.found, family.coords, (height, width), sent)
        assert found.box == pytest.approx(truth, abs=1)
        assert not counts


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1), (2, 4000), (20000, 30000), (10, 100000), (33, 33)], ids=str)
@pytest.mark.parametrize("convention", ["rel1000", "abs_sent", "abs_original"])
@pytest.mark.parametrize("grid", [28, 32])
def test_what_is_sent_suits_the_model(shape, convention, grid):
    height, width = choose_send_size(shape, convention, grid)
    assert height * width <= MAX_PIXELS * 1.01
    assert min(height, width) >= grid
    assert max(height, width) / min(height, width) < 200
    if convention == "abs_sent":
        assert height % grid == width % grid == 0
    elif shape == (1024, 1024):
        assert (height, width) == shape, "what fits is not touched"


def test_width_and_height_have_factors_of_their_own():
    sent = (100, 400)
    assert find_far_corner("abs_sent", (50, 100), sent) == (400, 100)
    ((found,), _) = convert_to_image([box(40, 40, 80, 80)], "abs_sent", (50, 100), sent)
    assert found.box == (10, 20, 20, 40)
    ((found,), _) = convert_to_image([FoundObject(points=((40.0, 40.0, 0),))], "abs_sent", (50, 100), sent)
    assert found.points == ((10, 20, 0),)


def cleaned(*found, size=(1000, 1000)):
    """What remains, with its counts."""
    kept, counts = convert_to_image(found, "rel1000", size, size)
    return [one.box or one.points for one in kept], dict(counts)


def test_boxes_are_clipped():
    assert cleaned(box(-50, 900, 40, 1200)) == ([(0, 900, 40, 1000)], {"clipped": 1})


def test_what_lies_outside_is_left_out():
    assert cleaned(box(1100, 0, 1200, 50)) == ([], {"outside": 1})
    assert cleaned(FoundObject(points=((5.0, 5.0, 1), (1001.0, 5.0, 0)))) == ([((5, 5, 1),)], {"outside": 1})
    assert cleaned(FoundObject(points=((-1.0, 5.0, 1),))) == ([], {"outside": 1})


@pytest.mark.parametrize(
    "sliver", [box(44, 91, 901, 92), box(5, 5, 5, 50), box(0, 0, 0, 0)], ids=["low", "flat", "dot"]
)
def test_slivers_are_left_out(sliver):
    assert cleaned(sliver, box(1, 1, 50, 50)) == ([(1, 1, 50, 50)], {"sliver": 1})


def test_boxes_smaller_than_a_pixel_are_slivers():
    assert cleaned(box(0, 0, 10, 500), size=(40, 40)) == ([], {"sliver": 1})


def test_what_was_told_before_is_left_out():
    near = box(101, 100, 200, 201)
    assert cleaned(box(100, 100, 200, 200), near, box(100, 100, 200, 200)) == ([(100, 100, 200, 200)], {"duplicate": 2})
    assert len(cleaned(box(100, 100, 200, 200), box(130, 100, 230, 200))[0]) == 2
    assert len(cleaned(box(100, 100, 200, 200, "car"), box(100, 100, 200, 200, "dog"))[0]) == 2
    point = FoundObject(points=((5.0, 5.0, 1),))
    assert cleaned(point, point) == ([((5, 5, 1),)], {"duplicate": 1})


def test_a_loop_leaves_one_of_each():
    loop = [box(10, 10, 50, 50), box(60, 60, 90, 90)] * 5000
    begun = time.perf_counter()
    assert cleaned(*loop) == ([(10, 10, 50, 50), (60, 60, 90, 90)], {"duplicate": 9998})
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize(
    ("model", "convention"),
    [
        (DEFAULT_MODEL, "rel1000"),
        ("Qwen/Qwen3-VL-8B-Instruct-FP8", "rel1000"),
        ("hf.co/unsloth/Qwen3-VL-8B-Instruct-GGUF:Q4_K_M", "rel1000"),
        ("Qwen3VL-8B-Instruct-Q4_K_M", "rel1000"),
        ("qwen3-vl:8b", "rel1000"),
        ("qwen3.5:4b", "rel1000"),
        ("C:\\models\\Qwen3_VL\\", "rel1000"),
        ("qwen2.5vl:7b", "abs_sent"),
        ("/models/Qwen2.5-VL-7B-Instruct/", "abs_sent"),
        ("qwen-vl-max-2025-08-13", "abs_sent"),
        ("qwen2-vl-7b-instruct", "rel1000"),
        ("Qwen/Qwen-VL-Chat", "rel1000"),
    ],
)
def test_a_models_name_tells_what_its_coordinates_mean(model, convention):
    assert find_family(model).coords == convention


@pytest.mark.parametrize("model", ["qwen-turbo", "qwen3:4b", "qwen2.5:0.5b", "Qwen/Qwen3-8B", "qwen-max-latest"])
def test_models_of_text_alone_have_no_coordinates(model):
    assert find_family(model).coords is None
    assert find_family(model).api == "text"


@pytest.mark.parametrize(
    "model", ["llava-7b", "qwen-vl-max", "qwen4-plus", "qwen2.5-omni-7b", "qwen3-omni-flash", "", "/"]
)
def test_nothing_is_guessed_about_other_models(model):
    assert find_family(model) is None


def test_no_row_of_the_table_is_hidden_by_another():
    for family in FAMILIES:
        name = family.pattern.replace("[-:]*", "-x").replace("[5-9]", "7").replace("*", "")
        assert find_family(name) == family


@pytest.mark.parametrize(
    ("model", "convention"),
    [
        ("unsloth-Qwen3-VL-8B-Instruct-Q4_K_M.gguf", "rel1000"),
        ("hf.co/unsloth/Qwen3-VL-8B-Instruct-GGUF:Q4_K_M", "rel1000"),
        ("bartowski_Qwen_Qwen2.5-VL-7B-Instruct-GGUF", "abs_sent"),
        ("mlx-community/Qwen2.5-VL-3B-Instruct-4bit", "abs_sent"),
        ("qwen3_8-27b", "rel1000"),
        ("qwen3-8-27b", "rel1000"),
        ("Qwen/Qwen3_6-35b-a3b", "rel1000"),
        ("qwen2_5-vl-7b", "abs_sent"),
        ("qwen2-5-vl-7b", "abs_sent"),
    ],
)
def test_quantised_and_renamed_models_are_recognised(model, convention):
    assert find_family(model).coords == convention


@pytest.mark.parametrize(
    "model",
    [
        *("qwen3.5-coder", "qwen3-coder-plus", "qwen3.6-coder-30b", "qwen3-asr-flash", "qwen3.5-asr", "qwen2-audio-7b"),
        *("qwen3-tts", "qwen3.5-math", "qwen-mt-plus", "qwen3-vl-embedding-8b", "Qwen3-VL-Reranker-2B"),
        *("qwen2.5-coder:7b", "unsloth-Qwen3-Coder-30B.gguf", "qwen3-8b", "qwen3_8b", "qwen3-4b"),
    ],
)
def test_models_that_do_not_see_are_refused(model):
    assert find_family(model).coords is None


@pytest.mark.parametrize("model", ["deepseek-r1-distill-qwen-7b", "internvl-qwen2.5-7b", "llava-qwen3-vl", "gpt-asr"])
def test_models_of_others_stay_unknown(model):
    assert find_family(model) is None
