from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from maskmill import Box, ImageRef, Point, Prompt, PromptError, testing
from maskmill_plugins.prompts.manual import Manual


def ask(options: dict[str, Any], key: str = "a.jpg") -> list[Prompt] | None:
    return Manual.from_options(options).prompts(testing.image(100, 200, key=key))


def fingerprint(options: dict[str, Any], key: str = "a.jpg") -> str:
    return Manual.from_options(options).fingerprint(ImageRef(key, key))


A, B = [10, 20, 30, 40], [50, 60, 70, 80]


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"box": A}, [Prompt(box=Box(*A))]),
        ({"boxes": [A, B], "label": "杯"}, [Prompt(box=Box(*A), label="杯"), Prompt(box=Box(*B), label="杯")]),
        ({"points": [[1, 2], [3, 4.5, 0]]}, [Prompt(points=(Point(1, 2), Point(3, 4.5, 0)))]),
        ({"points": [[1, 2], [3, 4]], "labels": [1, 0]}, [Prompt(points=(Point(1, 2), Point(3, 4, 0)))]),
        ({"box": A, "points": [[11, 21]]}, [Prompt(box=Box(*A), points=(Point(11, 21),))]),
        ({"box": A, "boxes": [B]}, [Prompt(box=Box(*A)), Prompt(box=Box(*B))]),
        (
            {"label": "x", "objects": [{"box": A, "label": "y"}, {"points": [[1, 2]], "labels": [0]}]},
            [Prompt(box=Box(*A), label="y"), Prompt(points=(Point(1, 2, 0),), label="x")],
        ),
        ({"boxes": []}, []),
    ],
    ids=["box", "boxes", "points", "labels", "box and points", "box and boxes", "objects", "nothing there"],
)
def test_what_is_written_for_every_image(options: dict[str, Any], expected: list[Prompt]) -> None:
    assert ask(options) == expected
    assert ask(options, "another.png") == expected


def test_relative_coordinates_become_pixels_of_width_and_height() -> None:
    options = {"units": "relative", "box": [0.1, 0.2, 0.5, 1], "points": [[0.5, 0.5]]}
    assert ask(options) == [Prompt(box=Box(20, 20, 100, 100), points=(Point(100, 50),))]


def test_an_image_of_its_own_replaces_what_holds_for_every_image() -> None:
    options = {
        "box": A,
        "label": "cup",
        "images": {"a.jpg": {"box": B}, "no/*": {}, "照*.jpg": {"objects": [{"box": B, "label": "瓶"}]}},
    }
    assert ask(options, "a.jpg") == [Prompt(box=Box(*B), label="cup")]
    assert ask(options, "照片.jpg") == [Prompt(box=Box(*B), label="瓶")]
    assert ask(options, "no/deep/x.jpg") == []
    assert ask(options, "else.jpg") == [Prompt(box=Box(*A), label="cup")]


def test_an_image_that_nothing_is_written_for_is_unknown() -> None:
    options = {"label": "cup", "images": {"a.jpg": {"box": A}}}
    assert ask(options, "b.jpg") is None
    assert ask(options, "a.jpg") == [Prompt(box=Box(*A), label="cup")]


def test_an_exact_key_goes_before_patterns_and_is_no_pattern_itself() -> None:
    options = {"images": {"*": {"box": A}, "x[1].jpg": {"box": B}}}
    assert ask(options, "x[1].jpg") == [Prompt(box=Box(*B))]
    assert ask(options, "x1.jpg") == [Prompt(box=Box(*A))]


def test_a_key_and_a_pattern_are_found_in_other_letters() -> None:
    options = {"images": {"cafe\u0301.jpg": {"box": A}, "the\u0301*": {"box": B}}}
    assert ask(options, "caf\u00e9.jpg") == [Prompt(box=Box(*A))]
    assert ask(options, "th\u00e9 1.jpg") == [Prompt(box=Box(*B))]
    both = {"images": {"cafe\u0301.jpg": {"box": A}, "caf\u00e9.jpg": {"box": B}}}
    assert ask(both, "caf\u00e9.jpg") == [Prompt(box=Box(*B))]


def test_an_empty_entry_by_exact_key_goes_before_patterns() -> None:
    assert ask({"images": {"*": {"box": A}, "a.jpg": {}}}, "a.jpg") == []


@pytest.mark.parametrize(
    "options, where, message",
    [
        ({"boxes": [A, [5, 5, 1, 9]]}, ("boxes", 1), "x1 < x2"),
        ({"box": [1, 2, 3]}, ("box",), None),
        ({"points": [[1]]}, ("points", 0), None),
        ({"points": [[1, 2, 3]]}, ("points", 0), "1 .foreground. or 0"),
        ({"points": [[1, 2, 0.5]]}, ("points", 0), "1 .foreground. or 0"),
        ({"points": [[1, 2]], "labels": [1, 0]}, (), "expected one for each point, of 1 point, got 2"),
        ({"points": [[1, 2, 1]], "labels": [1]}, (), "give them once"),
        ({"points": [[1, 2]], "labels": [2]}, ("labels", 0), None),
        ({"points": [[1, 2]], "boxes": [A]}, (), "belong to one `box`"),
        ({"objects": [{"label": "x"}]}, ("objects", 0), "needs a `box` or `points`"),
        ({"objects": [{"box": A, "boxes": [B]}]}, ("objects", 0, "boxes"), None),
        ({"images": {"a.jpg": {"bocks": A}}}, ("images", "a.jpg", "bocks"), None),
        ({"units": "relative", "box": A}, (), "between 0 and 1, not 10"),
        ({"units": "relative", "images": {"a": {"points": [[0.5, 2]]}}}, (), "between 0 and 1, not 2"),
        ({"units": "percent"}, ("units",), None),
        ({"box": ["1", 2, 3, 4]}, ("box", 0), None),
    ],
)
def test_what_cannot_be_right_is_refused_at_its_place(
    options: dict[str, Any], where: tuple[str | int, ...], message: str | None
) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        Manual.from_options(options)
    found = caught.value.errors()[0]["loc"]
    assert found[: len(where)] == where


@pytest.mark.parametrize("options", [{}, {"label": "x"}, {"units": "relative"}])
def test_nothing_to_segment_is_a_problem(options: dict[str, Any]) -> None:
    (problem,) = Manual.from_options(options).check()
    assert "has nothing to segment" in problem.message and not problem.warning


def test_pixels_that_look_relative_are_a_warning() -> None:
    (problem,) = Manual.from_options({"boxes": [[0.1, 0.1, 0.9, 0.8]], "images": {"a": {}}}).check()
    assert problem.warning and "units: relative" in problem.hint
    assert Manual.from_options({"boxes": [A]}).check() == []
    assert Manual.from_options({"images": {"a": {}}}).check() == []


def test_a_fingerprint_changes_for_the_images_that_change_alone() -> None:
    before = {"box": A, "images": {"a.jpg": {"box": B}}}
    after = {"box": A, "images": {"a.jpg": {"box": [1, 2, 3, 4]}}}
    assert fingerprint(before, "a.jpg") != fingerprint(after, "a.jpg")
    assert fingerprint(before, "b.jpg") == fingerprint(after, "b.jpg")


def test_a_fingerprint_is_of_the_prompts_not_of_how_they_are_written() -> None:
    assert (
        fingerprint({"box": A}) == fingerprint({"objects": [{"box": A}]}) == fingerprint({"images": {"a*": {"box": A}}})
    )
    different = [{"box": A}, {"box": B}, {"box": A, "label": "x"}, {"boxes": []}, {"images": {"z": {"box": A}}}]
    relative = {"units": "relative", "box": [0, 0, 1, 1]}
    pixels = {"box": [0, 0, 1, 1]}
    assert len({fingerprint(options) for options in [*different, relative, pixels]}) == 7


def test_relative_prompts_refuse_pixels() -> None:
    with pytest.raises(PromptError, match=r"between 0 and 1, not 1\.5"):
        Prompt(points=(Point(0.5, 1.5),)).to_pixels(10, 10)
    assert Prompt(text="all cups").to_pixels(10, 10) == Prompt(text="all cups")
