"""Ground truth in the panoptic format, in class maps and in CVAT's XML: made by hand, evaluated, and broken."""

import json

import numpy as np
import PIL.Image
import pytest
from stored_runs import project, run, told
from test_evaluate import CAT, SIZE, THING

from maskmill import Mask, PipelineError, Prompt
from maskmill_plugins.evaluation.evaluate.merge_regions import merge_regions
from maskmill_plugins.evaluation.truth import read_truth

HEIGHT, WIDTH = SIZE


def block(x, y, width, height):
    array = np.zeros(SIZE, bool)
    array[y : y + height, x : x + width] = True
    return array


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return run(project(tmp_path_factory.mktemp("真值"), keys=["a.png", "b/c.png"], writers="[{use: coco}]"))


def evaluated(capsys, output, truth, folder):
    code, out, err = told(capsys, "evaluate", output, "--truth", truth, "-o", folder)
    assert (code, err) == (0, "")
    return json.loads((folder / "evaluation.json").read_bytes()), out


# panoptic


def panoptic(folder, ids, segments, name="a.png", isthing=1):
    """A panoptic file of one image; gives its path."""
    colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    (folder / "panoptic").mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(colors).save(folder / "panoptic" / "x.png")
    content = {
        "images": [{"id": 5, "file_name": name, "height": HEIGHT, "width": WIDTH}],
        "annotations": [{"image_id": 5, "file_name": "x.png", "segments_info": segments}],
        "categories": [{"id": 1, "name": "thing", "isthing": 1}, {"id": 2, "name": "猫", "isthing": isthing}],
    }
    (folder / "panoptic.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "panoptic.json"


IDS = np.where(block(*THING), 70000, np.where(block(*CAT), 3, 0))
SEGMENTS = [{"id": 70000, "category_id": 1, "area": 1, "bbox": THING}, {"id": 3, "category_id": 2}]


def test_panoptic_segments_are_compared_with_masks(output, tmp_path, capsys):
    found, out = evaluated(capsys, output, panoptic(tmp_path, IDS, SEGMENTS), tmp_path / "e")
    hidden = 12 * 20  # of the cat, behind the thing
    assert found["all"]["objects"] == 2
    assert found["by_class"]["thing"]["mean_iou"] == 1
    assert found["by_class"]["猫"]["mean_iou"] == pytest.approx(1 - hidden / 1080)
    assert "tell" not in out


def test_a_crowd_of_panoptic_counts_neither_way_and_stuff_is_merged(tmp_path):
    segments = [{**SEGMENTS[0], "iscrowd": 1}, SEGMENTS[1]]
    truth = read_truth(panoptic(tmp_path, IDS, segments, isthing=0))
    assert [true.crowd for true in truth.images["a.png"].objects] == [True, False]
    assert truth.merged == {"猫"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 9}, r"annotations\[0\]\.segments_info\[0\]: no pixel of 'x.png' has the id 9"),
        ({"id": "9"}, "expected an object with a number as 'id'"),
        ({"category_id": 7}, "no category has the id 7"),
        ({"iscrowd": 5}, "iscrowd must be 0 or 1"),
    ],
)
def test_a_broken_segment_is_named(change, message, tmp_path):
    with pytest.raises(PipelineError, match=message):
        read_truth(panoptic(tmp_path, IDS, [{**SEGMENTS[0], **change}]))


def test_a_broken_panoptic_file_is_named(tmp_path):
    path = panoptic(tmp_path, IDS[:20], SEGMENTS)
    with pytest.raises(PipelineError, match=r"x\.png.*its size is 60×20, but its image's in 'panoptic.json' is 60×40"):
        read_truth(path)
    (tmp_path / "panoptic/x.png").write_bytes(b"no PNG")
    with pytest.raises(PipelineError, match=r"x\.png.*cannot be read"):
        read_truth(path)
    (tmp_path / "panoptic/x.png").unlink()
    (tmp_path / "panoptic").rmdir()
    with pytest.raises(PipelineError, match=r"the folder of its PNG files, '.*panoptic', does not exist"):
        read_truth(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    for entry, message in (({"image_id": 6}, "no image has the id 6"), ({"file_name": 3}, "expected an object with")):
        (tmp_path / "panoptic").mkdir(exist_ok=True)
        changed = {**content, "annotations": [{**content["annotations"][0], **entry}]}
        path.write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(PipelineError, match=message):
            read_truth(path)


# class maps


def class_map(folder, numbers, labels="background\nthing\n猫\n", name="masks/a.png", mode=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(numbers).convert(mode).save(path) if mode else PIL.Image.fromarray(numbers).save(path)
    (folder / "labels.txt").write_text(labels, encoding="utf-8")
    return folder


def test_all_masks_of_a_class_are_compared_with_its_region(tmp_path, capsys):
    more = "filters: [{use: class_map, map: {猫: thing}}]"
    output = run(project(tmp_path / "p", keys=["a.png"], writers="[]", more=more))
    numbers = (block(*THING) | block(*CAT)).astype(np.uint8)
    found, out = evaluated(capsys, output, class_map(tmp_path / "t", numbers), tmp_path / "e")
    assert (found["all"]["objects"], found["all"]["mean_iou"], found["all"]["extra_masks"]) == (1, 1, 0)
    assert found["coco"]["AP"] == pytest.approx(1)
    assert "does not tell the objects of 2 classes apart" in out


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("ann_dir/val/a.png", "background\nthing\n猫\n"),
        ("annotations/training/a.png", "thing\n猫"),
        ("labels/a.png", "thing\n猫\n"),
    ],
)
def test_layouts_of_class_maps_and_ignored_pixels(name, labels, tmp_path):
    numbers = np.where(block(*CAT), 2, np.where(block(*THING), 255, 0)).astype(np.uint8)
    truth = read_truth(class_map(tmp_path, numbers, labels, name))
    (image,) = truth.images.values()
    assert image.name == "a.png"
    assert [(true.label, true.area) for true in image.objects] == [("猫", 1080)]
    assert np.array_equal(Mask(SIZE, image.void).array, block(*THING) & ~block(*CAT))


def test_a_class_number_without_a_name_and_colours(tmp_path):
    truth = read_truth(class_map(tmp_path, np.full(SIZE, 9, np.uint16)))
    assert [true.label for true in truth.images["a.png"].objects] == ["class 9"]
    with pytest.raises(PipelineError, match=r"a\.png: expected an indexed PNG .*found colours"):
        read_truth(class_map(tmp_path, np.zeros(SIZE, np.uint8), mode="RGB"))


def test_the_merged_mask_is_the_union_with_the_best_score():
    masks = [
        Mask.from_array(array, score=score, prompt=Prompt(text=label, label=label))
        for array, score, label in [
            (block(0, 0, 5, 5), 0.2, "sky"),
            (block(9, 9, 5, 5), None, "cat"),
            (block(3, 3, 5, 5), 0.9, "sky"),
            (block(20, 9, 5, 5), 0.1, "cat"),
        ]
    ]
    sky, *cats = merge_regions(masks, {"sky"})
    assert cats == [masks[1], masks[3]]
    assert (sky.label, sky.score) == ("sky", 0.9)
    assert np.array_equal(sky.array, block(0, 0, 5, 5) | block(3, 3, 5, 5))


# CVAT


def cvat(folder, shapes, size='width="60" height="40"', root="annotations"):
    labels = "<meta><task><labels><label><name>猫</name></label></labels></task></meta>"
    text = f'<{root}>{labels}<image id="0" name="a.png" {size}>\n{shapes}</image></{root}>'
    folder.mkdir(exist_ok=True)
    (folder / "annotations.xml").write_text(text, encoding="utf-8")
    return folder / "annotations.xml"


BOX = '<box label="猫" xtl="24" ytl="10" xbr="60" ybr="40"/>'
SHAPES = f"""{BOX}
<polygon label="thing" group_id="3" points="0,0;18,0;18,30;0,30"/>
<polygon label="thing" group_id="3" points="18,0;36,0;36,30;18,30"/>
<mask label="thing" group_id="0" rle="1, 2, 1" left="58" top="38" width="2" height="2"/>
<box label="猫" xtl="0" ytl="0" xbr="9" ybr="9" rotation="45.0"/>
<polyline label="猫" points="0,0;5,5"/>
<tag label="猫"/>
"""


def test_shapes_of_cvat_are_compared_with_masks(output, tmp_path, capsys):
    found, out = evaluated(capsys, output, cvat(tmp_path / "t", SHAPES), tmp_path / "e")
    assert found["by_class"]["猫"]["mean_iou"] == 1
    assert found["all"]["objects"] == 3
    assert found["all"]["mean_iou"] == pytest.approx(2 / 3)
    assert "are skipped: 1 polyline, 1 rotated box" in out
    truth = read_truth(tmp_path / "t")  # the folder
    small = next(true for true in truth.images["a.png"].objects if true.area == 2)
    assert np.argwhere(truth.images["a.png"].mask(small).array).tolist() == [[38, 59], [39, 58]]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            '<mask label="a" rle="1, 2" left="0" top="0" width="2" height="2"/>',
            "its runs cover 3 pixels, but it has 2×2",
        ),
        ('<mask label="a" rle="4" left="59" top="0" width="2" height="2"/>', "not within the image of 60×40 pixels"),
        ('<mask label="a" rle="4" top="0" width="2" height="2"/>', "its attribute 'left' is missing"),
        ('<mask label="a" rle="x" left="0" top="0" width="2" height="2"/>', "line 2: invalid mask"),
        ('<polygon label="a" points="0,0;1,1"/>', "at least three points"),
        ('<polygon label="a" points="0,0;1,x;2,2"/>', "a coordinate must be a number, not 'x'"),
        ('<box label="a" xtl="0" ytl="0" xbr="nan" ybr="1"/>', "xbr must be a finite number"),
    ],
)
def test_a_broken_shape_of_cvat_is_named_with_its_line(shape, message, tmp_path):
    with pytest.raises(PipelineError, match=r"annotations\.xml.*line 2") as raised:
        read_truth(cvat(tmp_path, shape))
    assert message in str(raised.value)


def test_other_xml_is_refused(tmp_path):
    for shapes, more, message in (
        ("", {"root": "annotation"}, "not a CVAT file: its root is <annotation>"),
        ("", {"size": 'width="60"'}, "height must be a number, not ''"),
        (f"</image><track/><image name='b' width='1' height='1'>{BOX}", {}, "a video of CVAT; export the task as"),
        ("</image><image name='a.png' width='1' height='1'>", {}, "the file_name 'a.png' is used twice"),
    ):
        with pytest.raises(PipelineError, match=message):
            read_truth(cvat(tmp_path, shapes, **more))
