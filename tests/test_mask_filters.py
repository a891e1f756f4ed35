"""The filters cleanup, no_overlap, max_per_image and class_map on masks that are known."""

from dataclasses import replace

import numpy as np
import pytest

from maskmill import Box, Mask, PipelineError, Prompt, read_run, testing
from maskmill_plugins.filters.class_map import ClassMap
from maskmill_plugins.filters.cleanup import Cleanup
from maskmill_plugins.filters.max_per_image import MaxPerImage
from maskmill_plugins.filters.no_overlap import NoOverlap

PROMPT = Prompt(box=Box(0, 0, 9, 9))


def drawn(*lines, index=0, score=None, label=None):
    """A mask from a drawing, # on the object."""
    array = np.array([[letter == "#" for letter in line] for line in lines])
    return replace(Mask.from_array(array, score=score, prompt=replace(PROMPT, label=label)), index=index)


def lines(mask):
    return ["".join(".#"[int(pixel)] for pixel in row) for row in mask.array]


def applied(stage, *masks):
    out = stage.apply(testing.image(*masks[0].size), masks)
    assert [mask.index for mask in out] == [mask.index for mask in masks], "nothing vanishes without a reason"
    return out


RAGGED = ("###...#", "#.#....", "###...#", ".......", "....##.", "#...#..")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"islands": 2}, ("###....", "#.#....", "###....", ".......", "....##.", "....#..")),
        ({"islands": 4}, ("###....", "#.#....", "###....", ".......", ".......", ".......")),
        ({"holes": 2}, ("###...#", "###....", "###...#", ".......", "....##.", "#...#..")),
        ({"holes": 99}, ("###...#", "###....", "###...#", ".......", "....##.", "#...#..")),
        ({"keep_largest": True}, ("###....", "#.#....", "###....", ".......", ".......", ".......")),
        ({"holes": 2, "islands": 8}, ("###....", "###....", "###....", ".......", ".......", ".......")),
    ],
    ids=["specks", "islands", "holes", "the-outside-is-no-hole", "largest", "a-filled-hole-counts"],
)
def test_cleanup(options, expected):
    (after,) = applied(Cleanup(**options), drawn(*RAGGED))
    assert lines(after) == list(expected)
    assert after.reason is None


def test_cleanup_drops_what_is_too_small_altogether():
    (after,) = applied(Cleanup(islands=3), drawn("##..", "...#"))
    assert after.reason == "all its parts have fewer than 3 pixels"


def test_cleanup_leaves_a_tidy_mask_as_it_is():
    mask = drawn("....", ".##.", ".##.")
    assert applied(Cleanup(islands=2, holes=5, keep_largest=True), mask) == [mask]


def test_cleanup_without_anything_to_do_is_worth_a_warning():
    (problem,) = Cleanup(islands=1).check()
    assert problem.warning
    assert str(problem) == "warning: changes no mask\n  give `islands` or `holes` in pixels, or `keep_largest: true`"


OVERLAPPING = (
    drawn("####", "####", "....", index=0, score=0.5),
    drawn(".##.", ".##.", ".##.", index=1, score=0.9),
    drawn("..##", "...#", "....", index=2),
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [["#..#", "#..#", "...."], [".##.", ".##.", ".##."], None]),
        ({"min_left": 0.6}, [None, [".##.", ".##.", ".##."], ["...#", "...#", "...."]]),
        ({"by": "smallest"}, [["#...", "#...", "...."], [".#..", ".##.", ".##."], ["..##", "...#", "...."]]),
    ],
    ids=["score", "min-left", "smallest"],
)
def test_no_pixel_belongs_to_two_masks(options, expected):
    after = applied(NoOverlap(**options), *OVERLAPPING)
    assert [None if mask.reason else lines(mask) for mask in after] == expected
    assert sum(mask.array.astype(int) for mask in after if not mask.reason).max() == 1


def test_a_mask_that_loses_too_much_says_so_and_takes_nothing():
    after = applied(NoOverlap(min_left=0.6), *OVERLAPPING)
    assert after[0].reason == "better masks cover 4 of its 8 pixels"


MANY = tuple(
    drawn("#" * size + "." * (9 - size), index=index, score=score, label=label)
    for index, (size, score, label) in enumerate([(3, 0.2, "a"), (1, None, "b"), (9, 0.9, "a"), (4, 0.2, "a")])
)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"count": 2}, [0, 2]),
        ({"count": 2, "by": "area"}, [2, 3]),
        ({"count": 1, "per_label": True}, [1, 2]),
        ({"count": 9}, [0, 1, 2, 3]),
    ],
    ids=["score", "area", "per-label", "fewer-than-that"],
)
def test_the_best_stay(options, kept):
    assert [mask.index for mask in applied(MaxPerImage(**options), *MANY) if not mask.reason] == kept


def test_those_beyond_the_number_say_why():
    reasons = [mask.reason for mask in applied(MaxPerImage(count=1, per_label=True), *MANY)]
    assert reasons == ["rank 2 of 'a' by score, the limit is 1", None, None, "rank 3 of 'a' by score, the limit is 1"]


def test_labels_are_mapped():
    masks = [drawn("#", index=i, label=label) for i, label in enumerate(["car", "犬", "sky", None, "tree"])]
    table = {"car": "vehicle", "犬": "动物", "sky": None, "": "thing"}
    after = applied(ClassMap(map=table), *masks)
    assert [mask.label for mask in after if not mask.reason] == ["vehicle", "动物", "thing", "tree"]
    assert after[2].reason == "label 'sky' is mapped to null"
    after = applied(ClassMap(map=table, others="drop"), *masks)
    assert after[4].reason == "label 'tree' is not in the map"


PIPELINE = """
dataset: photos
prompts: [{use: manual, box: [0, 0, 1, 1], units: relative, label: car}]
backend: {use: grabcut}
filters: FILTERS
writers: [{use: coco}]
output: out
run: {engine: inline}
"""


def run(folder, filters):
    from maskmill import Pipeline

    file = folder / "p.yaml"
    file.write_text(PIPELINE.replace("FILTERS", filters), encoding="utf-8")
    Pipeline.load(file).run(quiet=True)
    (result,) = read_run(folder / "out")
    return result.masks[0]


def test_what_filters_changed_is_recorded_and_taken_back_when_they_go(tmp_path):
    testing.write_picture(tmp_path / "photos" / "a.png")
    before = run(tmp_path, "[]")
    both = "[{use: class_map, map: {car: vehicle}}, {use: cleanup, keep_largest: true, holes: 9}]"
    after = run(tmp_path, both)
    assert after.label == "vehicle"
    assert after.changed_by[0] == "class_map"
    assert run(tmp_path, "[]") == before


def test_a_mask_that_a_filter_empties_is_dropped_by_it(tmp_path):
    testing.write_picture(tmp_path / "photos" / "a.png")
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "wipe.py").write_text(
        "from maskmill import Filter, hookimpl\n"
        "class Wipe(Filter):\n"
        "    def apply(self, image, masks):\n"
        "        return [mask.with_array(mask.array & False) for mask in masks]\n"
        "@hookimpl\n"
        "def register_filters(register):\n"
        "    register('wipe', Wipe)\n",
        encoding="utf-8",
    )
    mask = run(tmp_path, "[{use: wipe}]")
    assert (mask.dropped_by, mask.reason) == ("wipe", "nothing is left of it")


@pytest.mark.parametrize(
    "filters", ["[{use: max_per_image}]", "[{use: class_map, map: {no: 1}}]"], ids=["count", "map"]
)
def test_options_that_cannot_be_are_refused(tmp_path, filters):
    testing.write_picture(tmp_path / "photos" / "a.png")
    with pytest.raises(PipelineError):
        run(tmp_path, filters)
