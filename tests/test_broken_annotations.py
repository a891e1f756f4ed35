"""Broken annotation files: one clear message each, with file, line or element; never a traceback, never a guess."""

from __future__ import annotations

import itertools
import json
import re

import annotated
import pytest
from annotated import BOXES, HEIGHT, KEY, WIDTH, coco, labelme, region, source, voc

from maskmill import ImageRef, PipelineError, PromptError, testing
from maskmill.cli import main

PERSON = BOXES["person"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))


def picture():
    return testing.image(HEIGHT, WIDTH, key=KEY)


BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
BROKEN_ELEMENTS = {
    "coco negative width": ("c.json", region(bbox=[1, 2, -3, 4]), "c.json: annotations[0] (id 1): bbox has width -3"),
    "coco no height": ("c.json", region(bbox=[1, 2, 3, 0]), "bbox has height 0"),
    "coco three numbers": ("c.json", region(bbox=[1, 2, 3]), "bbox must be [x, y, width, height], not [1, 2, 3]"),
    "coco text": ("c.json", region(bbox=[1, 2, "3", 4]), "bbox must be a finite number, not '3'"),
    "coco nan": ("c.json", region(bbox=[1, 2, float("nan"), 4]), "bbox must be a finite number, not nan"),
    "coco nothing": ("c.json", region(), "has neither bbox nor segmentation"),
    "coco short polygon": (
        "c.json",
        region(segmentation=[[1, 2, 3, 4]]),
        "a polygon must have x, y of at least 3 points, not 4 numbers",
    ),
    "coco flat polygon": ("c.json", region(segmentation=[[1, 2, 3, 2, 5, 2]]), "its 3 points enclose no area"),
    "coco polygon of text": ("c.json", region(segmentation="x"), "must be polygons or an RLE, not 'x'"),
    "coco cut rle": ("c.json", region(segmentation={"size": [100, 200], "counts": "PR4"}), "they may be cut off"),
    "coco strange rle": ("c.json", region(segmentation={"size": [100, 200], "counts": "é"}), "counts of its RLE"),
    "coco rle of 9 pixels": (
        "c.json",
        region(segmentation={"size": [100, 200], "counts": [4, 5]}),
        "add up to 9, but its size of 200×100 has 20000",
    ),
    "coco rle without size": ("c.json", region(segmentation={"counts": [4, 5]}), "the size of an RLE must be"),
    "coco outside": ("c.json", region(bbox=[300, 2, 3, 4]), "is outside its image of 200×100"),
    "coco no image": ("c.json", region(bbox=[1, 2, 3, 4], image_id=8), 'its image_id 8 is not in "images"'),
    "coco no image id": ("c.json", coco(annotations=[{"id": 1, "bbox": [1, 2, 3, 4]}]), "image_id is missing"),
    "coco no category": ("c.json", region(bbox=[1, 2, 3, 4], category_id=9), "its category_id 9 is not in"),
    "coco no object": ("c.json", coco(annotations=[5]), "annotations[0]: expected an object, not 5"),
    "coco id twice": (
        "c.json",
        coco(annotations=[*coco()["annotations"], coco()["annotations"][0]]),
        "annotations[2] (id 93): its id is",
    ),
    "coco image twice": (
        "c.json",
        coco(images=[*coco()["images"], {"id": 8, "file_name": KEY}]),
        "images[1] (id 8): has the same name as",
    ),
    "coco image without name": (
        "c.json",
        coco(images=[*coco()["images"], {"id": 8}]),
        "images[1] (id 8): file_name must be text",
    ),
    "coco image of no width": (
        "c.json",
        coco(images=[*coco()["images"], {"id": 8, "file_name": "b", "height": 3}]),
        "width must be a finite number, not None",
    ),
    "coco category without name": (
        "c.json",
        coco(categories=[*coco()["categories"], {"id": 8}]),
        "categories[2]: name must be text",
    ),
    "yolo pixels": (
        "a.txt",
        "0 100 30 10 20\n",
        "a.txt:1: coordinates must be fractions of the image, 0 to 1, not 100; they may be pixels",
    ),
    "yolo four columns": (
        "a.txt",
        "0 0.1 0.2 0.3 0.1\n1 0.1 0.1 0.1\n",
        "a.txt:2: expected `class x y width height`, found 4 columns",
    ),
    "yolo text": ("a.txt", "0 0.1 0.2 0.3 0.1\n0 0.1 x 0.1 0.1\n", "a coordinate must be a number, not 'x'"),
    "yolo nan": ("a.txt", "0 0.1 nan 0.1 0.1\n", "finite number"),
    "yolo class": ("a.txt", "-1 0.1 0.2 0.1 0.1\n", "the class must be a whole number of at least 0, not -1"),
    "yolo no size": ("a.txt", "0 0.1 0.2 0 0.1\n", "x1 < x2"),
    "yolo line of polygon": ("a.txt", "0 0.1 0.2 0.3 0.2 0.4 0.2\n", "its 3 points enclose no area"),
    "coco huge number": ("c.json", region(bbox=[1, 2, 10**400, 4]), "bbox must be a finite number"),
    "coco image of huge width": (
        "c.json",
        coco(images=[*coco()["images"], {"id": 8, "file_name": "b", "height": 3, "width": 1e30}]),
        "width must be a whole number",
    ),
    "coco sides beyond all numbers": (
        "c.json",
        coco(
            images=[{"id": 7, "file_name": KEY}],
            annotations=[{"id": 1, "image_id": 7, "category_id": 3, "bbox": [1e308, 2, 1e308, 4]}],
        ),
        "annotations[0] (id 1): a box's x2 must be a finite number",
    ),
    "coco width that rounding takes away": ("c.json", region(bbox=[100, 2, 1e-20, 4]), "x1 < x2"),
    "voc width that rounding takes away": (
        "a.xml",
        voc(f"<object>{BOX.format(10**17, 1, 10**17, 4)}</object>", size=""),
        "a.xml:3: object 1: a box is",
    ),
    "labelme endless circle": (
        "a.json",
        labelme([{"points": [[1e308, 1e308], [-1e308, 4]], "shape_type": "circle"}], imageHeight=None),
        "a.json: shapes[0]: a box's x1 must be a finite number",
    ),
    "jsonl huge number": (
        "b.jsonl",
        '{"image": "b", "prompts": [{"box": [0, 0, %s, 9]}]}\n' % ("9" * 400),
        "b.jsonl:1: prompt 1: a box's x2 must be a finite number",
    ),
    "voc no box": ("a.xml", voc("<object><name>x</name></object>"), "a.xml:3: object 1 (x): <bndbox> is missing"),
    "voc no corner": (
        "a.xml",
        voc("<object><bndbox><xmin>1</xmin></bndbox></object>"),
        "object 1: <ymin> is missing in its <bndbox>",
    ),
    "voc text": ("a.xml", voc(f"<object>{BOX.format(1, 'x', 3, 4)}</object>"), "<ymin> must be a number, not 'x'"),
    "voc turned": (
        "a.xml",
        voc(f"<object>{BOX.format(9, 9, 3, 4)}</object>"),
        "has a maximum below its minimum: 9, 9, 3, 4",
    ),
    "voc outside": (
        "a.xml",
        voc(f"<object>{BOX.format(201, 9, 300, 40)}</object>"),
        "is outside its image of 200×100",
    ),
    "labelme one corner": (
        "a.json",
        labelme([{"points": [[1, 2]], "shape_type": "rectangle"}]),
        "a.json: shapes[0]: a shape of type rectangle must have at least 2",
    ),
    "labelme line": (
        "a.json",
        labelme([{"label": "x", "points": [[1, 2], [3, 4]], "shape_type": "line"}]),
        "shapes[0] (x): a shape of type 'line' is not supported: it is neither an area nor a point",
    ),
    "labelme no points": ("a.json", labelme([{"label": "x"}]), "points must be a list, not None"),
    "labelme three numbers": ("a.json", labelme([{"points": [[1, 2, 3]]}]), "a point must be [x, y], not [1, 2, 3]"),
    "labelme label": ("a.json", labelme([{"label": 5, "points": []}]), "label must be text, not 5"),
    "labelme flat": ("a.json", labelme([{"points": [[1, 2], [9, 2]], "shape_type": "rectangle"}]), "enclose no area"),
    "csv": ("b.csv", annotated.csv_rows() + f"{KEY},x,5,2,3,4\n", "b.csv:4: a box is [x1, y1, x2, y2]"),
    "jsonl": (
        "b.jsonl",
        annotated.jsonl() + '{"image": "b", "prompts": [{"box": [1, 2]}]}\n',
        "b.jsonl:2: prompt 1: a box is",
    ),
}
BROKEN_FILES = {
    "coco cut short": ("c.json", json.dumps(coco())[:-40], r"c.json:1:\d+: not JSON: .*ends here"),
    "coco cut in a list": ("c.json", json.dumps(coco(), indent=1)[:200], r"c.json:1\d:\d+: not JSON"),
    "coco comma": ("c.json", '{"images": [],\n "annotations": [,]}', "c.json:2:18: not JSON: Expecting value"),
    "coco two": ("c.json", json.dumps(coco()) + "{}", "expected the end of the file"),
    "coco not utf-8": ("c.json", json.dumps(coco(), ensure_ascii=False).encode("gbk"), "not UTF-8 text"),
    "coco without annotations": ("c.json", {"images": [], "categories": []}, 'the list "annotations" is missing'),
    "coco images of an object": ("c.json", coco(images={}), '"images" must be a list, not {}'),
    "coco results": (
        "c.json",
        [{"image_id": 1, "bbox": [1, 2, 3, 4]}],
        "is a list of results without image names: item 0",
    ),
    "coco deep": ("c.json", '{"images": ' + "[" * 100_000, "not JSON"),
    "json of something else": ("c.json", {"a": 1}, "cannot be detected"),
    "empty json": ("c.json", "", "c.json: is empty"),
    "json in utf-16": ("c.json", json.dumps(coco()).encode("utf-16"), "c.json: not UTF-8 text; save"),
    "no text at all": ("c.json", b"PK\3\4\0\0\0", "c.json: not UTF-8 text"),
    "coco number of 5000 digits": (
        "c.json",
        '{"images": [],\n "annotations": [{"id": %s}]}' % ("9" * 5000),
        "c.json:2:18: not JSON: a number with thousands of digits",
    ),
    "voc cut short": ("a.xml", voc()[:-30], r"a.xml:4:\d+: not XML"),
    "voc other root": ("a.xml", "<html></html>", "a.xml:1: not a VOC file: its root is <html>"),
    "voc entities": (
        "a.xml",
        '<!DOCTYPE x [\n<!ENTITY a "aaaa">]><annotation>&a;</annotation>',
        "a.xml:2:.*declares entities",
    ),
    "voc entity of another file": (
        "a.xml",
        '<!DOCTYPE a SYSTEM "a.dtd">\n<annotation><object><name>&cat;</name></object></annotation>',
        "a.xml:2:.*declares entities",
    ),
    "voc in gbk": ("a.xml", voc().encode("gbk"), "not XML: .*\n.*not UTF-8 text; save it as UTF-8"),
    "voc that says it is in gbk": (
        "a.xml",
        voc().replace("?>", ' encoding="gb2312"?>').encode("gbk"),
        "not XML: multi-byte.*\n.*not UTF-8 text; save it as UTF-8",
    ),
    "voc size": (
        "a.xml",
        voc(size="<size><width>x</width><height>3</height></size>"),
        "the width in <size> must be a number",
    ),
    "labelme cut short": ("a.json", json.dumps(labelme())[:-9], "not JSON"),
    "labelme shapes": ("a.json", labelme({}), '"shapes" must be a list'),
    "labelme size": ("a.json", labelme(imageHeight="x"), "imageHeight must be a finite number"),
    "yolo settings": ("data.yaml", "names: [a\ntrain: x", r"data.yaml:2:\d+: not YAML"),
    "yolo settings of a list": ("data.yaml", "- a", "expected `train:`"),
    "yolo no split": ("data.yaml", "names: [a]", "lists no images"),
    "yolo no folder": ("data.yaml", "names: [a]\ntrain: images", "train: '.*images' does not exist"),
    "yolo split of a mapping": (
        "data.yaml",
        "names: [a]\ntrain: {a: b}",
        "data.yaml: `train` must be a path or a list of paths",
    ),
    "yolo split of a number": ("data.yaml", "names: [a]\ntrain: 5", "train: '.*5' does not exist"),
    "yolo settings not utf-8": ("data.yaml", "names: [车辆]\ntrain: .".encode("gbk"), "data.yaml: not UTF-8 text"),
    "yolo names that grow": (
        "data.yaml",
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in itertools.pairwise("abcdefghij"))
        + "names: *j\ntrain: .\n",
        "`names` must be a list of texts",
    ),
    "csv column twice": ("b.csv", "image,x1,y1,x2,y2,x1\n", "b.csv:1: the first line names the column 'x1' twice"),
    "csv of an old mac": (
        "b.csv",
        annotated.csv_rows().replace("\n", "\r"),
        "b.csv:1: a carriage return within the line",
    ),
    "yolo names": ("data.yaml", "names: {a: b}\ntrain: .", "`names` must be a list of texts"),
    "yolo not text": ("a.txt", b"0 0.1 0.1 0.1 0.1 \xff\xfe\n", "not UTF-8 text"),
}


@pytest.mark.parametrize("name", BROKEN_ELEMENTS)
def test_a_broken_annotation_is_told_with_its_place(tmp_path, name):
    file, content, message = BROKEN_ELEMENTS[name]
    (problem,) = source(tmp_path, file, {file: content}).check()
    assert message in str(problem)
    assert not problem.warning
    assert "`broken: skip`" in problem.hint


@pytest.mark.parametrize("name", BROKEN_ELEMENTS)
def test_a_broken_annotation_can_be_left_out(tmp_path, name):
    file, content, message = BROKEN_ELEMENTS[name]
    stage = source(tmp_path, file, {file: content}, broken="skip")
    problem, *_ = stage.check()
    assert problem.warning
    assert "1 invalid annotation is skipped" in problem.message
    assert message.rpartition(":")[2] in problem.message
    stage.survey([ImageRef(KEY, KEY)])
    (item,) = (item for item in stage.inventory() if item.prompt is None)
    assert item.problem


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_file_that_is_not_what_it_is_is_always_refused(tmp_path, name):
    file, content, message = BROKEN_FILES[name]
    for broken in ("stop", "skip"):
        stage = source(tmp_path, file, {file: content}, broken=broken)
        (problem,) = stage.check()
        assert not problem.warning
        assert re.search(message, str(problem))
        with pytest.raises(PipelineError):
            stage.open()


def test_of_many_broken_annotations_twenty_are_told(tmp_path):
    annotations = [{"id": n, "image_id": 7, "category_id": 3, "bbox": [1, 2, 0, 4]} for n in range(50)]
    problems = source(tmp_path, "c.json", {"c.json": coco(annotations=annotations)}).check()
    assert len(problems) == 21
    assert problems[-1].message == "and 30 more problems"


def test_an_image_with_nothing_but_broken_annotations_fails_and_is_not_empty(tmp_path):
    stage = source(tmp_path, "c.json", {"c.json": region(bbox=[1, 2, -3, 4])}, broken="skip")
    with pytest.raises(PromptError, match=r"its annotation is invalid: annotations\[0\] \(id 1\): bbox has"):
        stage.prompts(picture())


def test_annotations_of_a_broken_image_say_so(tmp_path):
    images = [{"id": 7, "file_name": KEY, "width": "200", "height": 100}]
    first, *others = source(tmp_path, "c.json", {"c.json": coco(images=images)}).check()
    assert first.message == "images[0] (id 7): width must be a finite number, not '200'"
    assert [other.message.partition(": ")[2] for other in others] == ["its image is invalid: images[0] (id 7)"] * 2


def test_what_is_left_is_asked_for(tmp_path):
    document = coco()
    document["annotations"][0]["bbox"] = [1, 2, 0, 4]
    (prompt,) = source(tmp_path, "c.json", {"c.json": document}, broken="skip").prompts(picture())
    assert prompt.box.xyxy == PERSON
    with pytest.raises(PromptError, match="bbox has width 0"):
        source(tmp_path, "c.json", {}).prompts(picture())


@pytest.mark.parametrize("name", [*BROKEN_FILES, *BROKEN_ELEMENTS][::6])
def test_the_command_line_says_it_and_exits_with_2(tmp_path, name, capsys):
    file, content, _ = {**BROKEN_FILES, **BROKEN_ELEMENTS}[name]
    annotated.save(tmp_path, {file: content})
    testing.write_picture(tmp_path / "photos" / "a.png")
    pipeline = f"dataset: photos\nprompts: [{{use: file, path: {file}}}]\nbackend: grabcut\noutput: out\n"
    (tmp_path / "p.yaml").write_text(pipeline, encoding="utf-8")
    for command in ("check", "run"):
        with pytest.raises(SystemExit) as ended:
            main([command, str(tmp_path / "p.yaml")])
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert file in said
        assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_two_files_about_one_image_are_told_with_both(tmp_path):
    stage = source(tmp_path, "voc", {"voc/a.xml": voc(), "voc/b.xml": voc()})
    *others, problem = stage.check()
    assert problem.file.endswith("b.xml")
    assert re.search(r"has the same name as .*a.xml: 猫 1.jpg", problem.message)
    assert [other.message.partition(": ")[2] for other in others] == [
        "its image is skipped because another image has the same name"
    ] * 2
