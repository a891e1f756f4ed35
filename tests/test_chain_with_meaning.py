"""From a model's answers to masks: a stand-in for Qwen that knows the scenes; nothing may be lost or moved."""

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from qwen_wire import Act, Wire, boxes

from maskmill import Pipeline, Run

pytest.importorskip("openai")
SCENES = Path(__file__).parent.parent / "datasets" / "scenes"
LINES = [json.loads(line) for line in (SCENES / "boxes.jsonl").read_text(encoding="utf-8").splitlines()]
TRUTH = {line["image"]: line for line in LINES}
CLASSES = sorted({prompt["label"] for line in LINES for prompt in line["prompts"]})
#: Pixels by which a box in thousandths can differ from the same box in pixels: half a thousandth of the longer side.
ROUNDING = 0.16 + 1e-6
KEYS = ["sk-Scene0123456789Secret", "1", "x", "EMPTY", "k", "ollama", "0", "label", "block"]


def look(picture):
    """What a picture looks like from afar, to know it again however it was sent."""
    return np.asarray(picture.convert("RGB").resize((16, 12)), dtype=float)


LOOKS = {name: look(PIL.Image.open(SCENES / "images" / name)) for name in TRUTH}


def answer_with_the_truth(call):
    """The objects of the classes that the question names, in thousandths of the picture's sides."""
    seen = look(call.picture)
    line = TRUTH[min(LOOKS, key=lambda name: np.abs(LOOKS[name] - seen).mean())]
    height, width = line["size"]
    asked = {name for name in CLASSES if re.search(rf"(?<![a-z]){name}(?![a-z])", call.text)}
    found = [
        (
            prompt["label"],
            [round(edge * 1000 / side) for edge, side in zip(prompt["box"], (width, height) * 2, strict=True)],
        )
        for prompt in line["prompts"]
        if prompt["label"] in asked
    ]
    return Act(boxes(*found))


def run_over_the_scenes(tmp_path, monkeypatch, key, backend, one_by_one, limit=None):
    monkeypatch.setenv("SCENE_KEY", key)
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    with Wire(answer_with_the_truth, key) as wire:
        source = {"use": "qwen", "provider": "openai", "base_url": wire.openai, "api_key": "${SCENE_KEY}"}
        source |= {"find": CLASSES, "one_class_per_call": one_by_one, "cache": False}
        content = {
            "dataset": str(SCENES / "images"),
            "prompts": [source],
            "backend": backend,
            "output": "out",
            "run": {"engine": "inline"},
        }
        (tmp_path / "p.yaml").write_text(json.dumps(content), encoding="utf-8")
        report = Pipeline.load(tmp_path / "p.yaml").run(quiet=True, limit=limit)
        assert not wire.refused
    with Run(tmp_path / "out") as opened:
        results = list(opened.results())
    assert report.exit_code == 0, [result.failure for result in results if result.failure][:3]
    return results


def check_against_the_truth(results):
    for result in results:
        expected = sorted((prompt["label"], prompt["box"]) for prompt in TRUTH[result.key]["prompts"])
        found = sorted(
            ((prompt.label, list(prompt.box.xyxy)) for prompt in result.prompts),
            key=lambda item: (item[0], [round(edge) for edge in item[1]]),
        )
        assert [label for label, _ in found] == [label for label, _ in expected], result.key
        differences = np.abs(np.array([box for _, box in found], float) - np.array([box for _, box in expected], float))
        assert differences.max(initial=0) <= ROUNDING, result.key
        assert [mask.label for mask in result.kept] == [prompt.label for prompt in result.prompts]
        assert not result.doubts


CASES = [
    *(pytest.param(key, False, id=f"{key}, all at once") for key in KEYS),
    pytest.param("block", True, id="block, per class"),
]


@pytest.mark.parametrize(("key", "one_by_one"), CASES)
def test_the_truth_goes_in_and_comes_out_whatever_the_key(tmp_path, monkeypatch, key, one_by_one):
    limit = len(TRUTH) if key == KEYS[0] and not one_by_one else 6
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "fill.py").write_text("from maskmill.testing.fakes import register_backends\n")
    results = run_over_the_scenes(tmp_path, monkeypatch, key, "fake-backend", one_by_one, limit)
    assert [result.key for result in results] == sorted(TRUTH)[:limit]
    check_against_the_truth(results)
    for result in results:
        for mask in result.kept:
            box = mask.prompt.box
            assert mask.box.xyxy == tuple(float(round(edge)) for edge in box.xyxy)


def test_real_masks_have_the_labels_of_their_objects(tmp_path, monkeypatch):
    backend = {"use": "grabcut", "iterations": 1}
    results = run_over_the_scenes(tmp_path, monkeypatch, KEYS[0], backend, False, limit=4)
    assert len(results) == 4
    check_against_the_truth(results)
    for result in results:
        for mask in result.kept:
            assert 0.2 * mask.prompt.box.area < mask.area <= 1.05 * mask.prompt.box.area, (result.key, mask.label)
