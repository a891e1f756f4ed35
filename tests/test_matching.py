"""Images and annotations find each other by path, then by a name that only one of them has."""

import tracemalloc

import pytest

from maskmill_plugins._shared.prompt_files.matching import Matcher, Matching, find_name

FINDS = {
    "path": (["a/x.jpg", "b/x.jpg"], "a/x.jpg", "a/x.jpg"),
    "windows path": (["a\\x.jpg"], "a/x.jpg", "a\\x.jpg"),
    "dot before": (["./a/x.jpg"], "a/x.jpg", "./a/x.jpg"),
    "decomposed": (["cafe\u0301.jpg"], "caf\u00e9.jpg", "cafe\u0301.jpg"),
    "path before name": (["x.jpg", "a/x.jpg"], "x.jpg", "x.jpg"),
    "name": (["images/train/x.jpg"], "y/x.jpg", "images/train/x.jpg"),
    "name of a flat file": (["猫 1.jpg"], "图/猫 1.jpg", "猫 1.jpg"),
    "name before stem": (["a/x.png", "b/x.jpg"], "x.jpg", "b/x.jpg"),
    "stem": (["x.png"], "a/x.jpg", "x.png"),
    "no ending": (["a/x"], "a/x.jpg", "a/x"),
    "dots are no ending": (["img.v1", "img.v2"], "img.v1.jpg", "img.v1"),
    "end of the path": (["val/x.jpg", "train/x.jpg"], "images/val/x.jpg", "val/x.jpg"),
    "path is the end": (["coco/val/x.jpg", "coco/train/x.jpg"], "val/x.jpg", "coco/val/x.jpg"),
    "stem at the end of the path": (["images/val/x", "images/train/x"], "val/x.png", "images/val/x"),
    "not part of a name": (["ax.jpg"], "x.jpg", None),
    "nothing": ([], "x.jpg", None),
    "several names": (["a/x.jpg", "b/x.jpg"], "x.jpg", None),
    "several names elsewhere": (["a/x.jpg", "b/x.jpg"], "c/x.jpg", None),
    "several stems": (["x.png", "x.bmp"], "x.jpg", None),
    "named twice": (["x.jpg", "x.jpg"], "a/x.jpg", "x.jpg"),
    "case": (["X.jpg"], "x.jpg", None),
}


@pytest.mark.parametrize(("names", "key", "expected"), FINDS.values(), ids=FINDS)
def test_an_image_is_found_by_path_then_name_then_stem(names, key, expected):
    assert Matcher(names).find(key) == expected


def test_what_fits_equally_well_is_told():
    matcher = Matcher(["a/x.jpg", "b/x.jpg", "y.jpg"])
    assert matcher.candidates("x.jpg") == ("a/x.jpg", "b/x.jpg")
    assert matcher.candidates("y.jpg") == ("y.jpg",)
    assert matcher.candidates("z.jpg") == ()


def matched(names, keys):
    return Matching(Matcher(names), keys)


def test_both_sides_know_what_has_no_counterpart():
    sides = matched(["a.jpg", "b.jpg", "c.jpg"], ["sub/b.jpg", "c.jpg", "d.jpg"])
    assert [sides.key_of(name) for name in ("a.jpg", "b.jpg", "c.jpg")] == [None, "sub/b.jpg", "c.jpg"]
    assert (sides.unmatched_names.first, sides.unmatched_images.first, sides.ambiguous.count) == (
        ["a.jpg"],
        ["d.jpg"],
        0,
    )
    assert sides.warnings("x.json") == [
        "1 of the images in x.json is not in the dataset: a.jpg",
        "1 of 3 images is not in x.json: d.jpg",
    ]


def test_an_annotation_that_several_images_fit_is_given_to_none():
    sides = matched(["x.jpg"], ["a/x.jpg", "b/x.jpg"])
    assert sides.key_of("x.jpg") is None
    assert sides.ambiguous.count == 2
    assert sides.unmatched_names.first == ["x.jpg"]
    assert sides.explain("x.jpg") == "several images of the dataset match it: a/x.jpg, b/x.jpg"
    assert find_name(Matcher(["x.jpg"]), "a/x.jpg", sides.blocked) == (
        None,
        "x.jpg matches a/x.jpg, b/x.jpg equally well",
    )


def test_an_annotation_with_the_path_of_one_image_is_not_taken_for_another():
    sides = matched(["x.jpg"], ["a/x.jpg", "x.jpg", "x.png"])
    assert sides.key_of("x.jpg") == "x.jpg"
    assert sides.unmatched_images.first == ["a/x.jpg", "x.png"]
    matcher = Matcher(["x.jpg"])
    assert [find_name(matcher, key, sides.blocked) for key in ("x.jpg", "a/x.jpg")] == [("x.jpg", ""), (None, "")]


def test_an_image_that_several_annotations_fit_is_given_none():
    sides = matched(["a/x.jpg", "b/x.jpg"], ["x.jpg"])
    assert (sides.ambiguous.count, sides.unmatched_names.count) == (1, 2)
    assert "matches it and other names in this file" in sides.explain("a/x.jpg")
    _, why = find_name(Matcher(["a/x.jpg", "b/x.jpg"]), "x.jpg", sides.blocked)
    assert why == "several of its image names match equally well: a/x.jpg, b/x.jpg"


def test_only_the_first_are_named():
    sides = matched([], [f"{n}.jpg" for n in range(1000)])
    assert sides.warnings("f") == ["1,000 of 1,000 images are not in f: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg, ..."]


def test_a_name_takes_little_memory():
    tracemalloc.start()
    matcher = Matcher(f"images/train2017/{n:012}.jpg" for n in range(20_000))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert matcher.find("000000000007.jpg") == "images/train2017/000000000007.jpg"
    assert held < 150 * 20_000
