"""The grabcut backend: quality on plain objects, odd prompts, same result whatever is around."""

import sys

import numpy as np
import pytest

from maskmill import Box, Image, Point, Prompt
from maskmill.plugins.registry import Registry


def scene(height=200, width=300, seed=0):
    """A red disc of radius 50 at (150, 100) on textured green, and where it is."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    disc = (x - width / 2) ** 2 + (y - height / 2) ** 2 <= (min(height, width) / 4) ** 2
    pixels = np.where(disc[..., None], [190, 60, 50], [60, 130, 70]) + random.normal(0, 12, (height, width, 3))
    return Image.from_array(pixels.clip(0, 255).astype(np.uint8)), disc


@pytest.fixture
def grabcut():
    return Registry.load().backend("grabcut")


def iou(mask, truth):
    return (mask.array & truth).sum() / (mask.array | truth).sum()


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(box=Box(95, 45, 205, 155)),
        Prompt(points=(Point(150, 100), Point(30, 30, 0))),
        Prompt(points=(Point(150, 100),)),
        Prompt(points=(Point(150, 100), Point(97, 47, 0)), box=Box(90, 40, 210, 160)),
    ],
    ids=["box", "points", "one-point", "box-and-points"],
)
def test_a_plain_object_is_found(grabcut, prompt):
    image, disc = scene()
    (mask,) = grabcut.masks(image, [prompt])
    assert iou(mask, disc) > 0.95
    assert mask.prompt == prompt
    assert 0.5 < mask.score <= 1


def test_large_images_are_worked_on_reduced(grabcut):
    image, disc = scene(1500, 2000)
    (mask,) = grabcut.masks(image, [Prompt(box=Box(600, 350, 1400, 1150))])
    assert iou(mask, disc) > 0.97


def test_a_result_does_not_depend_on_other_prompts_or_threads(grabcut):
    import cv2

    image, _ = scene()
    first, second = Prompt(box=Box(95, 45, 205, 155)), Prompt(points=(Point(150, 100), Point(20, 20, 0)))
    alone = grabcut.masks(image, [first])[0]
    threads = cv2.getNumThreads()
    try:
        for count in (1, 2, 4):
            cv2.setNumThreads(count)
            cv2.setRNGSeed(count)
            assert grabcut.masks(image, [second, first])[1] == alone
    finally:
        cv2.setNumThreads(threads)


def test_the_mask_stays_inside_the_box(grabcut):
    image, _ = scene()
    (mask,) = grabcut.masks(image, [Prompt(box=Box(95.5, 45.5, 204.5, 130.5))])
    assert mask.box.x1 >= 95
    assert mask.box.x2 <= 205
    assert mask.box.y1 >= 45
    assert 120 <= mask.box.y2 <= 131


@pytest.mark.parametrize(
    ("height", "width", "prompt"),
    [
        (200, 300, Prompt(box=Box(0, 0, 300, 200))),
        (200, 300, Prompt(box=Box(10, 10, 11, 11))),
        (200, 300, Prompt(box=Box(10.2, 10.2, 10.4, 10.4))),
        (8, 8, Prompt(box=Box(1, 1, 7, 7))),
        (1, 1, Prompt(box=Box(0, 0, 1, 1))),
        (30, 4000, Prompt(box=Box(0, 0, 4000, 30))),
        (4000, 30, Prompt(points=(Point(15, 2000),))),
        (200, 300, Prompt(points=(Point(0, 0), Point(300, 200)))),
        (200, 300, Prompt(points=(Point(150, 100, 0),))),
        (200, 300, Prompt(points=(Point(150, 100, 1), Point(150, 100, 0)))),
    ],
    ids=["all", "one-pixel", "less-than-a-pixel", "tiny", "1x1", "thin", "tall", "corners", "background-only", "both"],
)
def test_odd_prompts_give_a_mask_and_no_error(grabcut, height, width, prompt):
    image, _ = scene(height, width)
    (mask,) = grabcut.masks(image, [prompt])
    assert mask.size == (height, width)
    assert 0 <= mask.score <= 1


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_image_of_one_colour(grabcut, value):
    image = Image.from_array(np.full((64, 64, 3), value, np.uint8))
    (mask,) = grabcut.masks(image, [Prompt(box=Box(10, 10, 50, 50))])
    assert mask.size == (64, 64)


def test_the_score_is_low_where_colours_are_the_same(grabcut):
    image, _ = scene()
    good, bad = grabcut.masks(image, [Prompt(box=Box(95, 45, 205, 155)), Prompt(box=Box(10, 10, 60, 60))])
    assert good.score > bad.score + 0.2


def test_a_missing_system_library_is_found_before_the_run(grabcut, tmp_path, monkeypatch):
    assert grabcut.check() == []
    text = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({text!r})\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (problem,) = grabcut.check()
    assert "libGL.so.1" in problem.message
    assert "apt install libgl1" in problem.hint
