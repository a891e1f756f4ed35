"""labelstudio: tasks whose brush regions decode to the masks, by the format's own rule and by Label Studio's code."""

import json
import tracemalloc
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskmill import ImageResult, Mask, Point, Prompt
from maskmill.plugins.stage import collecting
from maskmill_plugins.writers.labelstudio import LabelStudio, encode_rle

HEIGHT, WIDTH = 50, 70
RNG = np.random.default_rng(0)
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
RING = ((ROWS - 25) ** 2 + (COLUMNS - 30) ** 2 < 400) & ((ROWS - 25) ** 2 + (COLUMNS - 30) ** 2 > 80)
SHAPES = {
    "ring": RING,
    "noise": RNG.random((HEIGHT, WIDTH)) > 0.5,
    "nothing": np.zeros((HEIGHT, WIDTH), bool),
    "everything": np.ones((HEIGHT, WIDTH), bool),
    "one pixel": (ROWS == 3) & (COLUMNS == 4),
    "longer than a run may be": np.ones((300, 400), bool),
    "exactly one longest run": np.ones((128, 128), bool),
}


def decoded(data):
    """The decoder of thi.ng's rle-pack, bit by bit, as its source describes it."""
    bits = "".join(f"{byte:08b}" for byte in data)
    place = 0

    def read(count):
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out = []
    while len(out) < total:
        run = read(1)
        length = read(sizes[read(2)]) + 1
        out += [read(word)] * length if run else [read(word) for _ in range(length)]
    return np.array(out, np.uint8)


every_shape = pytest.mark.parametrize("array", SHAPES.values(), ids=SHAPES.keys())


@every_shape
def test_a_brush_decodes_to_every_pixel_in_all_four_channels(array):
    channels = decoded(encode_rle(array)).reshape(*array.shape, 4)
    assert np.array_equal(channels, np.repeat(array[:, :, None], 4, axis=2) * np.uint8(255))


@every_shape
def test_label_studio_decodes_it_too(array):
    brush = pytest.importorskip("label_studio_converter.brush")
    alpha = np.reshape(brush.decode_rle(encode_rle(array)), (*array.shape, 4))[:, :, 3]
    assert np.array_equal(alpha > 0, array)


def result(key, *pairs, **more):
    prompts = [(array, Prompt(points=(Point(1, 1),), label=label)) for array, label in pairs]
    masks = tuple(Mask.from_array(array, score=0.5, prompt=prompt) for array, prompt in prompts)
    return ImageResult(key, "done" if masks else "empty", (HEIGHT, WIDTH), masks=masks, **more)


def written(folder, results, **options):
    tasks, config = LabelStudio(**options).finish(iter(results), folder)
    assert sorted(path.name for path in folder.iterdir()) == [config.path, tasks.path] == ["config.xml", "tasks.json"]
    return json.loads((folder / tasks.path).read_bytes()), ElementTree.parse(folder / config.path).getroot()


@pytest.mark.parametrize("kind", ["predictions", "annotations"])
def test_tasks_and_interface_fit_together(kind, tmp_path):
    results = [
        result("照片/a 1.jpg", (RING, "猫"), (SHAPES["noise"], None), provenance={"model": "vit_b"}),
        result("b.jpg"),
        result("\udce9.jpg", (RING, '"<&'), (SHAPES["nothing"], "ghost")),
    ]
    tasks, config = written(tmp_path, results, kind=kind)
    assert [task["data"]["key"] for task in tasks] == [each.key for each in results]
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=%E7%85%A7%E7%89%87/a%201.jpg"
    assert tasks[2]["data"]["image"].endswith("?d=%E9.jpg")
    regions = [task[kind][0]["result"] for task in tasks]
    assert [len(each) for each in regions] == [2, 0, 1]
    assert np.array_equal(decoded(regions[0][0]["value"]["rle"])[::4].reshape(HEIGHT, WIDTH) > 0, RING)
    brush, picture = config.find("BrushLabels"), config.find("Image")
    known = {label.get("value") for label in brush}
    for region in (region for each in regions for region in each):
        assert (region["from_name"], region["to_name"]) == (brush.get("name"), picture.get("name"))
        assert set(region["value"]["brushlabels"]) <= known
        assert (region["original_width"], region["original_height"]) == (WIDTH, HEIGHT)
    assert ("model_version" in tasks[0][kind][0]) == (kind == "predictions")


def test_polygons_enclose_the_masks_and_a_prediction_has_the_mean_score(tmp_path):
    parts = (ROWS < 9) & (COLUMNS < 9) | (ROWS > 40) & (COLUMNS > 50)
    each = result("a.jpg", (RING, "猫"), (parts, None))
    each = replace(each, masks=(replace(each.masks[0], score=0.25), replace(each.masks[1], score=0.75)))
    notes = {}
    with collecting(notes):
        LabelStudio(shapes="polygons", tolerance=0).write(None, each, tmp_path)
    assert notes["iou"] == {"mean": 1.0, "min": 1.0, "masks": 2}
    ((task,), config) = written(tmp_path, [each], shapes="polygons", tolerance=0)
    (prediction,) = task["predictions"]
    assert prediction["score"] == (0.25 + 0.75 + 0.75) / 3
    regions = prediction["result"]
    assert [region["id"] for region in regions] == ["mask-0-0", "mask-1-0", "mask-1-1"]
    assert {region["type"] for region in regions} == {"polygonlabels"}
    assert [region["value"]["polygonlabels"] for region in regions] == [["猫"], ["object"], ["object"]]
    assert {label.get("value") for label in config.find("PolygonLabels")} == {"猫", "object"}
    lines = [(np.array(region["value"]["points"]) * (WIDTH, HEIGHT) / 100).ravel().tolist() for region in regions]
    for found, array in ((lines[:1], RING), (lines[1:], parts)):
        filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(found, HEIGHT, WIDTH)))
        assert np.array_equal(filled, array)


def test_a_dataset_without_images_is_an_empty_list(tmp_path):
    tasks, config = written(tmp_path, [])
    assert tasks == []
    assert config.find("BrushLabels") is not None


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    def peak(count):
        tracemalloc.start()
        LabelStudio().finish((result(f"{n}.jpg", (RING, "猫")) for n in range(count)), tmp_path)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(5)
    assert peak(200) - peak(20) < 50_000
