"""The names of classes are the same text in what is read and in what is written, whatever it looks like."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
from annotated import HEIGHT, KEY, WIDTH, coco, labelme, source, voc
from hypothesis import HealthCheck, example, given, settings, strategies as st

from maskmill import ImageResult, Mask, Prompt, testing
from maskmill_plugins._shared.export.classes import order_labels
from maskmill_plugins.writers.coco import Coco
from maskmill_plugins.writers.labelme import Labelme
from maskmill_plugins.writers.voc import Voc
from maskmill_plugins.writers.yolo import Yolo

#: Names that YAML 1.1, spreadsheets or JSON take for something else.
TRICKY = [
    *("no", "on", "Yes", "OFF", "y", "null", "~", "true", "007", "1_000", "1e3", "0x1F", "0o17", "12:30:00", "1.50"),
    *("2024-01-01", "NaN", ".inf", "-1", "+1", "=", "<<", "a: b", "a #1", "# a", "- a", "? a", "*a", "&a", "!a", "%a"),
    *("@a", "`a", "{a}", "[a]", "a, b", "'a'", '"a"', 'a"b', "it's", "|", ">", "=SUM(A1)", "a\\b", "<b>&amp;", "车辆"),
    *("Ünïcödé", "e\u0301", "\u00e9", "🚗", "a  b", "%x", "object", "ｆｕｌｌ", "\u200bzero"),
]
#: Any printable text: no control characters, no surrogates, no space at its ends.
names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Cn", "Co"]), min_size=1, max_size=20).filter(
    lambda text: text == text.strip()
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))


def in_data_yaml(name):
    quoted = "'" + name.replace("'", "''") + "'"
    return "ds", {"ds/data.yaml": f"names: [{quoted}]\n", "ds/labels/sub/猫 1.txt": "0 0.1 0.3 0.1 0.2"}


def in_csv(name):
    rows = io.StringIO()
    csv.writer(rows).writerows([("image", "label", "x1", "y1", "x2", "y2"), (KEY, name, 1, 2, 3, 4)])
    return "b.csv", {"b.csv": rows.getvalue().encode()}


READERS = {
    "coco": lambda name: ("c.json", {"c.json": coco(categories=[{"id": n, "name": name} for n in (3, 4)])}),
    "yolo data.yaml": in_data_yaml,
    "yolo classes.txt": lambda name: ("y", {"y/classes.txt": name, "y/sub/猫 1.txt": "0 0.1 0.3 0.1 0.2"}),
    "voc": lambda name: (
        "v",
        {"v/sub/猫 1.xml": voc(f"<object><name>{escape(name)}</name>{BOX}</object>").encode()},
    ),
    "labelme": lambda name: ("l", {"l/sub/猫 1.json": labelme([{"label": name, "points": [[1, 2], [3, 2], [3, 9]]}])}),
    "csv": in_csv,
    "jsonl": lambda name: (
        "p.jsonl",
        {"p.jsonl": json.dumps({"image": KEY, "prompts": [{"box": [1, 2, 3, 4], "label": name}]})},
    ),
}
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
WRITERS = {
    "coco": (Coco(), "instances.json"),
    "yolo": (Yolo(images="none", val=0), "data.yaml"),
    "yolo labels": (Yolo(images="none", val=0), "labels/train"),
    "yolo boxes": (Yolo(images="none", val=0, detect=True), "labels"),
    "voc": (Voc(), "Annotations"),
    "labelme": (Labelme(), "."),
}


def read_labels(folder, path, files):
    return [prompt.label for prompt in source(folder, path, files).prompts(testing.image(HEIGHT, WIDTH, key=KEY))]


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=names)
def test_a_name_that_is_read_is_the_text_of_the_file(reader, name):
    with tempfile.TemporaryDirectory() as folder:
        assert set(read_labels(Path(folder), *READERS[reader](name))) == {name}


@pytest.mark.parametrize("reader", READERS)
def test_names_that_look_like_something_else_are_read_as_text(reader, tmp_path):
    for number, name in enumerate(TRICKY):
        assert set(read_labels(tmp_path / str(number), *READERS[reader](name))) == {name}


@pytest.mark.parametrize(
    "name", ["no", "on", "007", "1.50", "~", "null", "2024-01-01", "12:30:00", "1_000", "1e3", "Yes"]
)
@pytest.mark.parametrize("form", ["names: [{}]", "names: {{0: {}}}", "names:\n  - {}", "names:\n  0: {}  # a comment"])
def test_names_without_quotes_in_data_yaml_are_the_text_that_stands_there(tmp_path, name, form):
    files = {"ds/data.yaml": form.format(name) + "\n", "ds/labels/sub/猫 1.txt": "0 0.1 0.3 0.1 0.2"}
    assert read_labels(tmp_path, "ds", files) == [name]


def write_and_read(writer, path, labels, folder):
    """The labels of an image of these masks, from the files of a writer."""
    image = testing.image(HEIGHT, WIDTH, key=KEY)
    masks = []
    for number, label in enumerate(labels):
        pixels = np.zeros((HEIGHT, WIDTH), np.bool_)
        pixels[10:20, 5 + 10 * number : 12 + 10 * number] = True
        mask = Mask.from_array(pixels, prompt=Prompt(text="x", label=label))
        masks.append(replace(mask, index=number))
    result = ImageResult.done_or_empty(KEY, image.size, image.sha256, masks=masks)
    artifacts = writer.write(image, result, folder)
    list(writer.finish(iter([result]), folder))
    assert artifacts is not None
    return read_labels(folder, path, {})


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(names, min_size=1, max_size=4))
@example(labels=TRICKY[:15])
def test_a_name_that_is_written_comes_back(writer, labels):
    with tempfile.TemporaryDirectory() as folder:
        assert write_and_read(*WRITERS[writer], labels, Path(folder)) == labels


@pytest.mark.parametrize("writer", WRITERS)
def test_names_that_look_like_something_else_come_back(writer, tmp_path):
    for number in range(0, len(TRICKY), 8):
        labels = TRICKY[number : number + 8]
        assert write_and_read(*WRITERS[writer], labels, tmp_path / str(number)) == labels


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "2", "0"], ["0", "2", "10"]),
        (["10", "2", "00", "0", "02"], ["0", "00", "02", "2", "10"]),
        (["10", "2", "cat"], ["10", "2", "cat"]),
        (["99999999999999999999", "100000000000000000000"], ["99999999999999999999", "100000000000000000000"]),
        (["10", "2", "1.5"], ["1.5", "2", "10"]),
        (["-1", "-10", "0"], ["-10", "-1", "0"]),
        (["1e3", "10", "9"], ["10", "1e3", "9"]),
        (["²", "10", "9"], ["10", "9", "²"]),
        ([], []),
    ],
)
def test_numbers_are_ordered_by_value_where_all_are_numbers(labels, order):
    assert order_labels((), labels) == order
    assert order_labels(("first",), ["first", *labels]) == ["first", *order]
