"""The nms filter against masks whose overlap is known."""

from dataclasses import replace

import numpy as np
import pytest

from maskmill import Box, Mask, Prompt, testing
from maskmill_plugins.filters.nms import Nms


def mask(index, rows, score, label="a"):
    """Full-width stripe of the rows [from, to) of a 100 × 10 image."""
    array = np.zeros((100, 10), bool)
    array[slice(*rows)] = True
    made = Mask.from_array(array, score=score, prompt=Prompt(box=Box(0, 0, 9, 9), label=label))
    return replace(made, index=index)


def kept(masks, **options):
    out = Nms(**options).apply(testing.image(100, 10), masks)
    assert [m.index for m in out] == [m.index for m in masks], "order is kept, nothing vanishes without a reason"
    return [m.index for m in out if m.reason is None], [m.reason for m in out if m.reason]


def test_the_better_of_two_that_overlap_stays():
    names, reasons = kept([mask(0, (0, 50), 0.7), mask(1, (0, 48), 0.9), mask(2, (50, 99), 0.1)])
    assert names == [1, 2]
    assert reasons == ["IoU 0.960 > 0.9 with mask 1, which scores better"]


def test_a_suppressed_mask_suppresses_nothing():
    masks = [mask(0, (0, 60), 0.9), mask(1, (20, 80), 0.8), mask(2, (40, 100), 0.7)]
    assert kept(masks, iou=0.4)[0] == [0, 2]


@pytest.mark.parametrize(("across", "names"), [(False, [0, 1]), (True, [0])], ids=["per-label", "across"])
def test_labels(across, names):
    masks = [mask(0, (0, 50), 0.9, "cat"), mask(1, (0, 50), 0.8, "dog")]
    assert kept(masks, across_labels=across)[0] == names


def test_containment_drops_parts_of_a_better_mask():
    masks = [mask(0, (0, 50), 0.9), mask(1, (10, 20), 0.8), mask(2, (45, 60), 0.7)]
    assert kept(masks)[0] == [0, 1, 2]
    names, reasons = kept(masks, containment=0.9)
    assert names == [0, 2]
    assert reasons == ["containment 1.000 > 0.9 with mask 0, which scores better"]


def test_masks_without_score_come_last_and_ties_go_by_order():
    masks = [mask(0, (0, 50), None), mask(1, (0, 50), 0.1), mask(2, (60, 90), 0.5), mask(3, (60, 90), 0.5)]
    assert kept(masks)[0] == [1, 2]


def test_nothing_and_one_mask_pass():
    assert kept([]) == ([], [])
    assert kept([mask(0, (0, 5), 0.5)])[0] == [0]
