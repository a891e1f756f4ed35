"""pipelines/boxes_to_masks.yaml: boxes in one YAML file, masks out, on photos if they are installed."""

import csv
import json
from pathlib import Path

import pytest

from maskmill import Pipeline, testing

ROOT = Path(__file__).parent.parent
BOXES = json.loads((ROOT / "datasets" / "quickstart" / "boxes.json").read_text(encoding="utf-8"))


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    photos = tmp_path / "photos"
    for image in BOXES["images"]:
        testing.write_picture(photos / image["file_name"], image["height"], image["width"], image["id"])

    def load(**more):
        sets = ["backend={use: grabcut, iterations: 1}", "run.engine=inline"]
        file = ROOT / "pipelines" / "boxes_to_masks.yaml"
        return Pipeline.load(file, dataset=[str(photos)], output=tmp_path / "out", sets=sets, **more)

    return load


def test_every_box_of_the_sample_is_a_mask_or_has_a_reason(pipeline):
    loaded = pipeline()
    assert loaded.check() == []
    assert loaded.unmatched() == []
    report = loaded.run(quiet=True)
    with (report.output / "prompts.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["ref"]) for row in rows) == [annotation["id"] for annotation in BOXES["annotations"]]
    assert {row["outcome"] for row in rows} <= {"mask", "dropped"}
    made = json.loads((report.output / "coco" / "instances.json").read_text(encoding="utf-8"))
    masks = {int(row["ref"]) for row in rows if row["outcome"] == "mask"}
    assert {annotation["id"] for annotation in made["annotations"]} == masks
    assert made["info"] == BOXES["info"]
    given = {annotation["id"]: annotation for annotation in BOXES["annotations"]}
    for annotation in made["annotations"]:
        x, y, width, height = given[annotation["id"]]["bbox"]
        left, top, wide, high = annotation["bbox"]
        assert left >= x - 0.1 * width - 1 and left + wide <= x + 1.1 * width + 1
        assert top >= y - 0.1 * height - 1 and top + high <= y + 1.1 * height + 1


def test_the_boxes_are_those_of_the_quickstart():
    lines = (ROOT / "datasets" / "quickstart" / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    names = {image["id"]: image["file_name"] for image in BOXES["images"]}
    labels = {category["id"]: category["name"] for category in BOXES["categories"]}
    expected = [
        (Path(line["image"]).name, prompt["label"], *prompt["box"])
        for line in map(json.loads, lines)
        for prompt in line["prompts"]
        if "box" in prompt
    ]
    found = [
        (names[item["image_id"]], labels[item["category_id"]], x, y, x + width, y + height)
        for item in BOXES["annotations"]
        for x, y, width, height in [item["bbox"]]
    ]
    assert found == expected
