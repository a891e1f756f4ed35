"""Which image a name means."""

import pytest

from maskmill_plugins._shared.matching import Matcher

NAMES = ["a/1.jpg", "b/1.jpg", r"c\照片 2.jpg", "./d/3.png", "4.xml"]


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("a/1.jpg", "a/1.jpg"),
        ("b/1.jpg", "b/1.jpg"),
        ("c/照片 2.jpg", r"c\照片 2.jpg"),
        ("d/3.png", "./d/3.png"),
        ("elsewhere/3.tif", "./d/3.png"),
        ("照片 2.png", r"c\照片 2.jpg"),
        ("4.jpg", "4.xml"),
        ("1.jpg", None),
        ("x/1.png", None),
        ("5.jpg", None),
    ],
)
def test_by_path_then_by_a_stem_that_is_there_once(key, found):
    assert Matcher(NAMES).find(key) == found
