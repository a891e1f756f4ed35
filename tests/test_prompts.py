"""Prompts: what is accepted, what is refused, and the way through JSON."""

import pytest

from maskmill import Box, Grid, Point, Prompt, PromptError


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(box=Box(1, 2, 3, 4)),
        Prompt(points=(Point(1, 2), Point(3.5, 4, 0)), label="车辆", source="manual", score=0.5),
        Prompt(points=(Point(1, 2),), box=Box(0, 0, 9, 9)),
        Prompt(text="every vehicle"),
        Prompt(grid=Grid(points_per_side=8)),
    ],
    ids=["box", "points", "both", "text", "grid"],
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
    ],
)
def test_what_cannot_be_right_is_refused_in_words(data, says):
    with pytest.raises(PromptError, match=says):
        Prompt.from_json(data)


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
