"""yolo, labelme and voc: layouts, stable splits, stale files, and masks that come back from the files."""

import base64
import csv
import gc
import io
import json
import os
import shutil
import tracemalloc
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
import yaml
from pycocotools import mask as coco_mask

from maskmill import Image, ImageError, ImageRef, ImageResult, Mask, OutputError, Pipeline, Point, Prompt, testing
from maskmill.plugins.stage import collecting
from maskmill.tables import read_table
from maskmill_plugins._shared.drawing.outlines import trace_outlines
from maskmill_plugins._shared.drawing.polygons import join_rings, polygon_iou, to_rings
from maskmill_plugins._shared.export.file_names import stem_path
from maskmill_plugins._shared.export.splits import choose_split
from maskmill_plugins.writers.coco import Coco
from maskmill_plugins.writers.labelme import Labelme
from maskmill_plugins.writers.png import Png
from maskmill_plugins.writers.voc import Voc, voc_palette
from maskmill_plugins.writers.yolo import Yolo

HEIGHT, WIDTH = 60, 80
RNG = np.random.default_rng(0)


def block(y1, y2, x1, x2):
    array = np.zeros((HEIGHT, WIDTH), bool)
    array[y1:y2, x1:x2] = True
    return array


def disc(y, x, radius):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


SHAPES = {
    "block": block(5, 20, 3, 30),
    "disc": disc(30, 40, 20),
    "hole": disc(30, 40, 20) & ~disc(30, 40, 8),
    "two holes": block(5, 40, 5, 60) & ~block(10, 20, 10, 20) & ~disc(28, 45, 6),
    "parts": disc(15, 15, 10) | disc(40, 60, 12) | block(50, 58, 5, 20),
    "parts and holes": (disc(20, 20, 15) & ~disc(20, 20, 7)) | (disc(40, 60, 14) & ~disc(40, 60, 5)),
    "island in a hole": (disc(30, 40, 25) & ~disc(30, 40, 15)) | disc(30, 40, 6),
    "one pixel": block(7, 8, 9, 10),
    "last pixel": block(59, 60, 79, 80),
    "thin row": block(9, 10, 0, WIDTH),
    "thin diagonal": np.eye(HEIGHT, WIDTH, dtype=bool),
    "full frame": block(0, HEIGHT, 0, WIDTH),
}
SEVERAL_PARTS = {"parts", "parts and holes", "island in a hole"}
every_shape = pytest.mark.parametrize("array", SHAPES.values(), ids=SHAPES.keys())


def mask(array, label="cat"):
    return Mask.from_array(array, score=0.5, prompt=Prompt(points=(Point(1, 1),), label=label))


def result(key, *masks):
    status = "done" if masks else "empty"
    return ImageResult(key, status, (HEIGHT, WIDTH), sha256="0" * 64, masks=masks)


def picture(folder, key):
    testing.write_picture(folder / key, HEIGHT, WIDTH)
    return Image.load(ImageRef(str(folder / key), key))


def written(writer, tmp_path, results, finish=True):
    """Write into `tmp_path/out`, images in `tmp_path/photos`; gives (folder, notes by key, artifacts)."""
    folder, notes, artifacts = tmp_path / "out", {}, []
    for each in results:
        notes[each.key] = {}
        with collecting(notes[each.key]):
            artifacts += writer.write(picture(tmp_path / "photos", each.key), each, folder)
    if finish:
        artifacts += writer.finish(iter(sorted(results, key=lambda r: r.key)), folder)
    for artifact in artifacts:
        assert (folder / artifact.path).stat().st_size == artifact.bytes
    return folder, notes, artifacts


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def filled(array):
    """The array with its holes filled."""
    parts = coco_mask.frPyObjects(
        [ring.ravel().astype(float).tolist() for ring in trace_outlines(array)], HEIGHT, WIDTH
    )
    return coco_mask.decode(coco_mask.merge(parts)).astype(bool)


# bridges


@every_shape
def test_a_bridged_line_gives_every_pixel_back_holes_and_parts_too(array):
    line = join_rings(to_rings(mask(array), tolerance=0))
    assert polygon_iou(mask(array), [line.ravel().astype(float).tolist()]) == 1.0


def test_a_ragged_mask_of_many_parts_is_bridged_exactly():
    array = RNG.random((HEIGHT, WIDTH)) > 0.5
    assert polygon_iou(mask(array), [join_rings(to_rings(mask(array), 0)).ravel().astype(float).tolist()]) == 1.0


# yolo


def ultralytics_label(image: Path) -> Path:
    """Ultralytics' documented rule: the last `/images/` becomes `/labels/`, the suffix `.txt`."""
    before, after = f"{os.sep}images{os.sep}", f"{os.sep}labels{os.sep}"
    return Path(after.join(str(image).rsplit(before, 1)).rsplit(".", 1)[0] + ".txt")


def yolo_instances(file):
    """(class, polygon in pixels) of each line, checked as Ultralytics checks them."""
    for line in file.read_text(encoding="ascii").splitlines():
        numbers = [float(value) for value in line.split()]
        points = np.array(numbers[1:]).reshape(-1, 2)
        assert len(points) >= 3, "Ultralytics takes six numbers or more for a polygon"
        assert points.min() >= 0
        assert points.max() <= 1
        yield int(numbers[0]), (points * (WIDTH, HEIGHT)).ravel().tolist()


@every_shape
def test_yolo_gives_the_mask_back_and_notes_how_well(array, tmp_path):
    folder, notes, _ = written(Yolo(val=0), tmp_path, [result("a.jpg", mask(array))])
    ((number, polygon),) = yolo_instances(folder / "labels/train/a.txt")
    assert number == 0
    iou = polygon_iou(mask(array), [polygon], "centres")
    assert notes["a.jpg"]["iou"] == {"mean": round(iou, 6), "min": round(iou, 6), "masks": 1}
    assert iou > 0.9


@pytest.mark.parametrize(
    ("outline", "shapes"),
    # a bridge between parts has no width, but readers that fill through pixel centres draw it
    [("edges", SHAPES), ("centres", {name: array for name, array in SHAPES.items() if name not in SEVERAL_PARTS})],
    ids=["edges", "centres"],
)
def test_yolo_without_tolerance_is_exact_to_the_written_digit(outline, shapes, tmp_path):
    writer = Yolo(tolerance=0, outline=outline)
    _, notes, _ = written(writer, tmp_path, [result("a.jpg", *map(mask, shapes.values()))])
    assert notes["a.jpg"]["iou"] == {"mean": 1.0, "min": 1.0, "masks": len(shapes)}


DATASET = [
    result("a.jpg", mask(SHAPES["hole"], "猫"), mask(SHAPES["block"], "dog")),
    result("b.png"),
    result("sub/images/c.jpg", mask(SHAPES["parts"], None), mask(block(0, 0, 0, 0), "ghost")),
    result("sub.txt/d.jpg", mask(SHAPES["one pixel"], "a: #b")),
    result("照片/车辆 1.jpg", mask(SHAPES["disc"], "猫")),
    result("长" * 83 + ".jpeg", mask(SHAPES["disc"], "\udce9")),
    result("v1.2.jpg", mask(SHAPES["disc"], "dog")),
]


@pytest.mark.parametrize("classes", [(), ("dog", "猫", "object", "a: #b", "\udce9")], ids=["found", "given"])
def test_each_image_finds_its_labels_by_the_rule_of_ultralytics(classes, tmp_path):
    folder, _, artifacts = written(Yolo(classes=classes), tmp_path, DATASET)
    images = [folder / name for name in files(folder) if name.startswith("images/")]
    assert len(images) == len(DATASET)
    assert sorted(map(ultralytics_label, images)) == sorted(folder.rglob("*.txt"))
    assert sorted(artifact.path for artifact in artifacts) == files(folder)
    about = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
    names = list(classes) or sorted(["dog", "猫", "object", "a: #b", "\udce9"])
    assert about["names"] == dict(enumerate(names))
    rows = list(csv.DictReader((folder / "images.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert [row["key"] for row in rows] == sorted(each.key for each in DATASET)
    for row, each in zip(rows, sorted(DATASET, key=lambda r: r.key), strict=True):
        assert (folder / row["image"]).read_bytes() == (tmp_path / "photos" / each.key).read_bytes()
        found = [names[number] for number, _ in yolo_instances(folder / row["labels"])]
        assert found == [m.label or "object" for m in each.kept if m.area]


def test_a_label_that_is_not_in_classes_fails_the_image(tmp_path):
    with pytest.raises(ImageError, match="'猫' is not in classes: dog"):
        written(Yolo(classes=("dog",)), tmp_path, DATASET[:1])
    with pytest.raises(ImageError, match="'猫' is not in classes: dog"):
        written(Voc(classes=("dog",)), tmp_path, DATASET[:1])


def test_the_split_of_an_image_depends_on_its_key_alone():
    keys = [f"{number}.jpg" for number in range(4000)]
    shares = [choose_split(key, 0.2, 0.1) for key in keys]
    assert shares.count("val") / len(keys) == pytest.approx(0.2, abs=0.03)
    assert shares.count("test") / len(keys) == pytest.approx(0.1, abs=0.03)
    assert {choose_split(key, 0) for key in keys} == {"train"}
    assert choose_split("0.jpg", 0.2) == "train"
    assert choose_split("19.jpg", 0.2) == "val"  # and so for ever
    wider = {key for key in keys if choose_split(key, 0.3) == "val"}
    assert {key for key, share in zip(keys, shares, strict=True) if share == "val"} < wider


def test_without_an_image_in_val_the_file_says_so_and_still_loads(tmp_path):
    folder, _, _ = written(Yolo(val=0), tmp_path, DATASET[:1])
    text = (folder / "data.yaml").read_text(encoding="utf-8")
    assert "No image is in val" in text
    assert yaml.safe_load(text) == {"train": "images/train", "val": "images/train", "names": {0: "dog", 1: "猫"}}
    folder, _, _ = written(Yolo(val=0, no_val="omit", nc=True), tmp_path, DATASET[:1])
    about = yaml.safe_load((folder / "data.yaml").read_text(encoding="utf-8"))
    assert about == {"train": "images/train", "nc": 2, "names": {0: "dog", 1: "猫"}}


def test_boxes_for_a_detector(tmp_path):
    folder, notes, _ = written(Yolo(detect=True, val=0), tmp_path, [result("a.jpg", mask(block(6, 18, 8, 24)))])
    assert (folder / "labels/train/a.txt").read_text(encoding="ascii") == "0 0.2 0.2 0.2 0.2\n"
    assert notes["a.jpg"] == {}


def test_links_are_hard_and_labels_alone_are_possible(tmp_path):
    folder, _, _ = written(Yolo(images="link", val=0), tmp_path, DATASET[:1])
    assert (folder / "images/train/a.jpg").samefile(tmp_path / "photos/a.jpg")
    again, _, _ = written(Yolo(images="link", val=0), tmp_path, DATASET[:1])
    assert again == folder
    shutil.rmtree(folder)
    written(Yolo(images="none", val=0), tmp_path, DATASET[:1])
    assert files(folder) == ["data.yaml", "images.csv", "labels/train/a.txt"]


def test_where_links_are_impossible_images_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("not on this file system")

    monkeypatch.setattr(os, "link", refuse)
    folder, _, _ = written(Yolo(images="link", val=0), tmp_path, DATASET[:1])
    assert not (folder / "images/train/a.jpg").samefile(tmp_path / "photos/a.jpg")
    assert (folder / "images/train/a.jpg").read_bytes() == (tmp_path / "photos/a.jpg").read_bytes()
    assert not list(folder.rglob(".mm-*"))


@pytest.mark.parametrize("writer", [Yolo(val=0), Labelme(), Voc()], ids=["yolo", "labelme", "voc"])
def test_two_images_with_one_stem_are_an_error_that_names_both_and_the_way_out(writer, tmp_path):
    with pytest.raises(OutputError, match=r"'a.jpg' and 'a.png' would share the file '.*a\.") as error:
        written(writer, tmp_path, [result("a.jpg"), result("a.png")])
    assert "names: full" in str(error.value)
    full = type(writer)(names="full", val=0) if writer.__class__ is not Labelme else Labelme(names="full")
    shutil.rmtree(tmp_path / "out")
    folder, _, artifacts = written(full, tmp_path, [result("a.jpg"), result("a.png")])
    assert len({artifact.path for artifact in artifacts}) == len(artifacts)
    assert any("a_png" in name for name in files(folder))


@pytest.mark.parametrize(
    ("key", "path"),
    [("a.jpg", "a"), ("sub/v1.2.jpg", "sub/v1.2"), ("a b/猫.png", "a b/猫"), (".jpg", ".jpg"), ("noend", "noend")],
)
def test_a_plain_key_keeps_its_stem(key, path):
    assert stem_path(key) == path


# labelme


def labelme_mask(shapes):
    """Bool array of shapes that belong together."""
    array = np.zeros((HEIGHT, WIDTH), bool)
    for shape in shapes:
        if shape["shape_type"] == "mask":
            (x1, y1), (x2, y2) = shape["points"]
            crop = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(shape["mask"]))))
            array[y1 : y2 + 1, x1 : x2 + 1] = crop > 0
        else:
            picture = PIL.Image.new("L", (WIDTH, HEIGHT))  # as labelme.utils.shape_to_mask does
            PIL.ImageDraw.Draw(picture).polygon([tuple(point) for point in shape["points"]], fill=1, outline=1)
            array |= np.asarray(picture).astype(bool)
    return array


@every_shape
def test_labelme_masks_keep_every_pixel(array, tmp_path):
    folder, notes, _ = written(Labelme(shapes="mask"), tmp_path, [result("a.jpg", mask(array, "猫"))])
    (shape,) = json.loads((folder / "a.json").read_text(encoding="utf-8"))["shapes"]
    assert shape["label"] == "猫"
    assert np.array_equal(labelme_mask([shape]), array)
    assert notes["a.jpg"] == {}


@every_shape
def test_labelme_polygons_fill_holes_and_the_note_says_what_that_costs(array, tmp_path):
    folder, notes, _ = written(Labelme(tolerance=0), tmp_path, [result("a.jpg", mask(array))])
    shapes = json.loads((folder / "a.json").read_text(encoding="utf-8"))["shapes"]
    assert {shape["group_id"] for shape in shapes} == {0}
    assert all(len(shape["points"]) >= 3 for shape in shapes)
    assert np.array_equal(labelme_mask(shapes), filled(array))
    assert notes["a.jpg"]["iou"]["min"] == pytest.approx(array.sum() / filled(array).sum(), abs=1e-6)


def test_labelme_files_lead_to_their_images_and_survive_any_label(tmp_path):
    folder, _, artifacts = written(Labelme(), tmp_path, DATASET)
    assert len([a for a in artifacts if a.path.endswith(".json")]) == len(DATASET)
    for each in DATASET:
        file = folder / f"{stem_path(each.key)}.json"
        about = json.loads(file.read_text(encoding="utf-8"))
        assert (file.parent / about["imagePath"]).samefile(tmp_path / "photos" / each.key)
        assert (about["imageData"], about["imageHeight"], about["imageWidth"]) == (None, HEIGHT, WIDTH)
        labels = dict.fromkeys((shape["group_id"], shape["label"]) for shape in about["shapes"])
        assert [label for _, label in labels] == [m.label or "object" for m in each.kept if m.area]
    assert '"猫"' in (folder / "a.json").read_text(encoding="utf-8")


# voc


def indexed(path):
    with PIL.Image.open(path) as opened:
        assert opened.mode == "P"
        assert opened.getpalette() == voc_palette()
        return np.asarray(opened)


@pytest.mark.parametrize("classes", [(), ("猫", "dog")], ids=["found", "given"])
def test_voc_pngs_hold_objects_and_classes(classes, tmp_path):
    cat, dog = SHAPES["hole"], block(0, 30, 0, 80)
    folder, notes, artifacts = written(
        Voc(classes=classes), tmp_path, [result("a.jpg", mask(cat, "猫"), mask(dog, "dog"))]
    )
    labels = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels == ["background", *(classes or ("dog", "猫"))]
    objects = indexed(folder / "SegmentationObject/a.png")
    smaller, larger, number = (cat, dog, 1) if cat.sum() < dog.sum() else (dog, cat, 2)
    assert np.array_equal(objects == number, smaller)
    assert np.array_equal(objects == 3 - number, larger & ~smaller)
    of_class = indexed(folder / "SegmentationClass/a.png")
    assert np.array_equal(of_class == labels.index("猫"), objects == 1)
    assert np.array_equal(of_class == labels.index("dog"), objects == 2)
    lost = (larger & ~smaller).sum() / larger.sum()
    assert notes["a.jpg"]["iou"] == {"mean": round((1 + lost) / 2, 6), "min": round(lost, 6), "masks": 2}
    assert sorted(artifact.path for artifact in artifacts) == files(folder)


def test_a_voc_border_is_void_on_both_sides_and_counts_as_lost(tmp_path):
    array = block(10, 30, 10, 40)
    folder, notes, _ = written(Voc(border=2), tmp_path, [result("a.jpg", mask(array))])
    inner, outer_ = block(12, 28, 12, 38), block(8, 32, 8, 42)
    for name in ("SegmentationObject", "SegmentationClass"):
        numbers = indexed(folder / name / "a.png")
        assert np.array_equal(numbers == 1, inner)
        assert np.array_equal(numbers == 255, outer_ & ~inner)
    assert notes["a.jpg"]["iou"]["min"] == pytest.approx(inner.sum() / array.sum(), abs=1e-6)


def test_voc_boxes_count_from_one_and_include_the_last_pixel(tmp_path):
    labels = [mask(block(2, 20, 3, 30), "a<b>&猫"), mask(SHAPES["last pixel"], "\x00\udce9")]
    folder, _, _ = written(Voc(), tmp_path, [result("sub/a.jpg", *labels)])
    root = ElementTree.parse(folder / "Annotations/sub/a.xml").getroot()
    assert (root.findtext("folder"), root.findtext("filename")) == ("sub", "a.jpg")
    assert [root.findtext(f"size/{tag}") for tag in ("width", "height", "depth")] == [str(WIDTH), str(HEIGHT), "3"]
    boxes = [[int(corner.text) for corner in item.find("bndbox")] for item in root.iter("object")]
    assert boxes == [[4, 3, 30, 20], [80, 60, 80, 60]]
    assert [item.findtext("name") for item in root.iter("object")] == ["a<b>&猫", "__~8e8e3aed"]
    assert [item.findtext("truncated") for item in root.iter("object")] == ["0", "1"]


def test_the_palette_is_that_of_the_development_kit():
    assert np.array(voc_palette()).reshape(-1, 3)[[0, 1, 2, 15, 20, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [192, 128, 128],
        [0, 64, 128],
        [224, 224, 192],
    ]


def test_more_objects_or_classes_than_voc_can_number(tmp_path):
    with pytest.raises(ImageError, match="254 objects, not 255"):
        written(Voc(), tmp_path, [result("a.jpg", *[mask(SHAPES["block"])] * 255)])
    many = [result(f"{n}.jpg", *[mask(SHAPES["one pixel"], f"{n}-{m}") for m in range(128)]) for n in range(2)]
    with pytest.raises(OutputError, match="254 classes, not 256"):
        written(Voc(), tmp_path, many)


# measures of the others


def test_a_class_of_voc_has_one_name_in_all_files_which_no_other_class_has(tmp_path):
    plain = ["猫", "a_b", "x,y", 'it\'s "so"', "a/b", "🚗 car", "Ünter", "a~b"]
    odd = ["background", "#tag", "a:b", " a_b", "line\nbreak", "", "a_b~0123abcd", "\udce9"]
    labels = [*plain, *odd]
    results = [result("a.jpg", *(mask(block(y, y + 1, 0, 9), label) for y, label in enumerate(labels)))]
    folder, notes, _ = written(Voc(), tmp_path, results)
    names = (folder / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1]
    lines = (folder / "labelmap.txt").read_text(encoding="utf-8").split("\n")[1:-1]
    assert [line.split(":")[0] for line in lines] == names
    assert not any(line.startswith("#") for line in lines)
    assert len(set(names)) == len(names) == len(labels) + 1  # "" counts as `object`
    root = ElementTree.parse(folder / "Annotations/a.xml").getroot()
    written_names = [item.findtext("name") for item in root.iter("object")]
    assert written_names[: len(plain)] == plain
    numbers = indexed(folder / "SegmentationClass/a.png")
    assert [names[numbers[y, 0]] for y in range(len(labels))] == written_names
    renamed = {label: name for label, name in zip(labels, written_names, strict=True) if label in odd and label}
    assert {row["label"]: row["name"] for row in read_table(folder / "renamed.csv")} == {
        label.encode("utf-8", "backslashreplace").decode(): name for label, name in renamed.items()
    }
    assert notes["a.jpg"]["renamed"] == renamed
    assert {problem.warning for problem in Voc(classes=("a:b", "a_b")).check()} == {True}


def test_coco_and_png_note_what_they_lose(tmp_path):
    masks = [mask(SHAPES["hole"]), mask(SHAPES["block"])]
    _, notes, _ = written(Coco(format="polygons", holes="fill", tolerance=0), tmp_path, [result("a.jpg", *masks)])
    hole = SHAPES["hole"].sum() / filled(SHAPES["hole"]).sum()
    assert notes["a.jpg"]["iou"] == {"mean": pytest.approx((1 + hole) / 2, abs=1e-6), "min": round(hole, 6), "masks": 2}
    _, notes, _ = written(Coco(), tmp_path, [result("a.jpg", *masks)])
    assert notes["a.jpg"] == {}
    _, notes, _ = written(Png(layout="indexed"), tmp_path, [result("a.jpg", mask(SHAPES["full frame"]), masks[1])])
    left = 1 - SHAPES["block"].sum() / (HEIGHT * WIDTH)
    assert notes["a.jpg"]["iou"] == {"mean": round((1 + left) / 2, 6), "min": round(left, 6), "masks": 2}


# runs

WRITERS = {
    "yolo": {"use": "yolo", "val": 0},
    "yolo-classes": {"use": "yolo", "val": 0, "classes": ["thing", "猫"]},
    "labelme": {"use": "labelme"},
    "labelme-images": {"use": "labelme", "images": "copy"},
    "voc": {"use": "voc"},
    "voc-images": {"use": "voc", "images": "link"},
    "coco-images": {"use": "coco", "layout": "splits", "images": "upright", "val": 0},
    "voc-classes": {"use": "voc", "classes": ["thing", "猫"]},
}


def run(folder, writers):
    document = {
        "dataset": "photos",
        "prompts": [{"use": "fake-source"}],
        "backend": {"use": "fake-backend"},
        "writers": writers,
        "output": "out",
        "run": {"engine": "inline"},
    }
    (folder / "run.yaml").write_text(json.dumps(document), encoding="utf-8")
    (folder / "fakes.py").write_text(testing.DROP_IN, encoding="utf-8")
    report = Pipeline.load(folder / "run.yaml", plugins=[folder / "fakes.py"], drop_ins=False).run(quiet=True)
    return report, folder / "out"


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_images_that_left_the_dataset_or_now_fail_go_and_those_of_the_user_stay(name, tmp_path):
    for key in ("a.jpg", "sub/b.jpg", "c.jpg"):
        testing.write_picture(tmp_path / "photos" / key)
    use = WRITERS[name]
    _, output = run(tmp_path, [use])
    folder = output / use["use"]
    before = files(folder)
    assert any("sub/b" in path for path in before)
    (folder / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "photos/sub/b.jpg").unlink()
    (tmp_path / "photos/c.jpg").write_bytes(b"no image")
    report, _ = run(tmp_path, [use])
    assert report.exit_code == 1
    gone = {path for path in before if "sub/b" in path or Path(path).stem == "c"}
    assert files(folder) == sorted({*before, "mine.txt"} - gone)


@pytest.mark.parametrize("name", WRITERS)
def test_a_run_again_and_a_run_anew_give_the_same_bytes(name, tmp_path):
    for key in ("a.jpg", "sub/b.jpg", "c.jpg"):
        testing.write_picture(tmp_path / "photos" / key)
    contents = []
    for _ in range(3):
        _, output = run(tmp_path, [WRITERS[name]])
        folder = output / WRITERS[name]["use"]
        contents.append({path: (folder / path).read_bytes() for path in files(folder)})
        if len(contents) == 2:
            shutil.rmtree(output)
    assert contents[0] == contents[1] == contents[2]


def test_what_a_writer_noted_stays_when_another_writer_is_redone(tmp_path):
    testing.write_picture(tmp_path / "photos/a.jpg")
    run(tmp_path, [{"use": "yolo"}, {"use": "labelme"}])
    _, output = run(tmp_path, [{"use": "yolo"}, {"use": "labelme", "tolerance": 3}])
    notes = json.loads((output / "results/a.jpg.json").read_text(encoding="utf-8"))["notes"]
    assert notes["yolo"]["iou"]["masks"] == notes["labelme"]["iou"]["masks"] == 2


@pytest.mark.parametrize("writer", [Yolo(images="none"), Labelme()], ids=["yolo", "labelme"])
def test_the_end_takes_no_memory_by_image(writer, tmp_path):
    def made(count):
        for number in range(count):
            if number % 100 == 0:  # what is no longer held must not wait for the collector's own time
                gc.collect()
            yield result(f"{number:05d}.jpg", mask(SHAPES["one pixel"]))

    def peak(count):
        tracemalloc.start()
        for _ in writer.finish(made(count), tmp_path):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    gc.freeze()  # what other tests left makes the collector wait for longer
    peak(10)
    small, large = peak(100), peak(3000)
    gc.unfreeze()
    assert large - small < 100_000


def test_an_edited_list_leads_to_nothing_outside_the_folder(tmp_path):
    (tmp_path / "keep.json").write_text("{}", encoding="utf-8")
    folder, _, _ = written(Labelme(), tmp_path, DATASET[:1])
    (folder / "images.csv").write_text("key,image,annotation\nx.jpg,,../keep.json\ny.jpg,,\n", encoding="utf-8")
    Labelme().finish(iter(DATASET[:1]), folder)
    assert (tmp_path / "keep.json").exists()
