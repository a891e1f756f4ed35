"""`maskmill evaluate`: known overlaps, pycocotools' own numbers, truths of every form, broken ones."""

import contextlib
import io
import json
import re

import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from report_kit import Page
from stored_runs import files, project, run, told

from maskmill import Mask
from maskmill_plugins.evaluation.evaluate import precision
from maskmill_plugins.evaluation.evaluate.boundary import boundary_f, find_contour
from maskmill_plugins.evaluation.evaluate.precision import STATS

SIZE = (40, 60)
#: Where the fakes' two masks are: left, top, width, height.
THING, CAT = [0, 0, 36, 30], [24, 10, 36, 30]
SOURCE = """
from maskmill import Box, Point, Prompt, PromptSource, hookimpl

GIVEN = [
    Prompt(box=Box(0, 0, 36, 30), label="thing", ref="7"),
    Prompt(points=(Point(50, 20),), label="猫", ref="8"),
    Prompt(box=Box(24, 10, 60, 40), points=(Point(30, 20),), label="猫", ref="1234"),
]


class Kinds(PromptSource):
    def prompts(self, image):
        return GIVEN


@hookimpl
def register_prompt_sources(register):
    register("kinds", Kinds)
"""


def polygon(x, y, width, height):
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def annotation(number, image, box, category=1, **more):
    shape = {"bbox": box, "area": box[2] * box[3], "segmentation": polygon(*box), "iscrowd": 0}
    return {"id": number, "image_id": image, "category_id": category, **shape, **more}


def coco(path, annotations, names=("a.png", "b/照片 1.png", "b/c.png", "d.png", "e.png")):
    images = [{"id": n, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for n, name in enumerate(names)]
    categories = [{"id": 1, "name": "thing"}, {"id": 2, "name": "猫"}]
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories}), encoding="utf-8"
    )
    return path


def truth(folder):
    """Of five images: all right, the cat shifted by 6 pixels, one class wrong, one object missed, none there."""
    shifted = [30, 10, 30, 30]
    return coco(
        folder / "真值.json",
        [
            annotation(1, 0, THING),
            annotation(2, 0, CAT, 2),
            annotation(3, 1, THING),
            annotation(4, 1, shifted, 2),
            annotation(5, 2, THING, 2),
            annotation(6, 3, THING),
            annotation(7, 3, [0, 32, 8, 8]),
        ],
    )


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return run(project(tmp_path_factory.mktemp("评估"), writers="[{use: coco}]"))


def evaluated(capsys, output, truth, folder, *more, code=0):
    found, out, err = told(capsys, "evaluate", output, "--truth", truth, "-o", folder, *more)
    assert (found, err) == (code, "")
    return json.loads((folder / "evaluation.json").read_bytes()), out


def test_overlaps_that_are_known(output, tmp_path, capsys):
    found, out = evaluated(capsys, output, truth(tmp_path), tmp_path / "e")
    # in the third image the mask at THING is no 猫, and the 猫 beside it overlaps the object by 240 of 1920 pixels
    third = 12 * 20 / (2 * 1080 - 12 * 20)
    ious = [1, 1, 1, 900 / 1080, third, 1, 0]
    assert found["all"]["mean_iou"] == pytest.approx(sum(ious) / 7)
    assert f"{sum(ious) / 7:.3f}" in out
    assert found["by_class"]["猫"]["mean_iou"] == pytest.approx((1 + 900 / 1080 + third) / 3)


def test_everything_is_counted_once(output, tmp_path, capsys):
    found, out = evaluated(capsys, output, truth(tmp_path), tmp_path / "e")
    assert found["images"] == 5
    assert found["all"]["objects"] == 7
    assert found["all"]["matched_by"] == {"id": 0, "overlap": 6, "missed": 1}
    assert found["all"]["extra_masks"] == 10 - 6
    assert found["by_size"]["small"]["objects"] == 2
    assert found["by_size"]["medium"]["objects"] == 5
    assert found["by_prompt"]["box"]["objects"] == 6
    assert found["by_prompt"]["missed"]["mean_iou"] == 0
    assert "0 matched by the id of a mask's prompt, 6 by overlap, 1 missed; 4 masks match no object" in out


@pytest.mark.parametrize("by_class", [True, False], ids=["by class", "one class"])
def test_the_precision_is_that_of_pycocotools(output, tmp_path, capsys, by_class, monkeypatch):
    monkeypatch.setattr(precision, "AT_ONCE", 2)  # of the five images
    path = truth(tmp_path)
    more = [] if by_class else ["--one-class"]
    found, _ = evaluated(capsys, output, path, tmp_path / "e", *more)
    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO(path)
        names = {image["file_name"]: image["id"] for image in true.dataset["images"]}
        mine = json.loads((output / "coco" / "instances.json").read_bytes())
        keys = {image["id"]: image["file_name"] for image in mine["images"]}
        labels = {category["id"]: category["name"] for category in mine["categories"]}
        ids = {category["name"]: category["id"] for category in true.dataset["categories"]}
        results = [
            {
                "image_id": names[keys[each["image_id"]]],
                "category_id": ids[labels[each["category_id"]]],
                "segmentation": each["segmentation"],
                "score": each["score"],
            }
            for each in mine["annotations"]
        ]
        evaluation = COCOeval(true, true.loadRes(results), "segm")
        evaluation.params.useCats = int(by_class)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    expected = [None if value < 0 else pytest.approx(value) for value in evaluation.stats]
    assert [found["coco"][name] for name in STATS] == expected
    assert 0 < found["coco"]["AP"] < 1


def test_failed_images_count_as_missed_and_are_named(tmp_path, capsys):
    file = project(tmp_path, writers="[]")
    (tmp_path / "photos" / "a.png").write_bytes(b"no image")
    found, out = evaluated(capsys, run(file), truth(tmp_path), tmp_path / "e")
    assert found["failed"] == {"count": 1, "names": ["a.png"]}
    assert found["images"] == 5
    assert found["all"]["matched_by"] == {"id": 0, "overlap": 4, "missed": 3}
    assert found["coco"]["AR100"] < 0.6
    assert "images that failed in the run; their objects count as missed: 1 (a.png)" in out


def test_images_without_a_partner_are_named_on_both_sides_and_do_not_count(output, tmp_path, capsys):
    names = ["photos/a.jpg", "c.tif", "elsewhere/z.png"]
    path = coco(tmp_path / "t.json", [annotation(n, n, THING) for n in range(3)], names)
    found, out = evaluated(capsys, output, path, tmp_path / "e")
    assert found["images"] == 2  # by their stems
    assert found["all"]["mean_iou"] == 1
    assert found["only_in_truth"] == {"count": 1, "names": ["elsewhere/z.png"]}
    assert found["only_in_run"] == {"count": 3, "names": ["b/照片 1.png", "d.png", "e.png"]}
    assert "elsewhere/z.png" in out


def test_two_images_that_one_stem_connects_have_no_truth(tmp_path, capsys):
    output = run(project(tmp_path, ["x/a.png", "y/a.png", "b.png"], writers="[]"))
    path = coco(tmp_path / "t.json", [annotation(n, n, THING) for n in range(2)], ["a.png", "b.png"])
    found, _ = evaluated(capsys, output, path, tmp_path / "e")
    assert found["images"] == 1
    assert found["only_in_run"]["names"] == ["x/a.png", "y/a.png"]
    assert found["only_in_truth"]["names"] == ["a.png"]


@pytest.fixture
def kinds(tmp_path):
    file = project(tmp_path, ["a.png"], writers="[]")
    (tmp_path / "plugins" / "kinds.py").write_text(SOURCE, encoding="utf-8")
    return run(file, sets=["prompts.0.use=kinds"])


def test_ids_pair_a_mask_with_its_object_and_kinds_of_prompt_are_told_apart(kinds, tmp_path, capsys):
    objects = [annotation(7, 0, [2, 0, 36, 30]), annotation(8, 0, [40, 12, 18, 18]), annotation(9, 0, CAT, 2)]
    found, _ = evaluated(capsys, kinds, coco(tmp_path / "t.json", objects), tmp_path / "e")
    assert found["all"]["matched_by"] == {"id": 2, "overlap": 1, "missed": 0}
    assert {name: row["objects"] for name, row in found["by_prompt"].items()} == {
        "box": 1,
        "points": 1,
        "box+points": 1,
    }
    assert found["by_prompt"]["box"]["mean_iou"] == pytest.approx(34 / 38)
    disc = sum((x + 0.5 - 50) ** 2 + (y + 0.5 - 20) ** 2 <= 9 for x in range(60) for y in range(40))
    assert found["by_prompt"]["points"]["mean_iou"] == pytest.approx(disc / 18**2)


def test_an_id_of_another_file_does_not_pair_what_lies_apart(kinds, tmp_path, capsys):
    objects = [annotation(8, 0, THING), annotation(7, 0, CAT, 2)]
    found, _ = evaluated(capsys, kinds, coco(tmp_path / "t.json", objects), tmp_path / "e")
    assert found["all"]["matched_by"] == {"id": 0, "overlap": 2, "missed": 0}
    assert found["all"]["mean_iou"] == 1


def test_crowds_count_neither_as_missed_nor_against_the_masks_inside(output, tmp_path, capsys):
    crowd = np.zeros(SIZE, np.uint8, order="F")
    crowd[8:, 20:] = 1
    counts = coco_mask.encode(crowd)
    rle = {"size": list(SIZE), "counts": counts["counts"].decode()}
    objects = [annotation(1, 0, THING), annotation(2, 0, [20, 8, 40, 32], 2, iscrowd=1, segmentation=rle)]
    found, _ = evaluated(capsys, output, coco(tmp_path / "t.json", objects, ["a.png"]), tmp_path / "e")
    assert found["all"]["objects"] == 1
    assert found["all"]["extra_masks"] == 0
    assert found["coco"]["AP"] == pytest.approx(1)


def test_a_truth_of_boxes_alone_is_compared_with_boxes(output, tmp_path, capsys):
    objects = [annotation(1, 0, THING), annotation(2, 0, [30, 10, 30, 30], 2)]
    for each in objects:
        del each["segmentation"], each["area"]
    found, out = evaluated(capsys, output, coco(tmp_path / "t.json", objects, ["a.png"]), tmp_path / "e")
    assert found["truth"]["kind"] == "box"
    assert found["all"]["mean_iou"] == pytest.approx((1 + 900 / 1080) / 2)
    assert found["all"]["mean_boundary_f"] is None
    assert "the ground truth has only boxes" in out


@pytest.mark.parametrize("form", ["polygon", "counts", "list of counts"])
def test_every_form_of_a_segmentation_is_read(output, tmp_path, capsys, form):
    pixels = np.zeros(SIZE, np.uint8, order="F")
    pixels[0:30, 0:36] = 1
    rle = coco_mask.encode(pixels)
    flat = pixels.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=0))
    runs = np.diff([0, *changes, flat.size]).tolist()
    shapes = {
        "polygon": polygon(*THING),
        "counts": {"size": list(SIZE), "counts": rle["counts"].decode()},
        "list of counts": {"size": list(SIZE), "counts": runs},
    }
    path = coco(tmp_path / "t.json", [annotation("a-1", 0, THING, segmentation=shapes[form])], ["a.png"])
    found, _ = evaluated(capsys, output, path, tmp_path / "e")
    assert found["all"]["mean_iou"] == 1


def voc(folder, name, objects, classes=None):
    for below, pixels in (("SegmentationObject", objects), ("SegmentationClass", classes)):
        if pixels is not None:
            path = folder / below / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = PIL.Image.fromarray(pixels)
            picture.putpalette([0, 0, 0, 128, 0, 0] + [9] * 762)
            picture.save(path)


def test_indexed_png_files_are_a_truth_and_nothing_is_known_of_the_void(output, tmp_path, capsys):
    objects = np.zeros(SIZE, np.uint8)
    objects[0:30, 0:36] = 1
    objects[:, 30:36] = 255
    classes = np.where(objects == 1, 2, objects).astype(np.uint8)
    voc(tmp_path / "voc", "a.png", objects, classes)
    (tmp_path / "voc" / "labels.txt").write_text("_background_\n猫\nthing\n", encoding="utf-8")
    found, out = evaluated(capsys, output, tmp_path / "voc", tmp_path / "e")
    assert found["by_class"]["thing"]["mean_iou"] == 1
    assert found["all"]["matched_by"]["id"] == 0
    assert found["only_in_run"]["count"] == 4
    voc(tmp_path / "alone", "a.png", objects)
    found, out = evaluated(capsys, output, tmp_path / "alone" / "SegmentationObject", tmp_path / "f")
    assert found["all"]["mean_iou"] == 1
    assert "classes are ignored" in out
    found, out = evaluated(capsys, output, tmp_path / "alone", tmp_path / "f", "--by-class")
    assert found["all"]["mean_iou"] == 0
    assert found["unknown_labels"] == {"thing": 1, "猫": 1}


def test_the_worst_images_are_shown_with_the_pixels_in_which_they_are_wrong(output, tmp_path, capsys):
    found, _ = evaluated(capsys, output, truth(tmp_path), tmp_path / "e")
    assert [each["image"] for each in found["worst"]] == ["b/c.png", "d.png", "b/照片 1.png"]
    names = [f"worst/{rank:02}{end}" for rank in (1, 2, 3) for end in ("-errors.png", ".jpg")]
    assert sorted(files(tmp_path / "e")) == ["evaluation.json", "index.html", *names]
    with PIL.Image.open(tmp_path / "e" / "worst" / "03.jpg") as photo:
        assert photo.size == SIZE[::-1]
    with PIL.Image.open(tmp_path / "e" / "worst" / "03-errors.png") as picture:
        errors = np.asarray(picture)
    # the cat is six columns too far left: red before the true one, and nothing is missing
    assert set(np.unique(errors)) == {0, 1}
    assert (errors == 1).nonzero()[1].max() < 30
    page = Page(tmp_path / "e" / "index.html")
    (shown,) = (each for each in json.loads(page.data["pictures_data"]) if each["key"] == "b/照片 1.png")
    assert round(shown["value"], 3) == 0.917
    assert [(each[0], each[4]) for each in shown["objects"]] == [("thing", 1), ("猫", round(30 / 36, 4))]
    rows = json.loads(page.data["rows"])
    assert len(rows) == found["all"]["objects"] + found["all"]["extra_masks"]
    assert sum(row[4] == "extra" for row in rows) == found["all"]["extra_masks"] > 0
    assert found["confusions"] == [{"truth": "猫", "mask": "thing", "objects": 1}]
    assert [row[8] for row in rows if row[8]] == ["thing"]
    assert sum(found["iou_histogram"]) == found["all"]["objects"]
    assert [row[5] for row in rows] == sorted(row[5] for row in rows)
    assert not re.search("https?://", page.text.replace("http://www.w3.org/2000/svg", ""))
    evaluated(capsys, output, tmp_path / "真值.json", tmp_path / "e", "--pictures", 1)
    assert sorted(files(tmp_path / "e"))[2:] == names[:2]


def test_it_is_written_into_the_run_s_folder_and_again_over_itself_alone(output, tmp_path, capsys):
    assert told(capsys, "evaluate", output, "--truth", truth(tmp_path))[0] == 0
    assert (output / "evaluation" / "worst" / "03.jpg").exists()
    path = coco(tmp_path / "t.json", [annotation(1, 0, THING)], ["a.png"])
    assert told(capsys, "evaluate", output, "--truth", path)[0] == 0
    assert not list((output / "evaluation" / "worst").iterdir())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_bytes(b"mine")
    code, _, err = told(capsys, "evaluate", output, "--truth", path, "-o", tmp_path / "mine")
    assert code == 2
    assert "not from an earlier report" in err
    assert (tmp_path / "mine" / "index.html").read_bytes() == b"mine"


def test_what_cannot_be_evaluated_is_named_and_does_not_count(output, tmp_path, capsys):
    path = truth(tmp_path)
    data = json.loads(path.read_bytes())
    data["images"][0]["width"] = 61
    path.write_text(json.dumps(data), encoding="utf-8")
    found, out = evaluated(capsys, output, path, tmp_path / "e", code=1)
    assert found["images"] == 4
    assert "a.png: the masks have 60×40 pixels, the ground truth 61×40" in out


def spoilt(**change):
    return lambda data: data["annotations"][2].update(change)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data.pop("images"), "an object with the lists 'images' and 'annotations'"),
        (lambda data: data["images"][1].pop("file_name"), "images[1]: expected an object with 'id' and 'file_name'"),
        (lambda data: data["images"][1].update(id=0), "images[1]: the id 0 is used twice"),
        (lambda data: data["images"][1].update(height=None), "images[1]: expected 'height' and 'width' in pixels"),
        (lambda data: data["categories"][1].update(id=1), "categories[1]: the id 1 is used twice"),
        (spoilt(image_id=99), "annotations[2] (id 3): no image has the id 99"),
        (spoilt(category_id="x"), "annotations[2] (id 3): no category has the id 'x'"),
        (spoilt(id=1), "annotations[2] (id 1): the id 1 is used twice"),
        (spoilt(bbox=[1, 2, 3]), "annotations[2] (id 3): expected 'bbox' as [x, y, width, height], found [1, 2, 3]"),
        (
            spoilt(segmentation=[[1, 2, 3, 4]]),
            "annotations[2] (id 3): a polygon must have x, y of at least 3 points",
        ),
        (
            spoilt(segmentation={"size": [9, 9], "counts": [81]}),
            "its RLE has 9×9 = 81 pixels, but its image 60×40 = 2400",
        ),
        (spoilt(segmentation={"size": [40, 60], "counts": "PRQ"}), "end within a number; they may be cut off"),
        (spoilt(iscrowd="yes"), "annotations[2] (id 3): iscrowd must be 0 or 1, not 'yes'"),
        (
            spoilt(segmentation={"size": [40, 60], "counts": [7]}),
            "annotations[2] (id 3): the counts of its RLE add up to 7, but its size of 60×40 has 2400",
        ),
        (spoilt(segmentation={"counts": "x"}), "the size of an RLE must be [height, width], not None"),
        (lambda data: data["annotations"].insert(0, 7), "annotations[0]: expected an object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_truth_is_one_message_with_file_and_element(output, tmp_path, capsys, spoil, said):
    path = truth(tmp_path)
    data = json.loads(path.read_bytes())
    spoil(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    code, _, err = told(capsys, "evaluate", output, "--truth", path, "-o", tmp_path / "e")
    assert code == 2
    assert err.startswith(f"{path}: ")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "e").exists()


def test_other_things_are_no_truth(output, tmp_path, capsys):
    def refused(path):
        code, _, err = told(capsys, "evaluate", output, "--truth", path, "-o", tmp_path / "e")
        assert code == 2
        return err

    (tmp_path / "a.json").write_text('{"images": [], }', encoding="utf-8")
    assert "a.json:1:16: not JSON" in refused(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[]", encoding="utf-8")
    assert "a list of detection results" in refused(tmp_path / "b.json")
    assert "did you mean 'b.json'?" in refused(tmp_path / "bb.json")
    assert "no PNG file found" in refused(tmp_path)
    PIL.Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    assert "expected an indexed PNG" in refused(tmp_path)
    nothing = coco(tmp_path / "t.json", [], ["nowhere.png"])
    assert "no image of the run" in refused(nothing)


def near(of, other, radius):
    """The share of contour pixels with one of the other contour within the radius: by trying every pair."""
    mine, theirs = np.argwhere(of), np.argwhere(other)
    return (((mine[:, None] - theirs[None]) ** 2).sum(-1).min(1) <= radius**2).mean()


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 5, 40])
@pytest.mark.parametrize("place", [(20, 20), (0, 0), (50, 70)], ids=["inside", "corner", "other corner"])
def test_the_boundary_measure_of_shifted_squares(shift, place):
    def square(y, x):
        pixels = np.zeros((100, 120), bool)
        pixels[y : y + 30, x : x + 30] = True
        return pixels

    a, b = square(*place), square(place[0] + shift // 2, min(place[1] + shift, 119))
    radius = 2  # 0.8 % of the diagonal, 156.2, rounded up
    precision, recall = near(find_contour(a), find_contour(b), radius), near(find_contour(b), find_contour(a), radius)
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0
    found = boundary_f(Mask.from_array(a), Mask.from_array(b))
    assert found == pytest.approx(expected)
    assert place != (20, 20) or shift > 1 or found == 1
    assert shift < 40 or found < 0.2


def test_the_boundary_of_nothing():
    nothing, square = np.zeros((30, 30), bool), np.zeros((30, 30), bool)
    square[5:10, 5:10] = True
    empty, full = Mask.from_array(nothing), Mask.from_array(square)
    assert boundary_f(empty, empty) == 1
    assert boundary_f(empty, full) == boundary_f(full, empty) == 0


# --- what counts as nothing, and nothing to evaluate


def rle_of(*boxes):
    pixels = np.zeros(SIZE, np.uint8, order="F")
    for x, y, width, height in boxes:
        pixels[y : y + height, x : x + width] = 1
    return {"size": list(SIZE), "counts": coco_mask.encode(pixels)["counts"].decode()}


#: The boxes of the two masks of an image: THING with the label thing, and one to its right with the label 猫.
BESIDE = [20, 8, 40, 32]


@pytest.mark.parametrize("label", [1, 2], ids=["its class", "another class"])
@pytest.mark.parametrize(
    "crowds", [[BESIDE], [[20, 8, 22, 32], [42, 8, 18, 32]]], ids=["one crowd", "two crowds side by side"]
)
def test_masks_wholly_on_crowds_count_as_nothing(output, tmp_path, capsys, label, crowds):
    objects = [annotation(1, 0, THING)]
    objects += [annotation(2 + n, 0, box, label, iscrowd=1, segmentation=rle_of(box)) for n, box in enumerate(crowds)]
    found, _ = evaluated(capsys, output, coco(tmp_path / "t.json", objects, ["a.png"]), tmp_path / "e", "--one-class")
    assert (found["all"]["objects"], found["all"]["extra_masks"]) == (1, 0)
    assert found["coco"]["AP"] == pytest.approx(1)


def test_an_object_on_a_crowd_is_still_found(output, tmp_path, capsys):
    objects = [
        annotation(1, 0, THING),
        annotation(2, 0, [0, 0, 60, 40], 1, iscrowd=1, segmentation=rle_of([0, 0, 60, 40])),
    ]
    found, _ = evaluated(capsys, output, coco(tmp_path / "t.json", objects, ["a.png"]), tmp_path / "e", "--one-class")
    assert (found["all"]["mean_iou"], found["all"]["extra_masks"]) == (1, 0)


@pytest.mark.parametrize("in_classes", [False, True], ids=["object map", "class map"])
def test_masks_wholly_on_ignored_pixels_count_as_nothing(output, tmp_path, capsys, in_classes):
    objects = np.full(SIZE, 255, np.uint8)
    objects[0:30, 0:24] = 1
    classes = np.where(objects == 1, 2, 255).astype(np.uint8)
    if in_classes:
        objects = np.where(objects == 1, 1, 2).astype(np.uint8)
    voc(tmp_path / "voc", "a.png", objects, classes)
    (tmp_path / "voc" / "labels.txt").write_text("猫\nthing\n", encoding="utf-8")
    found, _ = evaluated(capsys, output, tmp_path / "voc", tmp_path / "e", "--one-class")
    assert (found["all"]["objects"], found["all"]["mean_iou"], found["all"]["extra_masks"]) == (1, 1, 0)
    assert found["coco"]["AP"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("objects", "said"),
    [
        ([], "the ground truth has no object in any image: there was nothing to find, and every mask is extra"),
        ([annotation(1, 0, THING, iscrowd=1)], "the ground truth has no object but crowd regions in any image"),
        ([annotation(1, 1, THING)], "the ground truth has no object in these images"),
    ],
    ids=["no annotations", "crowds alone", "in other images"],
)
def test_a_truth_without_objects_says_so(output, tmp_path, capsys, objects, said):
    images = ["a.png", "nowhere.png"]
    found, out = evaluated(capsys, output, coco(tmp_path / "t.json", objects, images), tmp_path / "e")
    assert said in out
    assert "only boxes" not in out
    assert found["all"]["mean_iou"] is None


def test_nothing_to_evaluate_says_what_is_the_matter(output, tmp_path, capsys):
    empty = coco(tmp_path / "empty.json", [], [])
    code, _, err = told(capsys, "evaluate", output, "--truth", empty, "-o", tmp_path / "e")
    assert (code, "lists no image" in err) == (2, True)
    broken = project(tmp_path / "p", keys=["a.png"])
    (tmp_path / "p" / "photos" / "a.png").write_bytes(b"no picture")
    path = coco(tmp_path / "t.json", [annotation(1, 0, THING)], ["a.png"])
    code, _, err = told(capsys, "evaluate", run(broken), "--truth", path, "-o", tmp_path / "e")
    assert code == 2
    assert "failed in the run: a.png" in err
    assert "failures.jsonl" in err
    assert not (tmp_path / "e").exists()
