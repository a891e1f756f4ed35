"""score: which masks stay, and the reasons of those that go."""

import numpy as np
import pytest
from pydantic import ValidationError

from maskmill import Mask, testing
from maskmill_plugins.filters.score import Score

IMAGE = testing.image(20, 50)  # 1000 pixels


def mask(area=100, score=0.8, stability=0.9):
    array = np.zeros((20, 50), bool)
    array.flat[:area] = True
    return Mask.from_array(array, score=score, stability=stability)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"min_score": 0.81}, "score 0.8 < 0.81"),
        ({"min_score": 0.8}, None),
        ({"min_stability": 0.95}, "stability 0.9 < 0.95"),
        ({"min_stability": 0.9}, None),
        ({"min_area": 101}, "area 100 < 101"),
        ({"min_area": 100, "max_area": 100}, None),
        ({"max_area": 99}, "area 100 > 99"),
        ({"min_fraction": 0.11}, "fraction 0.1 < 0.11"),
        ({"max_fraction": 0.05}, "fraction 0.1 > 0.05"),
        ({"min_fraction": 0.1, "max_fraction": 0.1}, None),
        ({"min_score": 0.9, "min_area": 101}, "score 0.8 < 0.9"),
        ({}, None),
    ],
)
def test_a_mask_beyond_a_limit_goes_and_says_why(options, reason):
    (judged,) = Score.from_options(options).apply(IMAGE, [mask()])
    assert judged.reason == reason
    assert judged.counts == mask().counts


def test_masks_without_scores_are_kept_and_the_order_stays():
    masks = [mask(score=None), mask(score=0.1), mask(stability=None), mask()]
    judged = Score(min_score=0.5, min_stability=0.5).apply(IMAGE, masks)
    assert [m.reason for m in judged] == [None, "score 0.1 < 0.5", None, None]


def test_a_nearly_good_score_is_not_rounded_into_nonsense():
    (judged,) = Score(min_score=0.8).apply(IMAGE, [mask(score=0.79996)])
    assert judged.reason == "score 0.79996 < 0.8"


def test_the_limits_are_checked_before_the_run():
    (problem,) = Score(min_area=10, max_area=5).check()
    assert "min_area 10 is above max_area 5" in problem.message
    assert not problem.warning
    (warning,) = Score().check()
    assert warning.warning
    assert "min_score" in warning.hint
    assert Score(min_score=0.0).check() == []


@pytest.mark.parametrize("options", [{"min_score": 1.5}, {"min_area": -1}, {"min_area": 1.5}, {"minscore": 0.5}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        Score.from_options(options)
