"""Masks: exact through RLE and JSON; area, box, IoU and stability against numpy."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from maskmill import Box, Mask, Prompt
from maskmill.masks import iou, stability_score

ARRAYS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))


@given(ARRAYS)
def test_pixels_area_and_box_are_exact(array):
    mask = Mask.from_array(array, score=0.5)
    assert np.array_equal(mask.array, array)
    assert mask.area == array.sum()
    rows, columns = np.nonzero(array)
    expected = Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if rows.size else None
    assert mask.box == expected


@given(ARRAYS, st.floats(0, 1))
def test_json_brings_back_the_same_mask(array, score):
    mask = Mask.from_array(array, score=score, prompt=Prompt(box=Box(0, 0, 1, 1), label="猫")).drop("too small")
    assert Mask.from_json(mask.to_json()) == mask


@given(hnp.arrays(bool, (2, 9, 7)))
def test_iou_is_intersection_over_union(pair):
    a, b = (Mask.from_array(array) for array in pair)
    union = (pair[0] | pair[1]).sum()
    expected = (pair[0] & pair[1]).sum() / union if union else 0.0
    assert iou([a], [b])[0, 0] == pytest.approx(expected)


def test_iou_of_nothing_has_a_shape():
    assert iou([], [Mask.from_array(np.ones((2, 2), bool))]).shape == (0, 1)


def test_stability_is_the_iou_between_two_thresholds():
    logits = np.array([[-2.0, -0.5, 0.5, 2.0]])
    assert stability_score(logits) == pytest.approx(1 / 3)
    assert stability_score(np.full((2, 2), -9.0)) == 0.0


def test_a_mask_is_two_dimensional():
    with pytest.raises(ValueError, match=r"shape \(H, W\)"):
        Mask.from_array(np.ones((2, 2, 3)))
