"""Doubts about prompts: boxes that contradict each other, reach beyond the image, or are too small for the model."""

import json
from dataclasses import replace

import pytest

from maskmill import Box, Pipeline, Point, Prompt, read_run, testing
from maskmill.chain.chain import Chain
from maskmill.chain.check_prompts import check_prompts
from maskmill.images import Image
from maskmill.plugins.roles import Stages

SIZE = (100, 200)  # height, width
CAR = Prompt(box=Box(10, 10, 90, 60), label="car")


def boxed(*corners, label=None):
    return Prompt(box=Box(*corners), label=label)


def doubts(*prompts, size=SIZE, **options):
    fitted = [prompt.fit(*size) for prompt in prompts]
    return {doubt.code: doubt.message for doubt in check_prompts(prompts, fitted, size, **options)}


@pytest.mark.parametrize(
    ("others", "conflict"),
    [
        ([replace(CAR, label="truck")], True),
        ([boxed(11, 10, 90, 61, label="truck")], True),
        ([CAR], False),
        ([replace(CAR, label=None)], False),
        ([boxed(10, 10, 90, 50, label="truck")], False),  # IoU 0.8
        ([boxed(40, 20, 60, 40, label="wheel")], False),  # inside
        ([Prompt(points=(Point(20, 20),), label="truck")], False),
        ([boxed(100, 10, 180, 60, label="bus"), boxed(100, 10, 180, 60, label="van")], True),
    ],
    ids=["equal", "nearly", "same-label", "no-label", "less", "inside", "points", "two-others"],
)
def test_equal_boxes_with_different_labels_conflict(others, conflict):
    assert ("conflict" in doubts(CAR, *others)) is conflict
    assert ("conflict" in doubts(*others, CAR)) is conflict, "in either order"


def test_a_conflict_names_labels_place_and_overlap():
    found = doubts(CAR, *(replace(CAR, label=label) for label in ("truck", "bus", "van")))
    assert found["conflict"].startswith("'car' and 'truck' at [10, 10, 90, 60] (IoU 1.00); 'car' and 'bus' at")
    assert found["conflict"].endswith(" and 3 more name the same object")


@pytest.mark.parametrize(("threshold", "conflict"), [(0.8, True), (0.81, False), (None, False)])
def test_the_threshold_of_a_conflict(threshold, conflict):
    other = boxed(10, 10, 90, 50, label="truck")
    assert ("conflict" in doubts(CAR, other, conflict_iou=threshold)) is conflict


@pytest.mark.parametrize(
    ("box", "clipped"),
    [
        ((0, 0, 200, 100), False),
        ((-1, -1, 201, 101), False),
        ((-0.4, 0, 200.5, 100), False),
        ((-1.5, 0, 50, 50), True),
        ((0, -20, 50, 50), True),
        ((100, 0, 202, 50), True),
        ((0, 0, 200, 130), True),
    ],
    ids=["whole", "one-pixel", "rounded", "left", "above", "right", "below"],
)
def test_a_box_far_beyond_the_image_was_clipped(box, clipped):
    found = doubts(boxed(*box))
    assert ("clipped" in found) is clipped
    assert not clipped or "reached beyond the image of 200×100 pixels" in found["clipped"]


@pytest.mark.parametrize(
    ("box", "size", "side", "too_small"),
    [
        ((100, 100, 140, 140), (8000, 12000), 1024, True),  # 3.4 pixels
        ((100, 100, 140, 140), (8000, 12000), None, False),
        ((100, 100, 140, 140), (8000, 12000), 4096, False),
        ((100, 100, 140, 140), (12000, 8000), 1024, True),
        ((10, 10, 14, 14), (480, 640), 1024, True),  # 6.4 pixels
        ((10, 10, 16, 16), (480, 640), 1024, False),  # 9.6 pixels
        ((100, 100, 140, 900), (8000, 12000), 1024, False),  # 3 × 68 pixels: a pole
    ],
    ids=["square", "unknown", "larger-model", "portrait", "photo", "photo-larger", "pole"],
)
def test_an_object_that_is_too_small_for_the_model(box, size, side, too_small):
    assert ("too_small" in doubts(boxed(*box), size=size, input_side=side)) is too_small


def test_too_small_gives_the_sizes():
    found = doubts(boxed(0, 0, 40, 40), boxed(0, 0, 9000, 9000), size=(9000, 12000), input_side=1024)
    assert found["too_small"] == (
        "1 of 2 boxes are too small for the model: [0, 0, 40, 40] has 40×40 pixels,"
        " and 3.4×3.4 in the model's input of 1024 pixels"
    )


class Scaling(testing.FillPrompt):
    """Works on a copy of 16 pixels."""

    def input_side(self):
        return 16


def test_the_backend_says_how_large_its_input_is(tmp_path):
    image = Image.load(testing.write_picture(tmp_path / "a.png"))  # 64 × 48
    with Chain(Stages([], "first", ("scaling", Scaling()))) as chain:
        small = chain.run(image, [boxed(5, 5, 30, 30)])
        large = chain.run(image, [boxed(5, 5, 45, 45)])
    assert [(doubt.code, doubt.stage) for doubt in small.doubts] == [("too_small", "prompts")]
    assert large.doubts == ()


def test_a_pipeline_sets_the_threshold_and_fails_on_a_conflict(project):
    objects = "[{box: [5, 5, 40, 40], label: car}, {box: [5, 5, 40, 36], label: truck}]"  # IoU 0.886
    project.photos("a.png")

    def run(options):
        project.write(run=f"{{engine: inline{options}}}")
        text = project.file.read_text(encoding="utf-8")
        project.file.write_text(text.replace("[{use: middle}]", f"[{{use: manual, objects: {objects}}}]"), "utf-8")
        return Pipeline.load(project.file).run(quiet=True, fresh=True)

    assert run("").doubts == {}
    assert run(", conflict_iou: 0.85").doubts == {"conflict": 1}
    (result,) = read_run(project.output)
    assert result.doubts[0].message == "'car' and 'truck' at [5, 5, 40, 40] (IoU 0.89) name the same object"
    report = run(", conflict_iou: 0.85, fail_on: [conflict]")
    assert (report.exit_code, report.counts["failed"]) == (1, 1)
    assert "name the same object" in json.dumps(project.failures(), ensure_ascii=False)
