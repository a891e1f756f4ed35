"""The drawn scenes: made again the same, exact, valid, and what grabcut makes of fresh ones."""

import contextlib
import hashlib
import importlib
import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from maskmill import Mask, Pipeline, Prompt, read_run
from maskmill.masks import iou

ROOT = Path(__file__).parent.parent
SCENES = ROOT / "datasets" / "scenes"
SEED = 7


@pytest.fixture(scope="module")
def generator():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "datasets")
        yield importlib.import_module("make_scenes")


@pytest.fixture(scope="module")
def again(generator, tmp_path_factory):
    """The first scenes, made again."""
    folder = tmp_path_factory.mktemp("again")
    generator.write_scenes(folder, 8, SEED)
    return folder


@pytest.fixture(scope="module")
def fresh(generator, tmp_path_factory):
    """Scenes that nobody has seen."""
    folder = tmp_path_factory.mktemp("fresh")
    generator.write_scenes(folder, 12, 20261)
    return folder


def truth_of(folder):
    """{key: [(label, Mask) in the order of the annotations]}"""
    content = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in content["images"]}
    labels = {category["id"]: category["name"] for category in content["categories"]}
    masks = {name: [] for name in names.values()}
    for annotation in content["annotations"]:
        mask = Mask.from_json({"rle": annotation["segmentation"]})
        masks[names[annotation["image_id"]]].append((labels[annotation["category_id"]], mask))
    return masks


def prompts_of(folder, name):
    """{key: the line of the prompts file}"""
    lines = map(json.loads, (folder / name).read_text(encoding="utf-8").splitlines())
    return {line["image"]: line for line in lines}


def quiet_coco(path):
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def test_the_committed_scenes_are_what_the_generator_draws(again):
    committed = truth_of(SCENES)
    for key, masks in truth_of(again).items():
        assert masks == committed[key]
        made, old = (np.asarray(PIL.Image.open(f / "images" / key), dtype=int) for f in (again, SCENES))
        assert abs(made - old).max() <= 8, "JPEG libraries differ in the last bits"
        for name in ("boxes.jsonl", "points.jsonl"):
            made, old = (prompts_of(f, name)[key] for f in (again, SCENES))
            assert made["prompts"] == old["prompts"]
    assert len(committed) == 40


def test_the_committed_pictures_are_those_of_the_prompts_and_of_the_truth():
    names = {path.name for path in (SCENES / "images").iterdir()}
    assert names == set(truth_of(SCENES)) == set(prompts_of(SCENES, "boxes.jsonl"))
    for name in ("boxes.jsonl", "points.jsonl"):
        for key, line in prompts_of(SCENES, name).items():
            assert line["sha256"] == hashlib.sha256((SCENES / "images" / key).read_bytes()).hexdigest()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_scenes(generator, again, tmp_path):
    for name, seed in (("same", SEED), ("other", SEED + 1)):
        generator.write_scenes(tmp_path / name, 2, seed)
    for key in ("000.jpg", "001.jpg"):
        first, same, other = ((f / "images" / key).read_bytes() for f in (again, tmp_path / "same", tmp_path / "other"))
        assert first == same != other
    assert not truth_of(tmp_path / "other").keys() - truth_of(tmp_path / "same").keys()
    assert truth_of(tmp_path / "other") != truth_of(tmp_path / "same")


def test_the_scenes_hold_what_they_are_for():
    truth = truth_of(SCENES)
    objects = [pair for pairs in truth.values() for pair in pairs]
    assert {label for label, _ in objects} == {"ball", "blob", "block", "ring", "star", "车辆"}
    assert sum(not pairs for pairs in truth.values()) == 2
    assert all(len(pairs) <= 5 and all(mask.area >= 600 for _, mask in pairs) for pairs in truth.values())
    assert any(" " in key for key in truth) and any(not key.isascii() for key in truth)
    for pairs in truth.values():
        layers = np.sum([mask.array for _, mask in pairs], axis=0) if pairs else np.zeros(1)
        assert layers.max() <= 1, "masks are the visible parts"


def test_a_pixel_belongs_to_a_shape_if_its_centre_lies_inside(generator):
    shapes = importlib.import_module("scene_shapes")
    disc = shapes.ellipse(10.0, 20.0, 2.5, 2.5, 0.3)(generator.X, generator.Y)
    rows, columns = np.nonzero(disc)
    expected = {
        (r, c) for r in range(15, 26) for c in range(5, 16) if (c + 0.5 - 10) ** 2 + (r + 0.5 - 20) ** 2 <= 6.25
    }
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == expected
    cover = generator.compute_coverage(shapes.ellipse(10.0, 20.0, 2.5, 2.5, 0.3))
    assert cover.sum() == pytest.approx(np.pi * 2.5**2, rel=0.05)
    assert (cover[disc] > 0.3).all() and (cover[~disc] < 0.7).all()


@pytest.mark.parametrize("first", [True, False], ids=["starts-on-the-object", "starts-beside-it"])
def test_run_lengths_are_cocos(generator, first):
    mask = np.random.default_rng(5).random((generator.HEIGHT, generator.WIDTH)) < 0.02
    mask[30:200, 40:300] = True
    mask[0, 0] = first
    assert generator.encode_run_lengths(mask) == Mask.from_array(mask).counts


@pytest.mark.parametrize("name", ["boxes.jsonl", "points.jsonl"])
def test_prompts_are_valid_and_lie_on_their_objects(name):
    truth = truth_of(SCENES)
    for key, line in prompts_of(SCENES, name).items():
        for data, (label, mask) in zip(line["prompts"], truth[key], strict=True):
            prompt = Prompt.from_json(data)
            assert prompt.fit(*mask.size) == prompt
            assert prompt.label == label
            if name == "points.jsonl":
                assert [point.label for point in prompt.points] in ([1, 0], [1, 0, 0])
            else:
                around, tight = prompt.box, mask.box
                assert around.x1 <= tight.x1 <= around.x1 + 2 and around.y2 - 2 <= tight.y2 <= around.y2
            for point in prompt.points:
                assert mask.array[int(point.y), int(point.x)] == point.label


def test_the_truth_loads_in_pycocotools():
    truth = quiet_coco(SCENES / "truth.json")
    for annotation in truth.loadAnns(truth.getAnnIds()):
        assert truth.annToMask(annotation).sum() == annotation["area"]


@pytest.fixture(scope="module")
def boxes_run(fresh, tmp_path_factory):
    """The report of a run over the fresh scenes, with boxes."""
    return run_on(fresh, tmp_path_factory.mktemp("boxes"), "boxes.jsonl")


def run_on(folder, tmp_path, prompts):
    return Pipeline.load(
        ROOT / "pipelines" / "scenes.yaml",
        dataset=[str(folder / "images")],
        output=tmp_path / "out",
        sets=[f"prompts.0.path={(folder / prompts).as_posix()}", "writers=[{use: coco}]", "run.engine=inline"],
    ).run(quiet=True)


def test_the_pipeline_as_committed_can_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert Pipeline.load("pipelines/scenes.yaml").check() == []


@pytest.mark.parametrize(("prompts", "floor"), [("boxes.jsonl", 0.90), ("points.jsonl", 0.80)])
def test_grabcut_finds_the_objects_of_fresh_scenes(fresh, boxes_run, tmp_path, prompts, floor):
    truth = truth_of(fresh)
    report = boxes_run if prompts == "boxes.jsonl" else run_on(fresh, tmp_path, prompts)
    assert report.exit_code == 0
    found = [
        float(iou([mask], [truth[result.key][mask.index][1]])[0, 0])
        for result in read_run(report.output)
        for mask in result.masks
    ]
    assert len(found) == sum(map(len, truth.values()))
    assert np.mean(found) >= floor


def test_a_runs_file_is_measured_against_the_truth_as_it_is(fresh, boxes_run):
    from pycocotools.cocoeval import COCOeval

    truth, found = quiet_coco(fresh / "truth.json"), quiet_coco(boxes_run.output / "coco" / "instances.json")
    assert [(i["id"], i["file_name"]) for i in found.dataset["images"]] == [
        (i["id"], i["file_name"]) for i in truth.dataset["images"]
    ]
    assert {c["id"]: c["name"] for c in found.dataset["categories"]} == {
        c["id"]: c["name"] for c in truth.dataset["categories"]
    }
    with contextlib.redirect_stdout(io.StringIO()):
        measured = COCOeval(truth, found, "segm")
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    assert measured.stats[1] >= 0.9, "average precision at IoU 0.5"
