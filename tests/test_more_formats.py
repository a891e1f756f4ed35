"""panoptic, semantic, cvat, huggingface and fiftyone: layouts, who lies on top, what is lost, what is removed."""

import json
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest
from stored_runs import files as all_files, project, run, told
from test_dataset_writers import HEIGHT, SHAPES, WIDTH, block, files, mask, result, written

from maskmill import ImageError, OutputError, PipelineError
from maskmill.tables import read_table
from maskmill_plugins.evaluation.truth import read_truth
from maskmill_plugins.writers.cvat import Cvat
from maskmill_plugins.writers.fiftyone import FiftyOne
from maskmill_plugins.writers.huggingface import HuggingFace
from maskmill_plugins.writers.panoptic import Panoptic
from maskmill_plugins.writers.semantic import Semantic

LARGE, SMALL = block(0, 40, 0, 40), block(10, 20, 10, 20)
ODD = ["background", "a\nb", "a_b", "猫, 'x' \"y\"/🚗", " "]


def overlapping():
    """A large mask under a small one; a second image of all shapes, a third without masks."""
    every = [mask(array, ODD[number % len(ODD)]) for number, array in enumerate(SHAPES.values())]
    return [
        result("a.jpg", mask(LARGE, "sky"), mask(SMALL, "cat"), mask(block(50, 55, 50, 60), "sky")),
        result("sub/b.png", *every),
        result("空.jpg"),
    ]


def read_grey(path):
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


# panoptic


def test_a_pixel_of_panoptic_belongs_to_the_smaller_mask_and_stuff_is_one_segment(tmp_path):
    folder, notes, artifacts = written(Panoptic(val=0, stuff=("sky",), images="copy"), tmp_path, overlapping())
    assert sorted(artifact.path for artifact in artifacts) == files(folder)
    content = load(folder / "annotations/panoptic_train.json")
    names = {each["id"]: each["name"] for each in content["categories"]}
    assert {each["name"]: each["isthing"] for each in content["categories"]} == {
        **dict.fromkeys([*ODD, "cat"], 1),
        "sky": 0,
    }
    first, second, empty = content["annotations"]
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "sub/b.png", "空.jpg"]
    segments = {names[each["category_id"]]: each for each in first["segments_info"]}
    assert segments["cat"]["bbox"] == [10, 10, 10, 10]
    assert segments["sky"]["bbox"] == [0, 0, 60, 55]
    assert (segments["cat"]["area"], segments["sky"]["area"]) == (100, 1600 - 100 + 50)
    assert notes["a.jpg"]["iou"] == {"mean": round((2 + 1500 / 1600) / 3, 6), "min": 1500 / 1600, "masks": 3}
    for entry in (first, second, empty):
        blue, green, red = np.moveaxis(read_grey(folder / "annotations/panoptic_train" / entry["file_name"]), -1, 0)
        ids = red.astype(int) + 256 * green.astype(int) + 65536 * blue.astype(int)
        assert set(np.unique(ids)) - {0} == {segment["id"] for segment in entry["segments_info"]}
        for segment in entry["segments_info"]:
            x, y, width, height = segment["bbox"]
            inside = ids[y : y + height, x : x + width] == segment["id"]
            assert np.count_nonzero(ids == segment["id"]) == np.count_nonzero(inside) == segment["area"]
            assert all(np.any(line) for line in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
    assert empty["segments_info"] == []


def test_one_file_of_several_must_be_chosen_as_truth(tmp_path):
    (tmp_path / "splits.csv").write_text("key,split\na.jpg,val\n", encoding="utf-8")
    folder, *_ = written(Panoptic(val=0, splits=tmp_path / "splits.csv"), tmp_path, overlapping())
    with pytest.raises(PipelineError, match=r"several panoptic files: panoptic_train\.json, panoptic_val\.json"):
        read_truth(folder)


def test_a_mask_without_visible_pixels_has_no_segment_and_is_counted(tmp_path):
    masks = [mask(block(0, 2, 0, 2), "a"), mask(block(0, 2, 0, 1), "b"), mask(block(0, 2, 1, 2), "c")]
    folder, notes, _ = written(Panoptic(val=0), tmp_path, [result("a.jpg", *masks)])
    (entry,) = load(folder / "annotations/panoptic_train.json")["annotations"]
    assert [segment["id"] for segment in entry["segments_info"]] == [2, 3]
    assert notes["a.jpg"] == {"iou": {"mean": 0.666667, "min": 0.0, "masks": 3}, "hidden": 1}


def test_panoptic_of_many_masks_uses_more_than_one_byte(tmp_path):
    masks = [mask(block(n // 20, n // 20 + 1, n % 20, n % 20 + 1), "x") for n in range(300)]
    folder, *_ = written(Panoptic(val=0), tmp_path, [result("a.jpg", *masks)])
    truth = read_truth(folder / "annotations/panoptic_train.json")
    counts = [true.counts for true in truth.images["a.jpg"].objects]
    assert counts == [each.counts for each in masks]


def test_the_files_of_a_split_that_has_no_images_any_more_are_removed(tmp_path):
    (tmp_path / "splits.csv").write_text("key,split\na.jpg,val\n", encoding="utf-8")
    written(Panoptic(val=0, splits=tmp_path / "splits.csv", images="copy"), tmp_path, overlapping())
    assert (tmp_path / "out/annotations/panoptic_val.json").is_file()
    folder, *_ = written(Panoptic(val=0, images="copy"), tmp_path, overlapping())
    assert not [path for path in files(folder) if "val" in path]


# semantic

LAYOUTS = {
    "pairs": ("images/{}", "masks/{}"),
    "mmseg": ("img_dir/train/{}", "ann_dir/train/{}"),
    "ade": ("images/training/{}", "annotations/training/{}"),
    "fiftyone": ("data/{}", "labels/{}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("given", [(), ("sky", "cat", *ODD)], ids=["found", "given"])
def test_a_class_map_is_grey_and_says_the_class_of_the_smaller_mask(layout, given, tmp_path):
    writer = Semantic(layout=layout, classes=given, val=0, images="copy")
    folder, notes, artifacts = written(writer, tmp_path, overlapping())
    assert sorted(artifact.path for artifact in artifacts) == files(folder)
    names = (folder / "labels.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert names[0] == "background"
    assert len(names) == 8 == len(set(names))
    images, maps = LAYOUTS[layout]
    assert (folder / images.format("sub/b.png")).is_file()
    numbers = read_grey(folder / maps.format("a.png"))
    assert (numbers.dtype, numbers.shape) == (np.uint8, (HEIGHT, WIDTH))
    assert numbers[15, 15] == names.index("cat")
    assert np.array_equal(numbers == names.index("sky"), (LARGE & ~SMALL) | block(50, 55, 50, 60))
    assert notes["a.jpg"]["iou"]["min"] == 1500 / 1600
    assert not read_grey(folder / maps.format("空.png")).any()
    renamed = {row["label"]: row["name"] for row in read_table(folder / "renamed.csv")}
    assert set(renamed) == {"background", "a\nb", " "}
    assert set(renamed.values()) < set(names)


def test_more_classes_than_a_byte_holds_make_files_of_16_bits(tmp_path):
    many = [mask(block(n // 60, n // 60 + 1, n % 60, n % 60 + 1), str(n)) for n in range(300)]
    folder, *_ = written(Semantic(val=0), tmp_path, [result("a.jpg", *many), result("b.jpg", many[0])])
    numbers = read_grey(folder / "masks/a.png")
    assert numbers.dtype == np.uint16
    assert numbers[0, :3].tolist() == [1, 2, 3]
    assert numbers[4, 59] == 300
    assert read_grey(folder / "masks/b.png").dtype == np.uint16


def test_a_label_that_is_not_in_the_classes_fails_its_image(tmp_path):
    with pytest.raises(ImageError, match="'sky' is not in classes: cat"):
        written(Semantic(classes=("cat",)), tmp_path, overlapping())


@pytest.mark.parametrize("writer", [Semantic(), Panoptic(), HuggingFace(), FiftyOne(images="upright")])
def test_two_images_of_one_name_are_named(writer, tmp_path):
    with pytest.raises(OutputError, match="would share the file"):
        written(writer, tmp_path, [result("a.gif"), result("a.png")])


@pytest.mark.parametrize("make", [Semantic, Panoptic, HuggingFace, FiftyOne, Cvat], ids=lambda make: make.__name__)
def test_files_of_images_that_left_are_removed_and_the_bytes_are_the_same_again(make, tmp_path):
    if make is HuggingFace:
        pytest.importorskip("pyarrow")
    folder, *_ = written(make(images="copy"), tmp_path, overlapping())
    before = {path: (folder / path).read_bytes() for path in files(folder)}
    written(make(images="copy"), tmp_path, overlapping())
    assert {path: (folder / path).read_bytes() for path in files(folder)} == before
    written(make(images="copy"), tmp_path, overlapping()[:1])
    assert not [path for path in files(folder) if "b." in path or "空" in path]


def problems(writer):
    return "\n".join(str(problem) for problem in writer.check())


def test_options_that_cannot_be_used_are_named_before_the_run(tmp_path):
    for make in (Semantic, Panoptic, HuggingFace, FiftyOne):
        assert problems(make()) == ""
        assert "cannot be read: No such file" in problems(make(splits=tmp_path / "no.csv"))
        assert "leave no images for training" in problems(make(val=0.5, test=0.5))
    assert "'a' is given more than once" in problems(Semantic(classes=("a", "a")))
    assert "'background' is written as 'background~" in problems(Semantic(classes=("background",)))
    assert "stuff: 'a' is given more than once" in problems(Panoptic(stuff=("a", "a")))
    for make in (HuggingFace, FiftyOne):
        assert "images: none" in problems(make(images="none"))
    assert "folders: nested" in problems(HuggingFace(folders="nested"))


# cvat


def read_cvat_mask(shape):
    picture = np.zeros((HEIGHT, WIDTH), bool)
    left, top, width, height = (int(shape.get(name)) for name in ("left", "top", "width", "height"))
    flat, value = [], False
    for length in shape.get("rle").split(", "):
        flat += [value] * int(length)
        value = not value
    picture[top : top + height, left : left + width] = np.reshape(flat, (height, width))
    return picture


def test_cvat_keeps_every_pixel_and_puts_small_masks_on_top(tmp_path):
    folder, _, artifacts = written(Cvat(images="copy"), tmp_path, overlapping())
    assert sorted(artifact.path for artifact in artifacts) == files(folder)
    root = ElementTree.parse(folder / "annotations.xml").getroot()
    assert [(image.get("id"), image.get("name")) for image in root.iter("image")] == [
        ("0", "a.jpg"),
        ("1", "sub/b.png"),
        ("2", "空.jpg"),
    ]
    declared = [label.findtext("name") for label in root.iter("label")]
    assert declared == [label["name"] for label in load(folder / "labels.json")]
    assert len(set(declared)) == 7
    for image, each in zip(root.iter("image"), overlapping(), strict=True):
        assert (image.get("width"), image.get("height")) == (str(WIDTH), str(HEIGHT))
        shapes = list(image.iter("mask"))
        for shape, kept in zip(shapes, each.kept, strict=True):
            assert np.array_equal(read_cvat_mask(shape), kept.array)
            assert shape.get("label") in declared
            assert shape.find("attribute").text == "0.5"
        order = sorted(range(len(shapes)), key=lambda number: int(shapes[number].get("z_order")))
        areas = [each.kept[number].area for number in order]
        assert areas == sorted(areas, reverse=True)


def test_polygons_of_cvat_group_the_parts_of_an_object(tmp_path):
    masks = [mask(array, name) for name, array in SHAPES.items()]
    folder, notes, _ = written(Cvat(shapes="polygons", tolerance=0), tmp_path, [result("a.jpg", *masks)])
    assert notes["a.jpg"]["iou"]["min"] == 1.0
    root = ElementTree.parse(folder / "annotations.xml").getroot()
    groups = {}
    for shape in root.iter("polygon"):
        groups.setdefault(shape.get("label"), []).append(shape.get("group_id"))
    assert list(groups) == list(SHAPES)
    for name, found in groups.items():
        assert len(set(found)) == 1
        assert (found[0] is None) == (len(found) == 1), name


# in a run


def test_an_export_is_what_a_run_writes_also_when_it_is_run_again(tmp_path, capsys):
    pytest.importorskip("pyarrow")
    names = ["panoptic", "semantic", "cvat", "huggingface", "fiftyone", "labelstudio"]
    file = project(tmp_path, writers=f"[{', '.join(f'{{use: {name}}}' for name in names)}]")
    run(file)
    output = run(file)
    for name in names:
        code, out, _ = told(capsys, "export", output, "--to", name, "-o", tmp_path / name, "-j", 1)
        assert (code, "5 images exported" in out) == (0, True)
        assert all_files(tmp_path / name) == all_files(output / name)
    assert told(capsys, "check", file)[0] == 0


# truth: what these writers make is read back


@pytest.mark.parametrize(
    ("writer", "path"),
    [
        (Panoptic(val=0, folders="flat", images="copy"), "annotations/panoptic_train.json"),
        (Panoptic(val=0), "."),
        (Semantic(val=0, folders="flat"), "."),
        (Semantic(layout="mmseg"), "."),
        (Cvat(folders="flat", images="copy"), "annotations.xml"),
        (Cvat(shapes="polygons", tolerance=0), "."),
    ],
    ids=["panoptic", "panoptic folder", "semantic", "mmseg", "cvat masks", "cvat polygons"],
)
def test_evaluate_reads_what_we_write_as_truth(writer, path, tmp_path):
    masks = [
        mask(block(0, 9, 0, 9), "background"),
        mask(SHAPES["hole"], "a\nb"),
        mask(block(0, 9, 70, 79), "background"),
    ]
    pair = [mask(SHAPES["parts"], "parts")]
    written(writer, tmp_path, [result("a.jpg", *masks), result("sub/a.jpg", *pair), result("空.jpg")])
    truth = read_truth(tmp_path / "out" / path)
    assert set(truth.images) == {"a.jpg", "sub/a.jpg", "空.jpg"}
    assert {image.size for image in truth.images.values()} == {(HEIGHT, WIDTH)}
    found = sorted((true.label, true.counts) for true in truth.images["a.jpg"].objects)
    if isinstance(writer, Semantic):
        assert truth.merged == set(truth.labels) == {"background", "a\nb", "parts"}
        both = mask(block(0, 9, 0, 9) | block(0, 9, 70, 79), "background")
        assert found == sorted((each.label, each.counts) for each in (both, masks[1]))
    else:
        assert found == sorted((each.label, each.counts) for each in masks)
    assert [true.counts for true in truth.images["sub/a.jpg"].objects] == [pair[0].counts]
    assert truth.images["空.jpg"].objects == ()
