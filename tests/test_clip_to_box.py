"""clip_to_box: nothing of a mask is left outside its box."""

import numpy as np
import pytest

from maskmill import Box, Mask, Point, Prompt, testing
from maskmill_plugins.filters.clip_to_box import ClipToBox

IMAGE = testing.image(40, 60)


def mask(box=(10, 10, 30, 20), rows=(0, 40), columns=(0, 60)):
    pixels = np.zeros(IMAGE.size, bool)
    pixels[slice(*rows), slice(*columns)] = True
    return Mask.from_array(pixels, score=0.5, prompt=Prompt(box=box and Box(*box), points=(Point(1, 1),), ref="7"))


@pytest.mark.parametrize(
    ("options", "box", "expected"),
    [
        ({}, (10, 10, 30, 20), (10, 10, 30, 20)),
        ({"margin": 3}, (10, 10, 30, 20), (7, 7, 33, 23)),
        ({"margin_part": 0.1}, (10, 10, 30, 20), (8, 9, 32, 21)),
        ({"margin": 1, "margin_part": 0.1}, (10, 10, 30, 20), (7, 8, 33, 22)),
        ({"margin": 100}, (10, 10, 30, 20), (0, 0, 60, 40)),
        ({}, (10.4, 10.5, 29.6, 20.4), (10, 10, 30, 20)),
        ({}, (10.6, 10.6, 29.5, 19.5), (11, 11, 29, 19)),
    ],
    ids=["box", "margin", "part", "both", "beyond the image", "centres inside", "centres outside"],
)
def test_what_lies_outside_the_grown_box_is_cut_off(options, box, expected):
    (clipped,) = ClipToBox(**options).apply(IMAGE, [mask(box)])
    assert clipped.box.xyxy == expected
    assert clipped.area == (expected[2] - expected[0]) * (expected[3] - expected[1])
    assert (clipped.prompt.ref, clipped.score, clipped.reason) == ("7", 0.5, None)


def test_masks_inside_their_box_and_masks_without_one_stay_as_they_are():
    given = [mask(rows=(12, 18), columns=(10, 30)), mask(box=None), mask(rows=(0, 0))]
    assert ClipToBox().apply(IMAGE, given) == given


def test_a_mask_of_which_nothing_is_left_is_dropped():
    (dropped,) = ClipToBox(margin=2).apply(IMAGE, [mask(columns=(40, 60))])
    assert dropped.reason == "it lies outside its box"
