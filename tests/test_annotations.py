"""Other tools' annotation files: their boxes in the right place, whatever the format."""

from __future__ import annotations

import io
import json
import re
import sqlite3

import annotated
import numpy as np
import PIL.Image
import pytest
from annotated import BOXES, HEIGHT, KEY, WIDTH, coco, labelme, region, source, told, voc, yolo
from pycocotools import mask as coco_mask

from maskmill import Image, ImageRef, PipelineError, Point, PromptError, testing
from maskmill_plugins._shared.annotations.formats import detect_format
from maskmill_plugins._shared.annotations.index_build import build_index
from maskmill_plugins._shared.annotations.json_stream import JsonStream
from maskmill_plugins._shared.annotations.model import AnnotatedImage, Annotation

CAT, PERSON = BOXES.values()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "annotations"


def picture(key=KEY, height=HEIGHT, width=WIDTH):
    return testing.image(height, width, key=key)


def boxes(stage, image=None):
    found = stage.prompts(image or picture())
    return None if found is None else [pytest.approx(prompt.box.xyxy) for prompt in found]


# --- every format


@pytest.mark.parametrize("name", annotated.WRITTEN)
def test_boxes_and_labels_are_those_that_were_written(tmp_path, name):
    path, files = annotated.WRITTEN[name]
    stage = source(tmp_path, path, files)
    assert stage.check() == []
    found = stage.prompts(picture())
    assert [prompt.label for prompt in found] == list(BOXES)
    assert [prompt.box.xyxy for prompt in found] == [pytest.approx(box) for box in BOXES.values()]
    assert len({prompt.ref for prompt in found}) == 2
    assert stage.prompts(picture("other.jpg")) is None


@pytest.mark.parametrize("name", annotated.WRITTEN)
def test_the_format_is_told_by_the_content_and_can_be_named(tmp_path, name):
    path, files = annotated.WRITTEN[name]
    annotated.save(tmp_path, files)
    found = detect_format(tmp_path / path)
    assert found == name.split()[0]
    assert boxes(source(tmp_path, path, {}, format=found)) == list(BOXES.values())


@pytest.mark.parametrize(
    "name", ["coco", "jsonl", "csv", "voc of one image", "yolo of one image", "labelme of one image"]
)
def test_a_wrong_ending_does_not_matter(tmp_path, name):
    path, files = annotated.WRITTEN[name]
    annotated.save(tmp_path, files)
    (tmp_path / path).rename(tmp_path / "annotations.data")
    assert detect_format(tmp_path / "annotations.data") == name.split()[0]


def test_a_folder_of_two_kinds_is_refused(tmp_path):
    stage = source(tmp_path, "mixed", {"mixed/a.xml": voc(), "mixed/a.txt": yolo()})
    assert "contains .txt and .xml files" in told(stage)
    assert boxes(source(tmp_path, "mixed", {}, format="voc")) == list(BOXES.values())


def test_a_named_format_that_is_not_the_files_is_refused(tmp_path):
    assert "not a COCO file" in told(source(tmp_path, "a.json", {"a.json": labelme()}, format="coco"))
    assert "not a LabelMe file" in told(source(tmp_path, "b.json", {"b.json": coco()}, format="labelme"))


def test_images_without_objects_are_empty_and_not_unknown(tmp_path):
    files = {"c.json": coco(annotations=[]), "v/a.xml": voc(""), "l/a.json": labelme([]), "y/猫 1.txt": ""}
    for path in ("c.json", "v", "l", "y"):
        stage = source(tmp_path, path, files)
        assert stage.check() == []
        assert stage.prompts(picture()) == []
        assert stage.prompts(picture("b.png")) is None


@pytest.mark.parametrize("name", ["coco", "voc", "labelme"])
def test_an_image_of_another_size_fails_with_both_sizes(tmp_path, name):
    stage = source(tmp_path, *annotated.WRITTEN[name])
    with pytest.raises(
        PromptError, match=r"height and width \(100, 200\), but this one has \(50, 100\); recreate them"
    ):
        stage.prompts(picture(height=50, width=100))


def rotated(orientation=6):
    """A JPEG stored as 200×100, shown as 100×200."""
    stored = PIL.Image.fromarray(testing.pixels(HEIGHT, WIDTH))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    stored.save(data, "JPEG", exif=exif)
    return Image.from_bytes(data.getvalue(), ImageRef(KEY, KEY))


def test_coordinates_are_those_of_the_upright_picture(tmp_path):
    image = rotated()
    assert image.size == (WIDTH, HEIGHT)
    upright = [{"id": 7, "file_name": KEY, "width": HEIGHT, "height": WIDTH}]
    assert boxes(source(tmp_path, "c.json", {"c.json": coco(images=upright)}), image) == list(BOXES.values())
    assert boxes(source(tmp_path, "y", {"y/猫 1.txt": yolo(HEIGHT, WIDTH)}), image) == list(BOXES.values())


@pytest.mark.parametrize("name", ["coco", "voc", "labelme"])
def test_sizes_of_the_picture_as_it_is_stored_are_told_apart(tmp_path, name):
    with pytest.raises(PromptError, match="swapped; they may belong to the image before its EXIF rotation"):
        source(tmp_path, *annotated.WRITTEN[name]).prompts(rotated())


def test_a_changed_annotation_changes_the_fingerprint_of_its_image_alone(tmp_path):
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 200, "height": 100} for n in range(3)]
    annotations = [{"id": n, "image_id": n, "category_id": 3, "bbox": [1, 2, 30, 40]} for n in range(3)]

    def prints():
        files = {"c.json": coco(images=images, annotations=annotations)}
        stage = source(tmp_path, "c.json", files)
        return [stage.fingerprint(ImageRef(f"{n}.jpg", f"{n}.jpg")) for n in range(3)]

    before = prints()
    annotations[1]["bbox"] = [1, 2, 31, 40]
    after = prints()
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
    assert len(set(before)) == 3


def test_a_file_is_read_once_until_it_changes(tmp_path, cache, monkeypatch):
    path, files = annotated.WRITTEN["coco"]
    memory = source(tmp_path, path, files).survey([ImageRef(KEY, KEY)]).memory
    monkeypatch.setattr("maskmill_plugins._shared.annotations.index._create", None)
    assert boxes(source(tmp_path, path, {})) == list(BOXES.values())
    worker = source(tmp_path, path, {"instances.json": "{gone"})
    worker.recall(memory)
    assert boxes(worker) == list(BOXES.values())


def test_the_index_of_an_earlier_state_is_removed(tmp_path, cache):
    for size in range(3):
        annotations = coco()["annotations"][:size]
        assert len(boxes(source(tmp_path, "c.json", {"c.json": coco(annotations=annotations)}))) == size
    assert len(list(cache.glob("*.sqlite"))) == 1


def test_annotations_that_another_run_read_anew_are_not_mixed_with_those_of_before(tmp_path):
    memory = source(tmp_path, "c.json", {"c.json": coco()}).survey([ImageRef(KEY, KEY)]).memory
    source(tmp_path, "c.json", {"c.json": coco(annotations=[])}).open()
    late = source(tmp_path, "c.json", {})
    late.recall(memory)
    with pytest.raises(PipelineError, match="changed during the run; run again"):
        late.open()


def test_a_label_file_that_changes_is_noticed(tmp_path):
    path, files = annotated.WRITTEN["yolo data.yaml"]
    assert len(boxes(source(tmp_path, path, files))) == 2
    (tmp_path / "labels/train/猫 1.txt").write_text("0 0.5 0.5 0.1 0.1", encoding="utf-8")
    assert len(boxes(source(tmp_path, path, {}))) == 1


def test_units_are_those_of_the_format(tmp_path):
    assert "is for jsonl and csv" in told(source(tmp_path, *annotated.WRITTEN["coco"], units="relative"))


# --- COCO


def test_an_annotation_without_a_usable_box_has_that_of_its_region(tmp_path):
    array = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    array[20:40, 10:30] = 1
    rle = coco_mask.encode(array)
    packed = {"size": rle["size"], "counts": rle["counts"].decode()}
    plain = {"size": [HEIGHT, WIDTH], "counts": [10 * HEIGHT + 20, *[20, 80] * 19, 20, 40 + 80 + 169 * HEIGHT - 60]}
    plain["counts"][-1] = HEIGHT * WIDTH - sum(plain["counts"][:-1])
    polygons = [[10, 20, 30, 20, 30, 30], [10, 30, 20, 40, 15, 40]]
    for number, found in enumerate((packed, plain, polygons)):
        for box in ({}, {"bbox": []}, {"bbox": None}, {"bbox": [0, 0, 0, 0]}):
            stage = source(tmp_path, "c.json", {"c.json": region(segmentation=found, **box)})
            assert (number, told(stage)) == (number, "")
            assert boxes(stage) == [CAT]


def test_visible_keypoints_of_coco_are_points_if_so_wanted(tmp_path):
    seen = [15, 25, 2, 18, 30, 1, 0, 0, 0, 20.5, 33, 2]  # COCO's example: v 1 is labelled and hidden
    files = {"c.json": region(bbox=[10, 20, 20, 20], keypoints=seen, num_keypoints=3)}
    assert source(tmp_path, "c.json", files).prompts(picture())[0].points == ()
    (prompt,) = source(tmp_path, "c.json", files, keypoints="prompt").prompts(picture())
    assert prompt.points == (Point(15, 25, 1), Point(20.5, 33, 1))
    assert prompt.box.xyxy == CAT


@pytest.mark.parametrize(
    ("keypoints", "says"),
    [
        ([1, 2], "keypoints must have 3 numbers each, found 2 numbers in total"),
        ([1, 2, 3], "the visibility of a keypoint must be 0, 1 or 2, not 3"),
        ([1, 2, "x"], "keypoints must be a finite number, not 'x'"),
        ("none", r"keypoints must be \[x, y, v, ...\], not 'none'"),
    ],
    ids=["count", "visibility", "text", "no list"],
)
def test_keypoints_of_coco_that_are_wrong(tmp_path, keypoints, says):
    stage = source(tmp_path, "c.json", {"c.json": region(bbox=[10, 20, 20, 20], keypoints=keypoints)})
    assert re.search(rf"annotations\[0\].*: {says}", told(stage))


def test_crowd_regions_are_asked_for_only_if_so_wanted(tmp_path):
    document = region(bbox=[10, 20, 20, 20], iscrowd=1)
    assert source(tmp_path, "c.json", {"c.json": document}).prompts(picture()) == []
    assert boxes(source(tmp_path, "c.json", {"c.json": document}, crowd="prompt")) == [CAT]


def test_annotations_may_come_before_images_and_categories(tmp_path):
    document = coco()
    turned = {key: document[key] for key in reversed(document)}
    assert boxes(source(tmp_path, "c.json", {"c.json": turned})) == list(BOXES.values())


def test_parts_of_the_image_in_a_format_of_pixels_are_worth_a_warning(tmp_path):
    (problem,) = source(tmp_path, "c.json", {"c.json": region(bbox=[0.1, 0.2, 0.3, 0.4])}).check()
    assert problem.warning and "every box is within the first pixel" in problem.message


def test_numbers_with_a_decimal_point_are_ids_too(tmp_path):
    image = {"id": 7.0, "file_name": KEY}
    annotation = {"id": 93.0, "image_id": 7, "category_id": 3.0, "bbox": [1, 2, 3, 4]}
    (prompt,) = source(tmp_path, "c.json", {"c.json": coco(images=[image], annotations=[annotation])}).prompts(
        picture()
    )
    assert (prompt.ref, prompt.label) == ("93", next(iter(BOXES)))


def test_without_categories_the_number_is_the_label(tmp_path):
    found = source(tmp_path, "c.json", {"c.json": coco(categories=[])}).prompts(picture())
    assert [prompt.label for prompt in found] == ["3", "4"]


def test_results_of_a_detector_are_read_if_they_name_their_images(tmp_path):
    results = [
        {"image_id": 1, "file_name": KEY, "category_id": 3, "bbox": [10, 20, 20, 20], "score": 0.5},
        {"image_id": "other", "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.25},
        {"image_id": 1, "file_name": KEY, "category_id": 1, "bbox": [50, 60, 20, 20], "score": 1},
    ]
    stage = source(tmp_path, "results.json", {"results.json": results})
    assert "the labels are class numbers" in told(stage)
    assert boxes(stage) == list(BOXES.values())
    assert [(prompt.label, prompt.score, prompt.ref) for prompt in stage.prompts(picture())] == [
        ("3", 0.5, "result 1"),
        ("1", 1.0, "result 3"),
    ]
    assert boxes(stage, picture("sub/other.png")) == [(1, 2, 4, 6)]


def test_a_large_file_is_read_in_pieces(tmp_path):
    items = [{"id": n, "note": "é" * (n % 700), "nested": [[n, {"a": "]}"}]]} for n in range(5000)]
    text = json.dumps({"info": {"x": 1}, "annotations": items, "end": 12345}, ensure_ascii=False, indent=1)
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    members = list(JsonStream(tmp_path / "a.json").members())
    assert members[0] == ("info", -1, {"x": 1})
    assert [item for key, _, item in members if key == "annotations"] == items
    assert members[-1] == ("end", -1, 12345)


# --- YOLO


@pytest.mark.parametrize(
    ("line", "box", "score"),
    [
        ("0 0.1 0.3 0.1 0.2 0.87", CAT, 0.87),
        ("0 0.05 0.2 0.15 0.2 0.15 0.4 0.05 0.4", CAT, None),
        ("0 0.05 0.2 0.15 0.2 0.15 0.4", CAT, None),
        ("0 0.05 0.2 0.15 0.2 0.15 0.4 0.5", CAT, 0.5),
        ("0.0\t0.1  0.3 0.1 0.2\r", CAT, None),
        ("0 0.0 0.5 0.2 1.0", (0, 0, 20, 100), None),
        ("0 0.9 0.5 0.205 1.005", (159.5, 0, 200, 100), None),
    ],
    ids=["score", "oriented", "polygon", "polygon with score", "spaces", "over the edge", "rounding"],
)
def test_lines_of_yolo(tmp_path, line, box, score):
    stage = source(tmp_path, "y", {"y/猫 1.txt": line + "\n\n", "y/classes.txt": "0"})
    assert told(stage) == ""
    (prompt,) = stage.prompts(picture())
    assert prompt.box.xyxy == pytest.approx(box)
    assert (prompt.score, prompt.label, prompt.ref) == (score, "0", "line 1")


def poses(shape, line):
    files = dict(annotated.WRITTEN["yolo data.yaml"][1])
    files["data.yaml"] += f"kpt_shape: {shape}\n"
    return {**files, "labels/train/猫 1.txt": line}


@pytest.mark.parametrize(
    ("shape", "line", "points", "score"),
    [
        ("[2, 3]", "0 0.1 0.3 0.1 0.2 0.1 0.25 2 0.8 0.8 1", [(20, 25)], None),
        ("[2, 3]", "0 0.1 0.3 0.1 0.2 0.1 0.25 2.0 0 0 0 0.75", [(20, 25)], 0.75),
        ("[2, 2]", "0 0.1 0.3 0.1 0.2 0.1 0.25 0 0", [(20, 25)], None),
        ("[2, 3]", "0 0.1 0.3 0.1 0.2", [], None),
        ("[1, 3]", "0 0.1 0.3 0.1 0.2 0.1 1.005 2", [(20, 100)], None),
    ],
    ids=["visible and hidden", "with a score", "two numbers each", "none", "rounding"],
)
def test_keypoints_of_pose_lines_are_points_if_so_wanted(tmp_path, shape, line, points, score):
    for keypoints, wanted in (("skip", []), ("prompt", points)):
        stage = source(tmp_path, "data.yaml", poses(shape, line), keypoints=keypoints)
        assert told(stage) == ""
        (prompt,) = stage.prompts(picture())
        assert prompt.box.xyxy == pytest.approx(CAT)
        assert [(point.x, point.y) for point in prompt.points] == [pytest.approx(point) for point in wanted]
        assert all(point.label == 1 for point in prompt.points)
        assert prompt.score == score


@pytest.mark.parametrize(
    ("shape", "line", "says"),
    [
        ("[2, 3]", "0 0.1 0.3 0.1 0.2 0.9 0.9 2", "expected 11 columns with 2 keypoints of 3, found 8"),
        ("[1, 3]", "0 0.1 0.3 0.1 0.2 20 25 2", "coordinates must be fractions of the image, 0 to 1, not 20"),
        ("[1, 3]", "0 0.1 0.3 0.1 0.2 0.9 0.9 7", "the visibility of a keypoint must be 0, 1 or 2, not 7"),
        ("17", "", r"`kpt_shape` must be \[number of keypoints, 2 or 3\], not '17'"),
    ],
    ids=["too few", "pixels", "visibility", "kpt_shape"],
)
def test_pose_lines_that_are_wrong(tmp_path, shape, line, says):
    assert re.search(says, told(source(tmp_path, "data.yaml", poses(shape, line))))


def test_labels_of_several_splits_are_told_apart(tmp_path):
    files = {"labels/train/a.txt": "0 0.1 0.3 0.1 0.2", "labels/val/a.txt": "0 0.3 0.7 0.1 0.2"}
    stage = source(tmp_path, ".", files, format="yolo")
    assert boxes(stage, picture("train/a.png")) == [CAT]
    assert boxes(stage, picture("images/val/a.jpg")) == [PERSON]
    with pytest.raises(
        PromptError, match="several of its image names match equally well: images/train/a, images/val/a"
    ):
        stage.prompts(picture("a.jpg"))


NAMES = "names: {'0': 车辆, '1': person}\n"
LABELS = {"ds/labels/train/a.txt": yolo(), "ds/images/train/a.jpg": b""}
#: What tools write -> files, the path that a user names, the key of the image.
EXPORTS = {
    "yolo of CVAT": (
        {
            "ds/obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n",
            "ds/obj.names": "车辆\nperson\n",
            "ds/train.txt": "data/obj_train_data/a.jpg\n",
            "ds/obj_train_data/a.txt": yolo(),
        },
        "obj_train_data/a.jpg",
    ),
    "yolo of CVAT with data.yaml": (
        LABELS | {"ds/data.yaml": f"{NAMES}path: .\ntrain: train.txt\n", "ds/train.txt": "data/images/train/a.jpg\n"},
        "images/train/a.jpg",
    ),
    "yolo list of Windows": (
        LABELS | {"ds/data.yaml": f"{NAMES}train: train.txt\n", "ds/train.txt": ".\\images\\train\\a.jpg\r\n"},
        "images/train/a.jpg",
    ),
    "yolo list of another machine": (
        LABELS | {"ds/data.yaml": f"{NAMES}train: train.txt\n", "ds/train.txt": "/content/ds/images/train/a.jpg\n"},
        "images/train/a.jpg",
    ),
    "yolo without labels to test": (
        LABELS | {"ds/data.yaml": f"{NAMES}train: images\\train\ntest: images/test\n", "ds/images/test/b.jpg": b""},
        "images/train/a.jpg",
    ),
    "yolo without images to test": (
        LABELS | {"ds/data.yaml": f"{NAMES}train: images/train\ntest: ../test/images\n"},
        "images/train/a.jpg",
    ),
    "yolo of Label Studio": (
        {
            "ds/classes.txt": "车辆\nperson\n",
            "ds/notes.json": {"categories": [{"id": 0, "name": "车辆"}], "info": {"year": 2026}},
            "ds/labels/a.txt": yolo(),
        },
        "images/a.jpg",
    ),
    "voc of Roboflow": ({"ds/train/a.xml": voc(name="a.jpg"), "ds/README.roboflow.txt": "hello"}, "train/a.jpg"),
    "voc with its lists": (
        {
            "ds/Annotations/a.xml": voc(name="a.jpg"),
            "ds/ImageSets/Main/train.txt": "a\n",
            "ds/ImageSets/Main/cat_train.txt": "a -1\n",
        },
        "JPEGImages/a.jpg",
    ),
    "coco of CVAT": ({"ds/annotations/instances_default.json": coco(), "ds/images/x.jpg": b""}, KEY),
    "coco of Roboflow": ({"ds/_annotations.coco.json": coco(), "ds/README.dataset.txt": "hello"}, KEY),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_a_folder_that_a_tool_exported_is_read_as_it_is(tmp_path, name):
    files, key = EXPORTS[name]
    stage = source(tmp_path, "ds", files)
    assert stage.check() == []
    found = stage.prompts(picture(key))
    assert [prompt.label for prompt in found] == list(BOXES)
    assert [prompt.box.xyxy for prompt in found] == [pytest.approx(box) for box in BOXES.values()]


@pytest.mark.parametrize("names", ["[no, on, 007, 1.50]", "{0: no, 1: on, 2: 007, 3: 1.50}"])
def test_class_names_of_data_yaml_are_the_text_of_the_file(tmp_path, names):
    lines = "".join(f"{number} 0.1 0.3 0.1 0.2\n" for number in range(4))
    files = {"ds/data.yaml": f"names: {names}\ntrain: images\n", "ds/images/a.jpg": b"", "ds/labels/a.txt": lines}
    prompts = source(tmp_path, "ds", files).prompts(picture("images/a.jpg"))
    assert [prompt.label for prompt in prompts] == ["no", "on", "007", "1.50"]


def test_a_split_of_data_yaml_may_be_a_folder_called_like_a_year(tmp_path):
    files = {"ds/data.yaml": "names: [cat]\ntrain: 2024\n", "ds/2024/a.jpg": b"", "ds/2024/a.txt": "0 0.1 0.3 0.1 0.2"}
    assert boxes(source(tmp_path, "ds", files), picture("2024/a.jpg")) == [CAT]


def test_merge_keys_of_data_yaml_work(tmp_path):
    text = "base: &base {0: cat}\nnames: {<<: *base, 1: dog}\ntrain: images\n"
    files = {"ds/data.yaml": text, "ds/images/a.jpg": b"", "ds/labels/a.txt": "1 0.1 0.3 0.1 0.2"}
    (prompt,) = source(tmp_path, "ds", files).prompts(picture("images/a.jpg"))
    assert prompt.label == "dog"


def test_a_class_is_the_number_of_its_line(tmp_path):
    files = {"ds/classes.txt": "车辆\n\nperson\n", "ds/a.txt": "2 0.1 0.3 0.1 0.2\n"}
    (prompt,) = source(tmp_path, "ds", files).prompts(picture("a.jpg"))
    assert prompt.label == "person"


def test_names_of_classes_that_are_not_utf_8_are_not_passed_over(tmp_path):
    files = {"ds/classes.txt": "车辆\n".encode("gbk"), "ds/a.txt": yolo()}
    assert "classes.txt: not UTF-8 text" in told(source(tmp_path, "ds", files))


# --- VOC, LabelMe


def test_voc_counts_from_one_and_includes_the_last_pixel(tmp_path):
    box = "<object><name>x</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>200</xmax><ymax>1</ymax></bndbox></object>"
    stage = source(tmp_path, "a.xml", {"a.xml": voc(box)})
    assert boxes(stage) == [(0, 0, 200, 1)]


def test_parts_of_voc_objects_are_no_objects(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    stage = source(tmp_path, "a.xml", {"a.xml": voc().replace("</name><diff", f"</name>{part}<diff", 1)})
    assert boxes(stage) == list(BOXES.values())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xml", voc(size="<size><width>0</width><height>0</height></size>")),
        ("a.json", labelme(imageHeight=0, imageWidth=0)),
    ],
    ids=["voc", "labelme"],
)
def test_a_size_of_zero_is_no_size(tmp_path, name, content):
    stage = source(tmp_path, name, {name: content})
    assert boxes(stage, picture(height=300, width=400)) == list(BOXES.values())


def test_shapes_of_labelme(tmp_path):
    shapes = [
        {"label": "dot", "points": [[15.5, 25]], "shape_type": "point"},
        {"label": "ring", "points": [[20, 30], [23, 34]], "shape_type": "circle"},
        {"label": "turned", "points": [[10, 30], [20, 20], [30, 30], [20, 40]], "shape_type": "oriented_rectangle"},
        {"label": "cut", "points": [[10, 20], [29, 39]], "shape_type": "mask", "mask": "iVBORw0KGgo"},
    ]
    stage = source(tmp_path, "a.json", {"a.json": labelme(shapes, imageData="A" * 3_000_000)})
    dot, ring, turned, cut = stage.prompts(picture())
    assert (dot.points, dot.box) == ((Point(15.5, 25),), None)
    assert ring.box.xyxy == (15, 25, 25, 35)
    assert turned.box.xyxy == cut.box.xyxy == CAT


def test_shapes_of_one_label_and_group_are_parts_of_one_object(tmp_path):
    def rectangle(x, label="cup", **more):
        return {"label": label, "points": [[x, 10], [x + 10, 30]], "shape_type": "rectangle", **more}

    shapes = [
        rectangle(0, group_id=1),
        rectangle(100, group_id=2),
        rectangle(50, group_id=1),
        rectangle(70, "spoon", group_id=1),
        rectangle(80, group_id=None),
        rectangle(90),
        {"label": "cup", "points": [[5, 15]], "shape_type": "point", "group_id": 1},
    ]
    prompts = source(tmp_path, "a.json", {"a.json": labelme(shapes)}).prompts(picture())
    assert [prompt.box and prompt.box.xyxy for prompt in prompts] == [
        (0, 10, 60, 30), (100, 10, 110, 30), (70, 10, 80, 30), (80, 10, 90, 30), (90, 10, 100, 30), None,
    ]  # fmt: skip
    assert [prompt.ref for prompt in prompts] == [f"shape {number}" for number in (1, 2, 4, 5, 6, 7)]


def test_paths_of_labelme_may_lead_out_of_its_folder(tmp_path):
    stage = source(tmp_path, "json", {"json/a.json": labelme(imagePath="..\\images\\猫 1.jpg")})
    assert boxes(stage, picture("images/猫 1.jpg")) == list(BOXES.values())


def test_file_names_that_are_no_text_are_kept_apart():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    files = ["/v/\udcb3.xml", "/v/\udcb5.xml"]
    pieces = [AnnotatedImage(file, f"{number}.jpg", file=file) for number, file in enumerate(files)]
    build_index(connection, [*pieces, *(Annotation(file, "object 1", file=file, box=(1, 2, 3, 4)) for file in files)])
    assert connection.execute("SELECT name, file FROM images").fetchall() == [
        ("0.jpg", "/v/\\udcb3.xml"),
        ("1.jpg", "/v/\\udcb5.xml"),
    ]
    assert connection.execute("SELECT image, error FROM annotations").fetchall() == [
        ("/v/\\udcb3.xml", ""),
        ("/v/\\udcb5.xml", ""),
    ]
