"""What plugins hand over is checked where it enters: pixels, scores, labels, boxes, whoever asked for them."""

import reprlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import maskmill
from maskmill import Box, Grid, ImageError, Mask, Point, Prompt, PromptError, testing
from maskmill.chain.chain import Chain
from maskmill.chain.contract import check_label, check_mask, check_prompt
from maskmill.chain.plugin_call import StepError
from maskmill.images import Image
from maskmill.masks import count_pixels
from maskmill.plugins.registry import Registry
from maskmill.plugins.roles import Stages
from maskmill_plugins._shared.http.wire import MaskModel

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=30)
MASK = Mask.from_array(np.eye(6, 8, dtype=bool), prompt=Prompt(box=Box(0, 0, 8, 6), label="cat"))


@given(hnp.arrays(hnp.floating_dtypes() | hnp.complex_number_dtypes(), SHAPES))
def test_any_float_array_is_refused_with_what_to_write(array):
    for call in (Mask.from_array, MASK.with_array):
        with pytest.raises(ValueError, match=r"array > 0\.5"):
            call(array)


@given(hnp.arrays(bool, SHAPES), st.sampled_from([1, 2, 127]), hnp.integer_dtypes() | hnp.unsigned_integer_dtypes())
def test_a_mask_in_equals_a_mask_out(array, value, dtype):
    for given_array in (array, array.astype(dtype) * dtype.type(value), array.tolist()):
        mask = Mask.from_array(given_array)
        assert np.array_equal(mask.array, array)
        assert check_mask(mask, array.shape) is mask
        assert Mask.from_json(mask.to_json()) == mask


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.array([[0, 1, 2]]), "not 1 and 2; write array > 0, or array == NUMBER"),
        (np.array([[0, 3, 200]], np.uint8), "not 3 and 200"),
        (np.array([[0, -1]]), "positive value, not -1"),
        (np.array([[-7, 9]]), "not -7 and 9"),
        (np.array([["0", "1"]]), "not <U1"),
        (np.array([[None, True]]), "not object"),
        (np.zeros((2, 2, 1), bool), r"shape \(H, W\)"),
        (np.zeros(4, bool), r"shape \(H, W\)"),
        (np.ma.masked_array([[True]], [[True]]), "filled"),
    ],
    ids=["three values", "a blurred mask", "negative", "both signs", "text", "objects", "channels", "flat", "masked"],
)
def test_an_array_that_can_be_read_in_two_ways_is_refused(array, says):
    with pytest.raises(ValueError, match=says):
        Mask.from_array(array)


@pytest.mark.parametrize("score", [0, 1, -0.2, 1.011, 1.2, np.float32(0.5), np.float64(1), np.int64(1), np.array(0.25)])
def test_scores_that_mean_0_to_1_become_python_numbers(score):
    mask = Mask.from_array(MASK.array, score=score, stability=score)
    assert (type(mask.score), type(mask.stability)) == (float, float)
    checked = check_mask(replace(MASK, score=score), MASK.size)
    assert (checked.score, type(checked.score)) == (float(score), float)


BAD_SCORES = [float("nan"), float("inf"), -float("inf"), 95, -1, 1.21, -0.21, "0.5", True, np.True_, np.float32("nan")]
BAD_SCORES += [np.array([0.5]), 10**400, 1j]


@pytest.mark.parametrize("score", BAD_SCORES, ids=reprlib.repr)
def test_scores_of_another_unit_are_refused(score):
    with pytest.raises(ValueError, match="a mask's score must be a number from 0 to 1"):
        Mask.from_array(MASK.array, score=score)
    for name in ("score", "stability"):
        with pytest.raises(ImageError, match=f"mask 3: its {name} must be a number from 0 to 1"):
            check_mask(replace(MASK, **{name: score}), MASK.size, "mask 3")


@pytest.mark.parametrize("score", [95, -1, 1.3], ids=str)
def test_a_prompts_score_has_the_same_unit(score):
    with pytest.raises(PromptError, match="prompt 0: its score must be a number from 0 to 1"):
        check_prompt(Prompt(text="a", score=score), "prompt 0")


@pytest.mark.parametrize("label", ["a\nb", "a\tb", "\x00", "\x7f", "\u0085", "a\u2028b", "\ud800", 5, b"cat", True])
def test_labels_are_text_without_control_characters(label):
    with pytest.raises(ImageError, match="a label"):
        check_label(label)
    with pytest.raises(ImageError, match="its prompt: its label"):
        check_mask(replace(MASK, prompt=replace(MASK.prompt, label=label)), MASK.size)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_any_other_text_is_a_label_as_it_stands(text):
    assert check_label(text) == text
    assert type(check_label(np.str_(text))) is str


@pytest.mark.parametrize("counts", ["", "0", "1", "a", "\x00", "ü", MASK.counts[:-1], MASK.counts + "1", "o" * 40])
def test_pixels_that_are_no_run_lengths_of_the_image_are_refused(counts):
    with pytest.raises(ImageError, match="its run lengths"):
        check_mask(replace(MASK, counts=counts), MASK.size)
    with pytest.raises(ValueError, match="its run lengths"):
        MaskModel(prompt=0, size=MASK.size, counts=counts).to_mask([MASK.prompt])


@given(hnp.arrays(bool, SHAPES))
def test_run_lengths_count_all_pixels(array):
    assert count_pixels(Mask.from_array(array).counts) == array.size


def test_run_lengths_of_many_digits_count_all_pixels():
    array = np.zeros((3000, 2000), bool)
    array[:, 700], array[5:9, 1500] = True, True
    assert count_pixels(Mask.from_array(array).counts) == array.size


@pytest.mark.parametrize("values", [{"score": 95.0}, {"stability": float("nan")}, {"score": float("inf")}], ids=str)
def test_a_servers_mask_is_checked_like_a_plugins(values):
    with pytest.raises(ValueError, match="must be a number from 0 to 1"):
        MaskModel(prompt=0, size=MASK.size, counts=MASK.counts, **values).to_mask([MASK.prompt])


class Sized(testing.FillPrompt):
    """A backend that hands over what its options say."""

    score: float = 1.0
    label: str | None = None

    def masks(self, image, prompts, embedding=None):
        made = super().masks(image, prompts)
        return [replace(mask, score=self.score, prompt=replace(mask.prompt, label=self.label)) for mask in made]


class Odd:
    """Registers it."""

    @maskmill.hookimpl
    def register_backends(self, register):
        register("odd", Sized)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"score": 95}, "its score must be"), ({"label": "a\nb"}, "its label has control characters")],
    ids=["score", "label"],
)
def test_segment_names_plugin_and_image(tmp_path, monkeypatch, options, says):
    registry = Registry.load()
    registry.add(Odd(), "test")
    monkeypatch.setattr("maskmill.plugins.registry.Registry.load", lambda: registry)
    ref = testing.write_picture(tmp_path / "a.png", 60, 80)
    with pytest.raises(ImageError, match=f"a.png: odd: mask 0: .*{says}"):
        maskmill.segment(ref.path, boxes=[[1, 2, 30, 40]], backend={"use": "odd", **options})


@pytest.mark.parametrize("change", [{"size": (80, 60)}, {"score": float("nan")}, {"dropped_by": "me"}], ids=str)
def test_a_filter_is_held_to_the_same(change):
    class Changing(maskmill.Filter):
        def apply(self, image, masks):
            return [replace(mask, **change) for mask in masks]

    image = Image.from_array(testing.pixels(60, 80))
    stages = Stages([], "first", ("fill", testing.FillPrompt()), filters=[("changing", Changing())])
    with Chain(stages) as chain, pytest.raises(StepError, match="mask 0: ") as caught:
        chain.run(image, [Prompt(box=Box(1, 1, 50, 50))])
    assert (caught.value.failure.stage, caught.value.failure.plugin) == ("filters", "changing")


ROWS = {"lists": list, "tuples": lambda rows: tuple(map(tuple, rows)), "float32": np.float32, "int64": np.int64}


@pytest.mark.parametrize("form", ROWS.values(), ids=ROWS)
def test_arrays_tuples_and_lists_are_alike(form):
    boxes, points = [[10, 5, 70, 55], [20, 10, 60, 50]], [[40, 30, 1], [2, 2, 0]]
    expected = maskmill.segment(testing.pixels(60, 80), boxes=boxes, points=points, backend="grabcut")
    found = maskmill.segment(testing.pixels(60, 80), boxes=form(boxes), points=form(points), backend="grabcut")
    assert found == expected
    prompt = Prompt(points=form(points), box=form(boxes)[0])
    assert prompt == Prompt(points=(Point(40, 30), Point(2, 2, 0)), box=Box(10, 5, 70, 55))
    assert Prompt.from_json(prompt.to_json()) == prompt
    assert Box(*form(boxes)[0]) == Box(10, 5, 70, 55)


def test_objects_and_empty_arrays_are_taken_too():
    picture = testing.pixels(60, 80)
    (mask,) = maskmill.segment(picture, boxes=[Box(10, 5, 70, 55)], points=np.empty((0, 2)), backend="grabcut")
    assert mask.prompt.box == Box(10, 5, 70, 55)
    with pytest.raises(PromptError, match="give boxes or points"):
        maskmill.segment(picture, boxes=np.empty((0, 4)), points=[], backend="grabcut")


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"points": np.array([[1.0, 2, 3, 4]])}, r"\[x, y\] or \[x, y, label\]"),
        ({"points": [[40, 30, 0]]}, "mean nothing alone"),
        ({"points": np.array([[40, 30, 0], [1, 2, 0]])}, "mean nothing alone"),
        ({"points": [[40, np.nan]]}, "finite"),
        ({"points": [[40, 30, 0.5]]}, "1 .foreground. or 0"),
        ({"boxes": ["1234"]}, "a box must be a list"),
    ],
    ids=str,
)
def test_what_is_no_list_of_boxes_or_points_is_explained(asked, says):
    with pytest.raises(PromptError, match=says):
        maskmill.segment(testing.pixels(60, 80), backend="grabcut", **asked)


def test_a_box_gives_points_off_the_object_a_meaning():
    assert Prompt(points=[[1, 1, 0]], box=[0, 0, 9, 9]).fit(20, 20)


@pytest.mark.parametrize("values", [{"points_per_side": 1.5}, {"box_nms_thresh": "x"}, {"pred_iou_thresh": np.nan}])
def test_a_grid_has_numbers(values):
    with pytest.raises(PromptError, match=next(iter(values))):
        Grid(**values)


def test_a_grid_of_numpy_numbers_is_plain_data():
    assert Prompt(grid=Grid(points_per_side=np.int64(8), box_nms_thresh=np.float64(0.5))).to_json()["grid"] == {
        **Prompt(grid=Grid()).to_json()["grid"],
        "points_per_side": 8,
        "box_nms_thresh": 0.5,
    }
