"""Values of other tools' files that could be read in two ways: defined, or refused; nothing left out unsaid."""

from __future__ import annotations

import json
import re

import pytest
from annotated import HEIGHT, KEY, WIDTH, coco, region, save, source, told, voc, yolo

from maskmill import ImageRef, PromptError, read_run, testing
from maskmill.cli import main
from maskmill_plugins.evaluation.truth import read_truth

LINE = "0 0.1 0.3 0.1 0.2"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))


def picture(key=KEY):
    return testing.image(HEIGHT, WIDTH, key=key)


# --- class names of YOLO


@pytest.mark.parametrize(
    ("path", "about", "key"),
    [
        ("ds/labels", "ds/data.yaml", "a.jpg"),
        ("ds/labels", "ds/labels/data.yaml", "a.jpg"),
        ("ds/labels/train", "ds/data.yaml", "a.jpg"),
        ("ds/train/labels", "ds/data.yaml", "a.jpg"),
        ("ds/labels/train/cam 1/monday", "ds/data.yml", "a.jpg"),
        ("ds/labels/train/a.txt", "ds/data.yaml", "a.jpg"),
        ("ds/labels", "ds/classes.txt", "a.jpg"),
        ("ds/labels/val", "ds/obj.names", "a.jpg"),
    ],
)
def test_class_names_are_found_beside_and_above_the_labels(tmp_path, path, about, key):
    names = "names: [no, '007']\n" if about.endswith(("yaml", "yml")) else "no\n007\n"
    label = path if path.endswith(".txt") else f"{path}/a.txt"
    stage = source(tmp_path, path, {label: yolo(), about: names})
    assert told(stage) == ""
    assert [prompt.label for prompt in stage.prompts(picture(key))] == ["no", "007"]


def test_the_nearest_names_count(tmp_path):
    files = {"ds/labels/a.txt": LINE, "ds/labels/classes.txt": "near", "ds/data.yaml": "names: [far]"}
    (prompt,) = source(tmp_path, "ds/labels", files).prompts(picture("a.jpg"))
    assert prompt.label == "near"


def test_a_data_yaml_of_something_else_above_is_passed_over(tmp_path):
    files = {"ds/labels/a.txt": LINE, "ds/data.yaml": "learning_rate: 1\n", "classes.txt": "cat"}
    (prompt,) = source(tmp_path, "ds/labels", files).prompts(picture("a.jpg"))
    assert prompt.label == "cat"


def test_a_data_yaml_that_appears_is_noticed(tmp_path):
    stage = source(tmp_path, "ds/labels", {"ds/labels/a.txt": LINE})
    assert stage.prompts(picture("a.jpg"))[0].label == "0"
    stage = source(tmp_path, "ds/labels", {"ds/data.yaml": "names: [cat]"})
    assert stage.prompts(picture("a.jpg"))[0].label == "cat"


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("ds/labels", {"ds/labels/a.txt": LINE}),
        ("ds", {"ds/labels/a.txt": LINE, "ds/data.yaml": "nc: 1\n"}),
        ("c.json", {"c.json": coco(categories=[])}),
    ],
    ids=["nothing", "data.yaml without names", "coco without categories"],
)
def test_class_numbers_as_labels_are_said(tmp_path, path, files):
    assert "warning" in told(source(tmp_path, path, files))
    assert "the labels are class numbers, because there are no class names" in told(source(tmp_path, path, files))


def test_two_names_of_one_class_are_refused(tmp_path):
    stage = source(tmp_path, "ds", {"ds/data.yaml": "names: {1: a, 01: b}\n", "ds/a.txt": LINE})
    assert "data.yaml: `names` has two names for class 1: 'a' and 'b'" in told(stage)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("names: {0: a, 0: b}", ":1:15: not YAML: the key '0' is there twice, first in line 1"),
        ("names: [a]\nnc: 1\nnames: [b]", ":3:1: not YAML: the key 'names' is there twice, first in line 1"),
        ("x: &x {0: a}\nnames:\n  <<: *x\n  1: b\n  1: c", ":5:3: not YAML: the key '1' is there twice"),
    ],
)
def test_a_key_that_stands_twice_in_data_yaml_is_refused(tmp_path, text, place):
    assert f"data.yaml{place}" in told(source(tmp_path, "ds", {"ds/data.yaml": text, "ds/a.txt": LINE}))


# --- columns of YOLO

TRIANGLE = "0 0.05 0.2 0.15 0.2 0.15 0.4"
TRACKED = "0 0.1 0.3 0.1 0.2 0.9"
BOX = (10, 20, 30, 40)


@pytest.mark.parametrize(
    ("lines", "score"),
    [
        ([TRIANGLE], None),
        ([f"{TRACKED} 5"], 0.9),
        ([f"{TRACKED} 1", f"{TRACKED} 2"], 0.9),
        ([f"{TRACKED} 0", TRACKED], 0.9),
        ([f"{TRACKED} 1.0", f"{TRACKED} 12"], 0.9),
        (["0 0.05 0.2 0.15 0.2 0.15 0.4 0.05 0.4 0.8 7"], 0.8),
        (["0 0.05 0.2 0.15 0.2 0.15 0.4 0.05 0.4"], None),
        ([TRACKED], 0.9),
        (["0 0.1 0.3 0.1 0.2 1"], 1.0),
        (["0 0.1 0.3 0.1 0.2 0"], 0.0),
    ],
    ids=[
        "triangle", "track 5", "tracks 1 and 2", "track 0 and none yet", "decimal", "tracked polygon", "polygon",
        "confidence", "confidence 1", "confidence 0",
    ],
)  # fmt: skip
def test_columns_are_counted_by_the_form_of_the_file(tmp_path, lines, score):
    stage = source(tmp_path, "y", {"y/a.txt": "\n".join(lines), "y/classes.txt": "cat"})
    assert told(stage) == ""
    for prompt in stage.prompts(picture("a.jpg")):
        assert prompt.box.xyxy == pytest.approx(BOX)
        assert prompt.score == score


def test_a_triangle_at_the_edge_is_one_if_the_other_lines_have_no_confidence(tmp_path):
    edge = "0 0.1 0.3 0.1 0.2 0.9 1"
    files = {"y/a.txt": f"{edge}\n{LINE}", "y/classes.txt": "cat"}
    first, _ = source(tmp_path, "y", files).prompts(picture("a.jpg"))
    assert first.box.xyxy == pytest.approx((20, 20, 180, 100))


@pytest.mark.parametrize("ending", ["1", "0", "1.0"])
def test_seven_columns_that_may_be_both_are_refused_until_something_decides(tmp_path, ending):
    files = {"y/a.txt": f"{TRACKED} {ending}", "y/classes.txt": "cat"}
    assert "7 columns may be a triangle, or a box with confidence and track id" in told(source(tmp_path, "y", files))
    (tmp_path / "y" / "classes.txt").unlink()
    for task, box in (
        ("detect", BOX),
        ("segment", (20, 20 if ending != "0" else 0, 180, 100 if ending != "0" else 30)),
    ):
        stage = source(tmp_path, "y", {"y/data.yaml": f"names: [cat]\ntask: {task}\n"})
        assert told(stage) == ""
        assert stage.prompts(picture("a.jpg"))[0].box.xyxy == pytest.approx(box)
    stage = source(tmp_path, "y", {"y/data.yaml": "names: [cat]\n", "y/b.txt": f"{TRACKED} 3"})
    assert stage.prompts(picture("a.jpg"))[0].box.xyxy == pytest.approx(BOX)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["0 0.1 0.3 0.1 0.2 5.0"], "a.txt:1: the last column must be a confidence of 0 to 1, not 5.0"),
        (["0 0.1 0.3 0.1 0.2 1.5"], "must be a confidence of 0 to 1, not 1.5"),
        (["0 0.1 0.3 0.1 0.2 -0.1"], "must be a confidence of 0 to 1, not -0.1"),
        (["0 0.1 0.3 0.1 0.2 1", "0 0.1 0.3 0.1 0.2 2"], "a.txt:1: the last column must be a confidence"),
        (["0 0.05 0.2 0.15 0.2 0.15 0.4 95"], "must be a confidence of 0 to 1, not 95"),
        ([f"{TRACKED} 3", f"{TRACKED} 0.5", f"{TRACKED} 1"], "a.txt:1: 7 columns may be a triangle"),
        ([f"{TRACKED} 3", "0 0.1 0.3 0.1 0.2 7 4"], "must be a confidence of 0 to 1, not 7"),
    ],
)
def test_columns_that_mean_nothing_are_refused(tmp_path, lines, says):
    stage = source(tmp_path, "y", {"y/a.txt": "\n".join(lines), "y/classes.txt": "cat"})
    assert says in told(stage)


# --- COCO


@pytest.mark.parametrize(
    ("value", "crowd"), [("0", 0), ("1", 1), (0, 0), (1, 1), (True, 1), (False, 0), (None, 0), (1.0, 1), (0.0, 0)]
)
def test_iscrowd_is_the_number_that_stands_there(tmp_path, value, crowd):
    data = region(bbox=[1, 2, 3, 4], iscrowd=value)
    assert len(source(tmp_path, "c.json", {"c.json": data}).prompts(picture())) == 1 - crowd
    (image,) = read_truth(tmp_path / "c.json").images.values()
    assert image.objects[0].crowd == bool(crowd)


@pytest.mark.parametrize("value", ["yes", "", "false", 2, -1, [1], "01"])
def test_another_iscrowd_is_refused(tmp_path, value):
    stage = source(tmp_path, "c.json", {"c.json": region(bbox=[1, 2, 3, 4], iscrowd=value)})
    assert "annotations[0] (id 1): iscrowd must be 0 or 1, not" in told(stage)
    with pytest.raises(Exception, match=r"annotations\[0\] \(id 1\): iscrowd must be 0 or 1, not"):
        read_truth(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("rle", "sums"),
    [
        ({"size": [100, 200], "counts": [4, 5]}, "add up to 9, but its size of 200×100 has 20000 pixels"),
        ({"size": [100, 200], "counts": [4, 19997]}, "add up to 20001, but its size of 200×100 has 20000 pixels"),
        (
            {"size": [200, 100], "counts": [4, 19996]},
            "its RLE has 100×200 = 20000 pixels, but its image 200×100 = 2000",
        ),
        ({"size": [10, 20], "counts": [4, 196]}, "its RLE has 20×10 = 200 pixels, but its image 200×100 = 20000"),
        ({"size": [100, 200], "counts": "PR4"}, "add up to"),
        ({"size": [100, 200], "counts": [4, 5.5]}, "must be whole numbers of at least 0, not 5.5"),
        ({"size": [100, 200], "counts": [20001, -1]}, "must be whole numbers of at least 0, not -1"),
    ],
    ids=["too few", "too many", "turned", "of another image", "cut off", "half", "negative"],
)
def test_an_rle_that_does_not_add_up_is_one_message_with_both_sums(tmp_path, rle, sums):
    stage = source(tmp_path, "c.json", {"c.json": region(segmentation=rle)})
    (problem,) = stage.check()
    assert "annotations[0] (id 1): " in problem.message
    assert sums in problem.message
    with pytest.raises(Exception, match=re.escape(sums)) as caught:
        read_truth(tmp_path / "c.json")
    assert "annotations[0] (id 1): " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("score", [95, 2, -1, "0.5", float("inf")])
def test_scores_in_another_unit_are_refused(tmp_path, score):
    stage = source(tmp_path, "c.json", {"c.json": region(bbox=[1, 2, 3, 4], score=score)})
    assert "annotations[0] (id 1): score must be" in told(stage)


def test_a_category_of_two_names_is_refused(tmp_path):
    categories = [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}, {"id": 3, "name": "bird"}]
    stage = source(tmp_path, "c.json", {"c.json": coco(categories=categories)})
    (problem,) = stage.check()
    assert 'annotations[0] (id 93): its category_id 3 has two names in "categories": bird, cat' in problem.message


@pytest.mark.parametrize("number", ["1_0", "١٠", "0x1", "1,5", "1e", ""])
def test_texts_that_only_python_takes_for_numbers_are_refused(tmp_path, number):
    rows = f'image,x1,y1,x2,y2\na.png,1,2,"{number}",40\n'
    assert "x1,y1,x2,y2 must be numbers" in told(source(tmp_path, "b.csv", {"b.csv": rows}))
    if number:
        files = {"y/a.txt": f"0 0.1 0.3 0.1 {number}", "y/classes.txt": "cat"}
        assert "a coordinate must be a number, not" in told(source(tmp_path, "y", files))


@pytest.mark.parametrize("number", ["30", "30.", "3e1", "+30", " 30 ", "30.0", "3E+01"])
def test_other_spellings_of_a_number_are_read(tmp_path, number):
    rows = f'image,x1,y1,x2,y2\na.png,1,2,"{number}",40\n'
    (prompt,) = source(tmp_path, "b.csv", {"b.csv": rows}).prompts(picture("a.png"))
    assert prompt.box.xyxy == (1, 2, 30, 40)


# --- what is left out


def images(*names, **more):
    return [{"id": n, "file_name": name, "width": 60, "height": 40, **more} for n, name in enumerate(names)]


GOOD = {"id": 1, "image_id": 0, "category_id": 3, "bbox": [5, 5, 20, 20]}
BAD = {"id": 2, "image_id": 0, "category_id": 3, "bbox": [5, 5, 0, 20]}
OTHER = "{use: manual, boxes: []}"
#: What is in the file -> statuses of a.png and b.png, and doubts of the run.
LEFT_OUT = {
    "good": (coco(images=images("a.png", "b.png"), annotations=[GOOD]), ("done", "empty"), 0),
    "all bad": (coco(images=images("a.png", "b.png"), annotations=[BAD]), ("failed", "empty"), 0),
    "one bad": (coco(images=images("a.png", "b.png"), annotations=[GOOD, BAD]), ("doubtful", "empty"), 0),
    "text id": (
        coco(images=images("a.png", "b.png"), annotations=[{**GOOD, "image_id": "0"}]),
        ("failed", "empty"),
        0,
    ),
    "unknown id": (
        coco(images=images("a.png", "b.png"), annotations=[{**GOOD, "image_id": 9}]),
        ("empty", "empty"),
        1,
    ),
    "no id": (
        coco(images=images("a.png", "b.png"), annotations=[GOOD, {"id": 5, "bbox": [1, 2, 3, 4]}]),
        ("done", "empty"),
        1,
    ),
    "bad image": (coco(images=images("a.png", "b.png", width="60"), annotations=[GOOD]), ("failed", "failed"), 0),
    "image without id": (
        coco(images=[*images("a.png"), {"file_name": "b.png"}], annotations=[GOOD]),
        ("done", "failed"),
        0,
    ),
    "image without name": (
        coco(images=[*images("a.png"), {"id": 1}], annotations=[GOOD, {**GOOD, "id": 3, "image_id": 1}]),
        ("done", "empty"),
        2,
    ),
    "one id for two": (
        coco(images=[*images("a.png"), *images("b.png")], annotations=[GOOD]),
        ("failed", "failed"),
        0,
    ),
    "two entries of one image": (
        coco(images=images("a.png", "a.png", "b.png"), annotations=[{**GOOD, "image_id": 1}]),
        ("failed", "empty"),
        1,
    ),
    "json lines": (
        '{"image": "a.png", "prompts": [\n{"image": "b.png", "prompts": [{"box": [5, 5, 25, 25]}]}\n',
        ("failed", "done"),
        0,
    ),
    "json lines that no image can be told of": (
        '{"prompts": []}\nnothing\n{"image": "b.png", "prompts": [{"box": [5, 5, 25, 25]}]}\n',
        ("empty", "done"),
        2,
    ),
    "csv": (
        "image,x1,y1,x2,y2\na.png,1,2\nb.png,5,5,25,25\nb.png,5,5,x,25\n",
        ("failed", "doubtful"),
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_image_of_which_an_annotation_was_left_out_is_never_empty(project, name, capsys):
    tmp_path = project.folder
    content, wanted, lost = LEFT_OUT[name]
    file = "p.csv" if name == "csv" else "p.jsonl" if name.startswith("json lines") else "p.json"
    save(tmp_path, {file: content})
    for key in ("a.png", "b.png"):
        testing.write_picture(tmp_path / "photos" / key, 40, 60)
    (tmp_path / "p.yaml").write_text(
        f"dataset: photos\nprompts: [{{use: file, path: {file}, broken: skip}}, {OTHER}]\nbackend: slow\n"
        "run: {engine: inline}\noutput: out\n",
        encoding="utf-8",
    )
    with pytest.raises(SystemExit) as ended:
        main(["run", str(tmp_path / "p.yaml")])
    said = "".join(capsys.readouterr())
    found = {result.key: result for result in read_run(tmp_path / "out")}
    statuses = tuple("doubtful" if found[key].doubts else found[key].status for key in ("a.png", "b.png"))
    assert statuses == wanted
    assert all(doubt.code == "annotation_skipped" for result in found.values() for doubt in result.doubts)
    assert ended.value.code == int("failed" in wanted)
    about = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert about["run_doubts"] == ({"annotation_skipped": lost} if lost else {})
    assert (f"{lost} annotation_skipped" in said) is bool(lost)


def test_what_is_left_out_and_empty_at_the_end_fails(project):
    """The other annotation is there, but a filter drops its mask."""
    tmp_path = project.folder
    save(tmp_path, {"c.json": coco(images=images("empty.png"), annotations=[GOOD, BAD])})
    testing.write_picture(tmp_path / "photos" / "empty.png", 40, 60)
    (tmp_path / "p.yaml").write_text(
        "dataset: photos\nprompts: [{use: file, path: c.json, broken: skip}]\nbackend: slow\n"
        "filters: [{use: chaos}]\nrun: {engine: inline}\noutput: out\n",
        encoding="utf-8",
    )
    for ran in (1, 0):
        with pytest.raises(SystemExit, match="1"):
            main(["run", str(tmp_path / "p.yaml")])
        (result,) = read_run(tmp_path / "out")
        assert "nothing was found, but 1 of its annotations in c.json is left out" in result.failure.message
        assert json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["ran"] == ran


@pytest.mark.parametrize(("image", "code"), [(0, 0), (9, 1)], ids=["known", "unknown"])
def test_fail_on_refuses_a_run_with_annotations_of_unknown_images(project, image, code, capsys):
    content = coco(images=images("a.png"), annotations=[GOOD, {**GOOD, "id": 7, "image_id": image}])
    save(project.folder, {"c.json": content})
    testing.write_picture(project.folder / "photos" / "a.png", 40, 60)
    project.file.write_text(
        "dataset: photos\nprompts: [{use: file, path: c.json, broken: skip}]\nbackend: slow\n"
        "run: {engine: inline, fail_on: [annotation_skipped]}\noutput: out\n",
        encoding="utf-8",
    )
    with pytest.raises(SystemExit) as ended:
        main(["run", str(project.file)])
    assert ended.value.code == code
    with pytest.raises(SystemExit):
        main(["status", str(project.output)])
    assert ("1 doubtful (annotation_skipped) that belong to no image" in capsys.readouterr().out) is bool(code)


def test_voc_objects_that_are_left_out_are_a_doubt_of_their_image(tmp_path):
    broken = "<object><name>x</name></object><object><name>y</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
    stage = source(tmp_path, "a.xml", {"a.xml": voc(f"{broken}<ymax>9</ymax></bndbox></object>")}, broken="skip")
    assert len(stage.prompts(picture())) == 1
    assert stage.survey([ImageRef(KEY, KEY)]).doubts == {}


def test_a_later_broken_line_is_not_replaced_by_an_earlier_one(tmp_path):
    text = '{"image": "a.png", "prompts": []}\n{"image": "a.png", "prompts": [{"box"'
    stage = source(tmp_path, "p.jsonl", {"p.jsonl": text}, broken="skip")
    with pytest.raises(PromptError, match="its annotation is invalid: not JSON"):
        stage.prompts(picture("a.png"))
