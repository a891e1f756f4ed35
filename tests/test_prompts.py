"""Prompts: what is accepted, what is refused, and the way through JSON."""

import pytest

from maskmill import Box, Exemplar, GivenMask, Grid, Point, Prompt, PromptError


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(box=Box(1, 2, 3, 4)),
        Prompt(points=(Point(1, 2), Point(3.5, 4, 0)), label="车辆", source="manual", score=0.5),
        Prompt(points=(Point(1, 2),), box=Box(0, 0, 9, 9)),
        Prompt(text="every vehicle"),
        Prompt(grid=Grid(points_per_side=8)),
        Prompt(text="cup", exemplars=[[1, 2, 3, 4], [5, 6, 7, 8, 0]]),
        Prompt(exemplars=[Exemplar(Box(1, 2, 3, 4))]),
        Prompt(mask=GivenMask((4, 5), "0", 0.5), label="cup", box=[1, 1, 2, 2]),
    ],
    ids=["box", "points", "both", "text", "grid", "text-and-exemplars", "exemplars", "mask"],
)
def test_json_brings_back_the_same_prompt(prompt):
    again = Prompt.from_json(prompt.to_json())
    assert again == prompt
    assert hash(again) == hash(prompt)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "exactly one of"),
        ({"text": "a", "box": [0, 0, 1, 1]}, "exactly one of"),
        ({"box": [5, 0, 1, 9]}, "x1 < x2"),
        ({"box": [0, 0, 1]}, "x1, y1, x2, y2"),
        ({"box": ["0", 0, 1, 1]}, "finite number"),
        ({"box": [0, 0, float("nan"), 1]}, "finite number"),
        ({"box": [True, 0, 3, 1]}, "finite number"),
        ({"points": [[1]]}, r"\[x, y, label\]"),
        ({"points": [[1, 2, 3]]}, "1 .foreground. or 0"),
        ({"points": 5}, "must be a list"),
        ({"bbox": [0, 0, 1, 1]}, "unknown field 'bbox'"),
        ({"box": [0, 0, 1, 1], "label": 5}, "label must be a text"),
        ({"grid": {"points": 3}}, "unknown field 'points'"),
        ({"exemplars": [[0, 0, 1, 1]], "box": [0, 0, 1, 1]}, "exactly one of"),
        ({"exemplars": [[0, 0, 1]]}, r"\[x1, y1, x2, y2, label\]"),
        ({"exemplars": [[0, 0, 1, 1, 2]]}, "an exemplar's label is 1"),
        ({"mask": {"size": [4, 5]}}, '"counts"'),
        ({"mask": {"size": [4], "counts": "0"}}, r"\[height, width\]"),
        ({"mask": {"size": [4, 5], "counts": "0", "score": 80}}, "percentages are divided by 100"),
        ({"mask": {"size": [4, 5], "counts": "0"}, "grid": {}}, "a mask cannot have a grid"),
    ],
)
def test_what_cannot_be_right_is_refused_in_words(data, says):
    with pytest.raises(PromptError, match=says):
        Prompt.from_json(data)


def test_exemplars_are_clipped_and_scaled_as_boxes_are():
    prompt = Prompt(text="cup", exemplars=[[-5, 10, 500, 20, 0]])
    assert prompt.fit(100, 200).exemplars == (Exemplar(Box(0, 10, 200, 20), 0),)
    assert Prompt(exemplars=[[0.1, 0.5, 0.2, 1]]).to_pixels(100, 200).exemplars[0].box == Box(20, 50, 40, 100)
    with pytest.raises(PromptError, match="mean nothing alone"):
        Prompt(exemplars=[[1, 1, 5, 5, 0]]).fit(100, 200)


def test_a_box_is_clipped_to_the_image():
    prompt = Prompt(box=Box(-5, 10, 500, 20))
    assert prompt.fit(100, 200).box == Box(0, 10, 200, 20)
    inside = Prompt(box=Box(1, 1, 5, 5))
    assert inside.fit(100, 200) is inside


@pytest.mark.parametrize(
    "prompt", [Prompt(box=Box(300, 0, 400, 9)), Prompt(points=(Point(-1, 5),))], ids=["box", "point"]
)
def test_a_prompt_outside_the_image_is_refused(prompt):
    with pytest.raises(PromptError, match="outside the image of 200×100"):
        prompt.fit(100, 200)


def test_needs_names_what_a_backend_must_accept():
    assert Prompt(points=(Point(1, 2),), box=Box(0, 0, 9, 9)).needs == {"points", "box"}
    assert Prompt(grid=Grid()).needs == {"everything"}
    assert Prompt(text="cup", exemplars=[[0, 0, 1, 1]]).needs == {"text", "exemplars"}
    assert Prompt(mask=GivenMask((4, 5), "0"), box=[0, 0, 1, 1]).needs == set()
