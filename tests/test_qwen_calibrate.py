"""Calibration of a model's coordinates with one image."""

import numpy as np
import pytest

from maskmill_plugins.prompts.qwen.calibrate import SIZE, TOLERANCE, TRUTH, draw_image, rank_conventions
from maskmill_plugins.prompts.qwen.coordinates.convert import choose_send_size, find_far_corner
from maskmill_plugins.prompts.qwen.reply.parse import FoundObject

CONVENTIONS = ["rel1000", "abs_sent", "abs_original"]
SENT = choose_send_size(SIZE, "abs_sent", 32)


def seen(convention, off=0.0, sent=SENT):
    """A model's box of the shape, with its sides off by parts of the picture."""
    far = find_far_corner(convention, SIZE, sent)
    return tuple((side / whole + off) * unit for side, whole, unit in zip(TRUTH, SIZE[::-1] * 2, far * 2, strict=True))


def test_the_shape_is_where_the_truth_says():
    pixels = draw_image()
    assert pixels.shape == (*SIZE, 3)
    assert pixels.dtype == np.uint8
    red = pixels[..., 0].astype(int) - pixels[..., 1] > 100
    rows, columns = np.nonzero(red)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == TRUTH
    assert red.sum() == (TRUTH[2] - TRUTH[0]) * (TRUTH[3] - TRUTH[1])


@pytest.mark.parametrize("grid", [28, 32])
@pytest.mark.parametrize("off", [0.0, 0.01, -0.02])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_convention_is_found_though_the_model_is_not_exact(convention, off, grid):
    sent = choose_send_size(SIZE, "abs_sent", grid)
    fits = rank_conventions([FoundObject(("red rectangle",), seen(convention, off, sent))], sent)
    assert fits[0][0] == convention
    assert {name for name, _ in fits} == set(CONVENTIONS)
    assert fits[0][1] == pytest.approx(abs(off), abs=1e-9)
    assert fits[0][1] <= TOLERANCE < fits[1][1] / 2, "and no other fits half as well"


def test_the_best_of_several_boxes_counts():
    found = [
        FoundObject(box=(1.0, 1.0, 9.0, 9.0)),
        FoundObject(points=((5.0, 5.0, 1),)),
        FoundObject(box=seen("rel1000")),
    ]
    assert rank_conventions(found, SENT)[0] == ("rel1000", pytest.approx(0))


def test_nothing_fits_where_there_is_no_box():
    assert rank_conventions([], SENT) == []
    assert rank_conventions([FoundObject(points=((5.0, 5.0, 1),))], SENT) == []
    assert rank_conventions([FoundObject(box=(1.0, 1.0, 9.0, 9.0))], SENT)[0][1] > TOLERANCE
