"""coco: pycocotools reads the file, evaluates it, and gets the masks back."""

import contextlib
import io
import json
import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from maskmill import ImageResult, Mask, Point, Prompt
from maskmill_plugins.writers.coco import Coco

HEIGHT, WIDTH = 40, 50
KEYS = ["a.jpg", "a.png", "sub/a.jpg", "照片/车辆 1.jpg", "长" * 83 + ".jpeg", "\udce9.png"]
RNG = np.random.default_rng(0)


def block(y1, y2, x1, x2):
    array = np.zeros((HEIGHT, WIDTH), bool)
    array[y1:y2, x1:x2] = True
    return array


def mask(array, label="cat", score=0.5, source="file", **more):
    prompt = Prompt(points=(Point(1, 1),), label=label, source=source)
    return Mask.from_array(array, score=score, prompt=prompt, **more)


def result(key, *masks):
    return ImageResult(key, "done" if masks else "empty", (HEIGHT, WIDTH), sha256="0" * 64, masks=masks)


DATASET = [
    result(KEYS[0], mask(block(2, 20, 3, 30), "猫"), mask(block(10, 30, 20, 45), "dog", score=None)),
    result(KEYS[1]),
    result(KEYS[2], mask(block(0, HEIGHT, 0, WIDTH), "a/b"), mask(block(5, 6, 7, 8), None)),
    result(KEYS[3], mask(block(39, 40, 49, 50), ""), mask(block(0, 0, 0, 0), "ghost")),
    result(KEYS[4], mask(block(3, 18, 4, 40) & ~block(8, 12, 10, 20), "con", stability=0.9)),
    result(KEYS[5], mask(block(1, 3, 1, 3) | block(30, 36, 30, 44), "猫", score=None)),
]


def written(tmp_path, results=DATASET, **options):
    (artifact,) = Coco(**options).finish(iter(results), tmp_path)
    assert artifact.path == "instances.json"
    data = (tmp_path / artifact.path).read_bytes()
    assert artifact.bytes == len(data)
    assert [path.name for path in tmp_path.iterdir()] == ["instances.json"]
    return json.loads(data)


def loaded(tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(tmp_path / "instances.json")


formats = pytest.mark.parametrize("form", ["rle", "polygons"])


@formats
def test_every_image_and_every_mask_with_pixels_is_listed(form, tmp_path):
    data = written(tmp_path, format=form)
    assert [(image["id"], image["file_name"]) for image in data["images"]] == list(enumerate(KEYS, start=1))
    assert {(image["width"], image["height"]) for image in data["images"]} == {(WIDTH, HEIGHT)}
    assert [a["id"] for a in data["annotations"]] == list(range(1, 8))
    assert [a["image_id"] for a in data["annotations"]] == [1, 1, 3, 3, 4, 5, 6]
    names = {category["id"]: category["name"] for category in data["categories"]}
    assert [names[a["category_id"]] for a in data["annotations"]] == [
        "猫",
        "dog",
        "a/b",
        "object",
        "object",
        "con",
        "猫",
    ]
    assert data["licenses"] == []


def test_an_annotation_has_box_area_score_and_origin(tmp_path):
    first, second, *_, hole, parts = written(tmp_path)["annotations"]
    assert first["bbox"] == [3.0, 2.0, 27.0, 18.0]
    assert (first["area"], first["iscrowd"], first["score"]) == (486.0, 0, 0.5)
    assert first["maskmill"] == {"source": "file"}
    assert "score" not in second
    assert "score" not in parts
    assert hole["maskmill"] == {"source": "file", "stability": 0.9}


def test_categories_are_in_alphabetical_order_whatever_comes_first(tmp_path):
    expected = ["a/b", "con", "dog", "object", "猫"]
    for results in (DATASET, DATASET[::-1]):
        categories = written(tmp_path, results)["categories"]
        assert [(c["id"], c["name"]) for c in categories] == list(enumerate(expected, start=1))


def test_categories_can_be_given_and_the_others_follow(tmp_path):
    data = written(tmp_path, categories=("猫", "unseen"))
    assert [c["name"] for c in data["categories"]] == ["猫", "unseen", "a/b", "con", "dog", "object"]
    assert data["annotations"][0]["category_id"] == 1


def test_a_category_given_twice_is_a_problem():
    (problem,) = Coco(categories=("a", "b", "a")).check()
    assert "'a'" in problem.message


@formats
def test_a_dataset_without_any_mask_or_image_is_valid(form, tmp_path):
    for results in ([], [result("a.jpg")]):
        data = written(tmp_path, results, format=form)
        assert (len(data["images"]), data["annotations"], data["categories"]) == (len(results), [], [])
        assert loaded(tmp_path).getAnnIds() == []


@formats
def test_the_same_results_give_the_same_ascii_bytes(form, tmp_path):
    for name in ("one", "two"):
        Coco(format=form).finish(iter(DATASET), tmp_path / name)
    one, two = ((tmp_path / name / "instances.json").read_bytes() for name in ("one", "two"))
    assert one == two
    assert one.isascii()


def test_pycocotools_gives_back_every_pixel_of_the_rle(tmp_path):
    written(tmp_path)
    coco = loaded(tmp_path)
    masks = [m for r in DATASET for m in r.kept if m.area]
    for annotation, expected in zip(coco.dataset["annotations"], masks, strict=True):
        assert np.array_equal(coco.annToMask(annotation), expected.array)


@pytest.mark.parametrize("holes", ["bridge", "rle", "fill"])
def test_pycocotools_gives_back_the_polygons_and_the_holes_unless_they_are_filled(holes, tmp_path):
    written(tmp_path, format="polygons", holes=holes, tolerance=0.0)
    coco = loaded(tmp_path)
    masks = [m.array for r in DATASET for m in r.kept if m.area]
    if holes == "fill":
        masks[5] = block(3, 18, 4, 40)
    kinds = [type(annotation["segmentation"]) for annotation in coco.dataset["annotations"]]
    assert kinds == [dict if holes == "rle" and number == 5 else list for number in range(len(masks))]
    for annotation, expected in zip(coco.dataset["annotations"], masks, strict=True):
        assert np.array_equal(coco.annToMask(annotation), expected)


@formats
def test_the_masks_evaluated_against_themselves_are_perfect(form, tmp_path):
    blobs = [result(f"{n}.png", mask(disc(n), "disc", score=1 - n / 10)) for n in range(6)]
    data = written(tmp_path, blobs, format=form)
    truth = loaded(tmp_path)
    found = [
        {"image_id": n, "category_id": data["categories"][0]["id"], "segmentation": r.kept[0].rle, "score": 0.9}
        for n, r in enumerate(blobs, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def disc(n):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (y - 20) ** 2 + (x - 20 - n) ** 2 <= (10 + n) ** 2


def test_memory_does_not_grow_with_the_number_of_masks(tmp_path):
    noisy = mask(RNG.random((HEIGHT, WIDTH)) > 0.5)

    def peak(count):
        tracemalloc.start()
        Coco().finish((result(f"{n}.png", *[noisy] * 20) for n in range(count)), tmp_path)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size, (tmp_path / "instances.json").stat().st_size

    small, _ = peak(10)
    large, written_bytes = peak(150)
    assert written_bytes > 3_000_000
    assert large - small < 200_000


def test_a_failure_half_way_leaves_the_file_of_before_and_nothing_else(tmp_path):
    written(tmp_path)
    before = (tmp_path / "instances.json").read_bytes()

    def broken():
        yield DATASET[0]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        Coco().finish(broken(), tmp_path)
    assert (tmp_path / "instances.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["instances.json"]


def test_nothing_is_written_image_by_image(tmp_path):
    assert Coco().write(None, DATASET[0], tmp_path) == []
    assert not Coco.needs_pixels


def test_polygons_become_rle_that_pycocotools_can_merge(tmp_path):
    parts = written(tmp_path, format="polygons")["annotations"][-1]["segmentation"]
    assert len(parts) == 2
    rle = coco_mask.merge(coco_mask.frPyObjects(parts, HEIGHT, WIDTH))
    assert coco_mask.area(rle) == 4 + 6 * 14
