"""COCO in, masks, COCO out: what the file says survives, and pycocotools reads it."""

import contextlib
import io
import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskmill import Box, ImageResult, Mask, Pipeline, Prompt, testing
from maskmill_plugins.writers.coco import Coco

HEIGHT, WIDTH = 48, 64
DIAGONAL = np.asfortranarray(np.eye(HEIGHT, WIDTH, dtype=np.uint8))
CROWD = {"size": [HEIGHT, WIDTH], "counts": coco_mask.encode(DIAGONAL)["counts"].decode()}
WHOLE = {"bbox": [0, 0, 48, 48], "segmentation": CROWD, "area": 48}
DOCUMENT = {
    "info": {"year": 2026, "contributor": "某人", "version": "1.0"},
    "licenses": [{"id": 4, "name": "CC BY", "url": "http://x"}, {"id": 9, "name": "CC0"}],
    "images": [
        {"id": 700, "file_name": "train/猫.png", "width": WIDTH, "height": HEIGHT, "license": 9, "coco_url": "u"},
        {"id": 20, "file_name": "b.png", "width": WIDTH, "height": HEIGHT, "date_captured": "2013"},
        {"id": 21, "file_name": "gone.png", "width": WIDTH, "height": HEIGHT},
    ],
    "annotations": [
        {"id": 93, "image_id": 700, "category_id": 18, "bbox": [1, 2, 30, 40], "iscrowd": 0, "attributes": {"a": [1]}},
        {"id": 7, "image_id": 20, "category_id": 3, "bbox": [5, 5, 20, 20], "iscrowd": 0, "area": 9, "score": 0.25},
        {"id": 8, "image_id": 700, "category_id": 3, "bbox": [9, 9, 9, 9], "iscrowd": 0, "segmentation": []},
        {"id": 500, "image_id": 20, "category_id": 3, "iscrowd": 1, **WHOLE},
        {"id": 501, "image_id": 21, "category_id": 3, "iscrowd": 1, **WHOLE},
    ],
    "categories": [
        {"id": 18, "name": "猫", "supercategory": "animal", "isthing": 1},
        {"id": 3, "name": "car", "supercategory": "vehicle"},
        {"id": 90, "name": "unused", "supercategory": ""},
    ],
}
PIPELINE = """
dataset: photos
prompts:
  - {use: file, path: boxes.json, crowd: %s}
  - {use: manual, box: [1, 1, 9, 9], label: extra}
combine: all
backend: fake-backend
filters: [{use: class_map, map: {}}]
writers: [{use: coco, like: boxes.json, format: %s}]
output: out
run: {engine: inline}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    for name in ("猫.png", "b.png", "new.png"):
        testing.write_picture(tmp_path / "photos" / name, HEIGHT, WIDTH)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "fakes.py").write_text(f"import maskmill\n{testing.DROP_IN}", encoding="utf-8")
    (tmp_path / "boxes.json").write_text(json.dumps(DOCUMENT), encoding="utf-8")
    return tmp_path


def written(folder, crowd="skip", form="rle"):
    (folder / "p.yaml").write_text(PIPELINE % (crowd, form), encoding="utf-8")
    assert Pipeline.load(folder / "p.yaml").run(quiet=True).exit_code == 0
    return json.loads((folder / "out" / "coco" / "instances.json").read_text(encoding="utf-8"))


def by_id(items):
    assert len({item["id"] for item in items}) == len(items)
    return {item["id"]: item for item in items}


def without(item, *names):
    return {name: value for name, value in item.items() if name not in names}


def test_what_the_file_says_survives(folder):
    made = written(folder)
    assert (made["info"], made["licenses"]) == (DOCUMENT["info"], DOCUMENT["licenses"])
    assert made["categories"] == [*DOCUMENT["categories"], {"id": 91, "name": "extra", "supercategory": ""}]
    images, given = by_id(made["images"]), by_id(DOCUMENT["images"])
    assert set(images) == {700, 20, 701}
    assert all(without(images[number], "sha256") == given[number] for number in (700, 20))
    assert images[701]["file_name"] == "new.png"
    annotations, given = by_id(made["annotations"]), by_id(DOCUMENT["annotations"])
    assert set(annotations) == {93, 7, 8, 500, 502, 503, 504}
    for number in (93, 7, 8):
        kept = {key: given[number][key] for key in ("id", "image_id", "category_id", "iscrowd", "bbox")}
        assert kept.items() <= annotations[number].items()
    assert annotations[93]["attributes"] == {"a": [1]}
    assert annotations[7]["score"] == 1.0
    assert annotations[500] == given[500]
    assert [annotations[number]["category_id"] for number in (502, 503, 504)] == [91, 91, 91]
    assert {annotations[number]["image_id"] for number in (502, 503, 504)} == {700, 20, 701}


@pytest.mark.parametrize("form", ["rle", "polygons"])
@pytest.mark.parametrize("crowd", ["skip", "prompt"])
def test_pycocotools_reads_the_masks_of_the_boxes(folder, crowd, form):
    written(folder, crowd, form)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "out" / "coco" / "instances.json"))
    for annotation in DOCUMENT["annotations"][:3]:
        (found,) = coco.loadAnns([annotation["id"]])
        x, y, width, height = annotation["bbox"]
        expected = np.zeros((HEIGHT, WIDTH), np.uint8)
        expected[y : y + height, x : x + width] = 1
        assert np.array_equal(coco.annToMask(found), expected)
    (region,) = coco.loadAnns([500])
    assert (region["iscrowd"], coco.getAnnIds(imgIds=[20], iscrowd=True)) == (1, [500])
    assert coco.annToMask(region).sum() == (48 if crowd == "skip" else 48 * 48)
    assert isinstance(region["segmentation"], dict)


def test_a_changed_file_makes_the_output_anew_without_the_backend(folder):
    written(folder)
    changed = {**DOCUMENT, "info": {"version": "2.0"}}
    (folder / "boxes.json").write_text(json.dumps(changed), encoding="utf-8")
    assert written(folder)["info"] == {"version": "2.0"}


def results(count, masks):
    blob = np.zeros((HEIGHT, WIDTH), bool)
    blob[5:25, 5:25] = True
    for number in range(count):
        found = [
            replace(Mask.from_array(blob, score=0.5), prompt=Prompt(box=Box(5, 5, 25, 25), label="car", ref=ref))
            for ref in masks
        ]
        yield ImageResult(f"{number}.png", "done", (HEIGHT, WIDTH), "0" * 64, masks=tuple(found))


def test_a_label_that_a_filter_changed_changes_the_category(folder):
    (result,) = results(1, ["93"])
    Coco(like=folder / "boxes.json").finish(iter([replace(result, key="猫.png")]), folder / "coco")
    (annotation,) = json.loads((folder / "coco" / "instances.json").read_text(encoding="utf-8"))["annotations"]
    assert (annotation["id"], annotation["category_id"]) == (93, 3)


def test_an_id_is_given_once_and_only_in_its_image(folder):
    (result,) = results(1, ["7", "7", "93", None])
    Coco(like=folder / "boxes.json").finish(iter([replace(result, key="b.png")]), folder / "coco")
    annotations = json.loads((folder / "coco" / "instances.json").read_text(encoding="utf-8"))["annotations"]
    assert [annotation["id"] for annotation in annotations] == [7, 502, 503, 504, 500]


def test_texts_as_ids_stay_texts(folder):
    document = {
        "images": [{"id": "img-a", "file_name": "b.png"}],
        "annotations": [{"id": "ann-1", "image_id": "img-a", "category_id": "c", "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": "c", "name": "car"}],
    }
    (folder / "texts.json").write_text(json.dumps(document), encoding="utf-8")
    (result,) = results(1, ["ann-1"])
    Coco(like=folder / "texts.json").finish(iter([replace(result, key="b.png")]), folder / "coco")
    made = json.loads((folder / "coco" / "instances.json").read_text(encoding="utf-8"))
    (annotation,) = made["annotations"]
    assert (annotation["id"], annotation["image_id"], annotation["category_id"]) == ("ann-1", "img-a", "c")


def test_a_negative_id_survives(folder):
    document = {
        "images": [{"id": 7.0, "file_name": "b.png"}],
        "annotations": [{"id": -5, "image_id": 7.0, "category_id": 3, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 3, "name": "car"}],
    }
    (folder / "less.json").write_text(json.dumps(document), encoding="utf-8")
    (result,) = results(1, ["-5"])
    Coco(like=folder / "less.json").finish(iter([replace(result, key="b.png")]), folder / "coco")
    made = json.loads((folder / "coco" / "instances.json").read_text(encoding="utf-8"))
    assert [(item["id"], item["image_id"]) for item in made["annotations"]] == [(-5, made["images"][0]["id"])]


def test_a_file_that_cannot_be_read_is_found_before_the_run(folder):
    (folder / "broken.json").write_text('{"images": [', encoding="utf-8")
    (problem,) = Coco(like=folder / "broken.json").check()
    assert "broken.json:1:13: not JSON" in str(problem)
    (problem,) = Coco(like=folder / "nowhere.json").check()
    assert "nowhere.json: cannot be read" in str(problem)


def test_memory_does_not_grow_with_the_number_of_images(folder):
    images = [{"id": number, "file_name": f"{number}.png"} for number in range(300)]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [5, 5, 20, 20], "note": "x" * 500} for n in range(600)
    ]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "car"}]}
    (folder / "many.json").write_text(json.dumps(document), encoding="utf-8")

    def peak(count):
        tracemalloc.start()
        Coco(like=folder / "many.json").finish(results(count, ["1"] * 8), folder / "coco")
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(5)
    small = peak(20)
    assert peak(300) - small < 200_000
