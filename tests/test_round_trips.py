"""Exports read back by our own prompt source `file`: the same prompts, and from them the same files again."""

import json
from pathlib import Path

import numpy as np
import pytest
from stored_runs import files, told

from maskmill import Image, ImageRef, Pipeline, testing
from maskmill_plugins.prompts.file import File

HEIGHT, WIDTH = 60, 80
FILL = """
from maskmill import Backend, Mask, hookimpl
import numpy as np


class FillBackend(Backend):
    def accepts(self):
        return frozenset({"box"})

    def masks(self, image, prompts, embedding=None):
        found = []
        for prompt in prompts:
            x1, y1, x2, y2 = (round(value) for value in prompt.box.xyxy)
            array = np.zeros(image.size, bool)
            array[y1:y2, x1:x2] = True
            found.append(Mask.from_array(array, prompt=prompt))
        return found


@hookimpl
def register_backends(register):
    register("fill", FillBackend)
"""
BOXES = {
    "a.jpg": [((3, 5, 30, 20), "猫"), ((10, 10, 80, 60), "dog, big"), ((0, 0, 1, 1), "猫")],
    "sub/a.png": [((0, 0, 80, 60), "a/b 'c' \"d\""), ((1, 2, 3, 4), "a:b"), ((5, 6, 9, 8), "background")],
    "images/车 1.png": [((40, 30, 41, 60), "🚗"), ((2, 2, 4, 3), None)],
    "空.png": [],
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run whose masks are the boxes of `BOXES`."""
    folder = tmp_path_factory.mktemp("往返")
    lines = []
    for key, boxes in BOXES.items():
        testing.write_picture(folder / "photos" / key, HEIGHT, WIDTH)
        prompts = [{"box": box} | ({"label": label} if label else {}) for box, label in boxes]
        lines.append(json.dumps({"image": key, "prompts": prompts}))
    (folder / "prompts.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "fill.py").write_text(FILL, encoding="utf-8")
    return run(folder, folder / "prompts.jsonl", "out")


def run(folder: Path, prompts: Path, output: str) -> Path:
    document = {
        "dataset": "photos",
        "prompts": [{"use": "file", "path": str(prompts)}],
        "backend": {"use": "fill"},
        "writers": [{"use": "coco"}],
        "output": output,
        "run": {"engine": "inline"},
    }
    (folder / "run.yaml").write_text(json.dumps(document), encoding="utf-8")
    report = Pipeline.load(folder / "run.yaml", plugins=[folder / "fill.py"], drop_ins=False).run(quiet=True)
    assert report.exit_code == 0
    return folder / output


def export(run_folder, folder, capsys, writer, *options):
    sets = [part for option in options for part in ("--set", option)]
    assert told(capsys, "export", run_folder, "--to", writer, "-o", folder, "-q", *sets)[0] == 0
    return folder


EXPORTS = {
    "coco": (["coco"], 0),
    "coco-polygons": (["coco", "format=polygons"], 0),
    "coco-images": (["coco", "images=copy"], 0),
    "yolo-boxes": (["yolo", "detect=true"], 1e-4),
    "yolo-polygons": (["yolo"], 1),  # through the centres of the border pixels
    "yolo-edges": (["yolo", "outline=edges", "images=none", "names=full"], 1e-4),
    "voc": (["voc"], 0),
    "voc-images": (["voc", "images=link", "trainval=true"], 0),
    "voc-flat": (["voc", "folders=flat", "names=full"], 0),
    "labelme-masks": (["labelme", "shapes=mask"], 0),
    "labelme-polygons": (["labelme", "images=copy"], 1),
    "labelme-edges": (["labelme", "outline=edges"], 0),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_an_exported_folder_gives_the_same_prompts_without_a_format(name, stored, tmp_path, capsys):
    (writer, *options), within = EXPORTS[name]
    folder = export(stored, tmp_path / "e", capsys, writer, *options)
    source = File(path=folder)
    assert [problem.message for problem in source.check()] == []
    refs = [ImageRef(str(stored.parent / "photos" / key), key) for key in BOXES]
    assert source.survey(refs).warnings == ()
    for ref in refs:
        found = source.prompts(Image.load(ref))
        expected = [(box, label or "object") for box, label in BOXES[ref.key]]
        assert [prompt.label for prompt in found] == [label for _, label in expected]
        for prompt, (box, _) in zip(found, expected, strict=True):
            assert np.abs(np.subtract(prompt.box.xyxy, box)).max() <= within


def test_labels_that_a_format_does_not_allow_are_told_and_listed(stored, tmp_path, capsys):
    _, _, err = told(capsys, "export", stored, "--to", "voc", "-o", tmp_path / "e")
    assert "labels that the format does not allow are written otherwise (see renamed.csv)" in err
    assert "'a:b' as 'a_b~6783a31e', 'background' as 'background~89b91df1'" in err
    assert told(capsys, "export", stored, "--to", "voc", "-o", tmp_path / "e", "-q")[1:] == ("", "")


@pytest.mark.parametrize("writer", ["coco", "voc", "labelme", "yolo"])
def test_an_export_of_an_older_version_is_read_too(writer, stored, tmp_path, capsys):
    folder = export(stored, tmp_path / "e", capsys, writer)
    (folder / ".export.jsonl").rename(folder / "export.jsonl")
    source = File(path=folder)
    assert [problem.message for problem in source.check()] == []
    assert len(list(source._records())) == sum(map(len, BOXES.values()))


@pytest.mark.parametrize("name", [name for name, (_, within) in EXPORTS.items() if within < 1 and "edges" not in name])
def test_an_export_read_and_exported_again_has_the_same_bytes(name, stored, tmp_path, capsys):
    (writer, *options), _ = EXPORTS[name]
    first = export(stored, tmp_path / "1", capsys, writer, *options)
    again = run(stored.parent, first, f"again-{name}")
    second = export(again, tmp_path / "2", capsys, writer, *options)
    assert files(first).keys() == files(second).keys()
    for path, data in files(first).items():
        assert data == files(second)[path], path
