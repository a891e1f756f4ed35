"""The programs that read our files, on our files: each brings the masks back with its own code.

Those that are not installed are skipped; `.ci/run` has them, but for ultralytics, which brings torch again, in an
environment of their own, since they bring an OpenCV of theirs. ultralytics is AGPL and labelme GPL: they
are used here, at test time, and nowhere else.
"""

import numpy as np
import pytest

from maskmill import Image, ImageRef, ImageResult, Mask, Point, Prompt, UsageError, testing, to_supervision
from maskmill_plugins.writers.coco import Coco
from maskmill_plugins.writers.labelme import Labelme
from maskmill_plugins.writers.voc import Voc
from maskmill_plugins.writers.yolo import Yolo

pytestmark = pytest.mark.filterwarnings("ignore")

HEIGHT, WIDTH = 240, 320
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]


def disc(y, x, radius):
    return (ROWS - y) ** 2 + (COLUMNS - x) ** 2 <= radius**2


SHAPES = {
    "ring": disc(60, 70, 45) & ~disc(60, 70, 20),
    "parts": disc(180, 60, 30) | disc(180, 150, 25),
    "disc": disc(100, 240, 60),
}
LABELS = ["猫", "dog", "猫"]


@pytest.fixture
def dataset(tmp_path):
    """Two images of three masks and one without, as (image, result)."""
    pairs = []
    for key in ("a.jpg", "b.jpg", "空.jpg"):
        testing.write_picture(tmp_path / "photos" / key, HEIGHT, WIDTH)
        image = Image.load(ImageRef(str(tmp_path / "photos" / key), key))
        masks = tuple(
            Mask.from_array(array, prompt=Prompt(points=(Point(1, 1),), label=label))
            for array, label in zip(SHAPES.values(), LABELS, strict=True)
        )
        masks = masks if key != "空.jpg" else ()
        status = "done" if masks else "empty"
        pairs.append((image, ImageResult(key, status, image.size, image.sha256, masks=masks)))
    return pairs


def write(writer, dataset, folder):
    for image, result in dataset:
        writer.write(image, result, folder)
    list(writer.finish((result for _, result in dataset), folder))
    return folder


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def check(masks, numbers, classes, at_least):
    """Each mask comes back with its label."""
    assert [classes[number] for number in numbers] == LABELS
    for found, expected in zip(masks, SHAPES.values(), strict=True):
        assert iou(np.asarray(found, bool), expected) >= at_least


def test_supervision_takes_results_as_detections(dataset):
    sv = pytest.importorskip("supervision")
    (_, result), _, (_, nothing) = dataset
    found = result.to_supervision(["dog", "猫"])
    assert isinstance(found, sv.Detections)
    check(found.mask, found.class_id, ["dog", "猫"], 1.0)
    assert (found.confidence, list(found.data["class_name"])) == (None, LABELS)
    assert found.xyxy.tolist() == [list(mask.box.xyxy) for mask in result.kept]
    assert list(found.area) == [mask.area for mask in result.kept]
    empty = nothing.to_supervision()
    assert (len(empty), empty.mask.shape) == (0, (0, HEIGHT, WIDTH))
    scored = to_supervision([*result.kept, Mask.from_array(SHAPES["disc"], score=0.5)])
    assert (np.isnan(scored.confidence).tolist(), scored.confidence[3]) == ([True, True, True, False], 0.5)
    assert scored.data["class_name"][3] == "object"
    with pytest.raises(UsageError, match="the label '猫' is not in classes; available: dog"):
        result.to_supervision(["dog"])
    sv.MaskAnnotator().annotate(np.zeros((HEIGHT, WIDTH, 3), np.uint8), found)


@pytest.mark.parametrize(("form", "at_least"), [("rle", 1.0), ("polygons", 0.75)])
def test_supervision_reads_coco(form, at_least, dataset, tmp_path):
    sv = pytest.importorskip("supervision")
    folder = write(Coco(format=form), dataset, tmp_path / "coco")
    found = sv.DetectionDataset.from_coco(str(tmp_path / "photos"), str(folder / "instances.json"), force_masks=True)
    assert len(found) == 3
    for path, _, detections in found:
        if "空" not in path:
            check(detections.mask, detections.class_id, found.classes, at_least)


def test_supervision_reads_yolo(dataset, tmp_path):
    sv = pytest.importorskip("supervision")
    folder = write(Yolo(val=0), dataset, tmp_path / "yolo")
    found = sv.DetectionDataset.from_yolo(
        str(folder / "images/train"), str(folder / "labels/train"), str(folder / "data.yaml"), force_masks=True
    )
    assert len(found) == 3
    for path, _, detections in found:
        if "空" in path:
            assert len(detections) == 0
        else:  # it takes corners for pixels: half a pixel more all round, and a line where a bridge is
            check(detections.mask, detections.class_id, found.classes, 0.93)


def test_supervision_reads_the_boxes_of_voc(dataset, tmp_path):
    sv = pytest.importorskip("supervision")
    folder = write(Voc(), dataset, tmp_path / "voc")
    found = sv.DetectionDataset.from_pascal_voc(str(tmp_path / "photos"), str(folder / "Annotations"))
    for path, _, detections in found:
        if "空" not in path:
            assert [found.classes[number] for number in detections.class_id] == LABELS
            expected = [mask.box.xyxy for mask in dataset[0][1].masks]
            assert np.array_equal(detections.xyxy, np.array(expected))


@pytest.mark.parametrize(("shapes", "at_least"), [("mask", 1.0), ("polygons", 0.75)])
def test_labelme_converts_its_own_files(shapes, at_least, dataset, tmp_path):
    pytest.importorskip("labelme")
    from labelme import _label_file, utils

    folder = write(Labelme(shapes=shapes), dataset, tmp_path / "labelme")
    for image, result in dataset:
        data = _label_file.read_label_file(str(folder / f"{image.ref.key[:-4]}.json"))
        assert data.image_data == image.ref.read()
        numbers = {"dog": 1, "猫": 2}
        of_class, objects = utils.shapes_to_label((HEIGHT, WIDTH, 3), data.shapes, numbers)
        assert objects.max() == len(result.masks)
        for number, (expected, label) in enumerate(zip(SHAPES.values(), LABELS, strict=True), start=1):
            if result.masks:
                assert iou(objects == number, expected) >= at_least
                assert set(of_class[objects == number]) == {numbers[label]}


def test_datumaro_reads_the_objects_and_classes_of_voc(dataset, tmp_path):
    datumaro = pytest.importorskip("datumaro")
    folder = write(Voc(val=0), dataset, tmp_path / "voc")
    found = datumaro.Dataset.import_from(str(folder), "voc_segmentation")
    items = {item.id: item for item in found}
    assert set(items) == {"a", "b", "空"}
    names = [label.name for label in found.categories()[datumaro.AnnotationType.label]]
    masks = [a for a in items["a"].annotations if a.type == datumaro.AnnotationType.mask]
    masks.sort(key=lambda mask: mask.attributes.get("id", mask.group))
    assert len(masks) == 3
    for expected, label in zip(SHAPES.values(), LABELS, strict=True):
        assert any(names[m.label] == label and np.array_equal(m.image.astype(bool), expected) for m in masks)


def test_datumaro_reads_coco(dataset, tmp_path):
    datumaro = pytest.importorskip("datumaro")
    folder = write(Coco(), dataset, tmp_path / "annotations")
    (tmp_path / "photos").rename(tmp_path / "images")  # where it looks for them
    found = datumaro.Dataset.import_from(str(folder / "instances.json"), "coco_instances")
    assert len(found) == 3
    kind = datumaro.AnnotationType.mask
    masks = [a for item in found for a in item.annotations if item.id == "a" and a.type == kind]
    for expected in SHAPES.values():
        assert any(np.array_equal(mask.image.astype(bool), expected) for mask in masks)


def test_ultralytics_loads_the_dataset(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    pytest.importorskip("ultralytics")
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset, polygon2mask

    folder = write(Yolo(val=0), dataset, tmp_path / "yolo")
    about = check_det_dataset(str(folder / "data.yaml"), autodownload=False)
    assert about["names"] == {0: "dog", 1: "猫"}
    loaded = YOLODataset(img_path=about["train"], data=about, task="segment", imgsz=320, augment=False)
    assert len(loaded.labels) == 3
    for label in loaded.labels:
        classes = [about["names"][int(number)] for number in label["cls"].ravel()]
        assert classes == ([] if "空" in label["im_file"] else LABELS)
        for segment, expected in zip(label["segments"], SHAPES.values(), strict=False):
            polygon = segment * (WIDTH, HEIGHT)
            assert iou(polygon2mask((HEIGHT, WIDTH), [polygon.reshape(-1)]).astype(bool), expected) >= 0.93


def test_ultralytics_takes_no_line_for_damaged(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    pytest.importorskip("ultralytics")
    from ultralytics.data.utils import img2label_paths, verify_image_label

    folder = write(Yolo(val=0), dataset, tmp_path / "yolo")
    for image in sorted((folder / "images").rglob("*.jpg")):
        (label,) = img2label_paths([str(image)])
        seen = verify_image_label((str(image), label, "", False, 2, 0, 0, False))
        missing, found, empty, corrupt, message = seen[5:]
        assert (missing, corrupt, message) == (0, 0, "")
        assert found + empty >= 1
