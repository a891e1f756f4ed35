"""The drawn scenes: made again the same, valid, and what grabcut makes of fresh ones."""

import contextlib
import importlib.util
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


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("make_scenes", ROOT / "datasets" / "make_scenes.py")
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["make_scenes"] = module
    spec.loader.exec_module(module)
    return module


def truth_of(folder):
    """{key: [Mask in the order of the annotations]}"""
    content = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in content["images"]}
    masks = {name: [] for name in names.values()}
    for annotation in content["annotations"]:
        masks[names[annotation["image_id"]]].append(Mask.from_json({"rle": annotation["segmentation"]}))
    return masks


def test_the_committed_scenes_are_what_the_generator_draws(generator, tmp_path):
    generator.make(tmp_path, 8, 7)
    committed = truth_of(SCENES)
    for key, masks in truth_of(tmp_path).items():
        assert masks == committed[key]
        fresh, old = (np.asarray(PIL.Image.open(f / "images" / key), dtype=int) for f in (tmp_path, SCENES))
        assert abs(fresh - old).max() <= 8, "JPEG libraries differ in the last bits"
    assert len(committed) == 40


@pytest.mark.parametrize("name", ["boxes.jsonl", "points.jsonl"])
def test_prompts_are_valid_and_lie_on_their_objects(name):
    truth = truth_of(SCENES)
    for line in map(json.loads, (SCENES / name).read_text(encoding="utf-8").splitlines()):
        prompts = [Prompt.from_json(prompt) for prompt in line["prompts"]]
        assert len(prompts) == len(truth[line["image"]])
        for prompt, mask in zip(prompts, truth[line["image"]], strict=True):
            assert prompt.fit(*mask.size) == prompt
            for point in prompt.points:
                assert mask.array[int(point.y), int(point.x)] == point.label


def test_the_truth_loads_in_pycocotools():
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(SCENES / "truth.json"))
    annotation = truth.loadAnns(truth.getAnnIds())[0]
    assert truth.annToMask(annotation).sum() == annotation["area"]


def run_on(folder, tmp_path, prompts):
    text = (ROOT / "pipelines" / "scenes.yaml").read_text(encoding="utf-8")
    text = text.replace("../datasets/scenes/boxes.jsonl", (folder / prompts).as_posix())
    text = text.replace("../datasets/scenes", folder.as_posix()).replace(
        "../outputs/scenes", (tmp_path / "out").as_posix()
    )
    file = tmp_path / "scenes.yaml"
    file.write_text(text, encoding="utf-8")
    return Pipeline.load(file).run(quiet=True)


@pytest.mark.parametrize(("prompts", "floor"), [("boxes.jsonl", 0.90), ("points.jsonl", 0.75)])
def test_grabcut_finds_the_objects_of_fresh_scenes(generator, tmp_path, prompts, floor):
    generator.make(tmp_path / "fresh", 12, 20261)
    truth = truth_of(tmp_path / "fresh")
    report = run_on(tmp_path / "fresh", tmp_path, prompts)
    assert report.exit_code == 0
    found = [
        float(iou([mask], [truth[result.key][mask.index]])[0, 0])
        for result in read_run(report.output)
        for mask in result.masks
    ]
    assert len(found) == sum(map(len, truth.values()))
    assert np.mean(found) >= floor
