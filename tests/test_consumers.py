"""The programs that read our files, on our files: each brings the masks back with its own code.

Those that are not installed are skipped; `.ci/run` has them, but for ultralytics, which brings torch again, in an
environment of their own, since they bring an OpenCV of theirs. ultralytics is AGPL and labelme GPL: they
are used here, at test time, and nowhere else.
"""

import numpy as np
import PIL.Image
import pytest

from maskmill import Image, ImageRef, ImageResult, Mask, Point, Prompt, Run, UsageError, testing, to_supervision
from maskmill.output.ledger import Ledger
from maskmill.output.store import store_result
from maskmill.results import LedgerRow
from maskmill.stored.export import ExportRequest, export
from maskmill_plugins._shared.export.voc_files import name_class
from maskmill_plugins.writers.coco import Coco
from maskmill_plugins.writers.labelme import Labelme
from maskmill_plugins.writers.voc import Voc
from maskmill_plugins.writers.yolo import Yolo

pytestmark = pytest.mark.filterwarnings("ignore")

HEIGHT, WIDTH = 120, 160
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]


def disc(y, x, radius):
    return (ROWS - y) ** 2 + (COLUMNS - x) ** 2 <= radius**2


def block(y1, y2, x1, x2):
    array = np.zeros((HEIGHT, WIDTH), bool)
    array[y1:y2, x1:x2] = True
    return array


SHAPES = {
    "ring": disc(60, 45, 40) & ~disc(60, 45, 20),
    "parts": disc(90, 110, 20) | disc(100, 148, 9),
    "disc": disc(35, 120, 30),
    "corner": block(0, 1, 0, 1),
    "two pixels": block(118, 119, 5, 7),
    "touching": block(102, 108, 8, 16) | block(108, 116, 16, 30),
    "row": block(119, 120, 0, WIDTH),
}
LABELS = ["猫", "a:b", "a_b", "background", "x, y", 'it\'s "so"/🚗', "猫"]
KEYS = ["a.jpg", "sub/a.jpg", "images/b #1%.png", "turned.jpg", "空.jpg"]


@pytest.fixture
def dataset(tmp_path):
    """Images of masks that do not overlap, one of them turned by EXIF and one without masks, as (image, result)."""
    pairs = []
    for number, key in enumerate(KEYS):
        path = tmp_path / "photos" / key
        testing.write_picture(path, HEIGHT, WIDTH, number)
        if key == "turned.jpg":
            picture = PIL.Image.open(path).transpose(PIL.Image.Transpose.ROTATE_90)
            exif = picture.getexif()
            exif[274] = 6
            picture.save(path, exif=exif)
        image = Image.load(ImageRef(str(path), key))
        assert image.size == (HEIGHT, WIDTH)
        masks = tuple(
            Mask.from_array(array, prompt=Prompt(points=(Point(1, 1),), label=label))
            for array, label in zip(SHAPES.values(), LABELS, strict=True)
        )
        masks = masks if key != "空.jpg" else ()
        status = "done" if masks else "empty"
        pairs.append((image, ImageResult(key, status, image.size, image.sha256, masks=masks)))
    return pairs


def write(writer, dataset, folder):
    """The folder, written and then moved, so that nothing in it depends on its place."""
    writer.open()
    for image, result in dataset:
        writer.write(image, result, folder)
    list(writer.finish(iter(sorted((result for _, result in dataset), key=lambda result: result.key)), folder))
    return folder.rename(folder.with_name(f"{folder.name} moved"))


@pytest.fixture
def splits(tmp_path):
    """A list that puts two images into `val`."""
    rows = [f"{key},{'val' if key in KEYS[:2] else 'train'}" for key in KEYS]
    (tmp_path / "splits.csv").write_text("\n".join(["key,split", *rows]), encoding="utf-8")
    return tmp_path / "splits.csv"


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def check(masks, labels, at_least, but=()):
    """Each mask comes back with its label, as far as `at_least` says; the shapes in `but` may lose more."""
    assert list(labels) == LABELS
    for (name, expected), found in zip(SHAPES.items(), masks, strict=True):
        assert name in but or iou(np.asarray(found, bool), expected) >= at_least, name


def check_items(items, count_masks):
    """Every image and every mask is there once."""
    items = list(items)
    assert len(items) == len(KEYS)
    assert sum(map(count_masks, items)) == len(LABELS) * (len(KEYS) - 1)
    return items


def test_supervision_takes_results_as_detections(dataset):
    sv = pytest.importorskip("supervision")
    (_, result), (_, nothing) = dataset[0], dataset[-1]
    classes = sorted(set(LABELS))
    found = result.to_supervision(classes)
    assert isinstance(found, sv.Detections)
    check(found.mask, (classes[number] for number in found.class_id), 1.0)
    assert (found.confidence, list(found.data["class_name"])) == (None, LABELS)
    assert found.xyxy.tolist() == [list(mask.box.xyxy) for mask in result.kept]
    assert list(found.area) == [mask.area for mask in result.kept]
    empty = nothing.to_supervision()
    assert (len(empty), empty.mask.shape) == (0, (0, HEIGHT, WIDTH))
    scored = to_supervision([*result.kept, Mask.from_array(SHAPES["disc"], score=0.5)])
    assert np.isnan(scored.confidence).tolist() == [True] * len(LABELS) + [False]
    assert (scored.confidence[-1], scored.data["class_name"][-1]) == (0.5, "object")
    with pytest.raises(UsageError, match="the label '猫' is not in classes; available: dog"):
        result.to_supervision(["dog"])
    sv.MaskAnnotator().annotate(np.zeros((HEIGHT, WIDTH, 3), np.uint8), found)


@pytest.mark.parametrize(
    ("writer", "at_least", "but"),
    [
        (Coco(images="copy"), 1.0, ()),
        (Coco(images="copy", format="polygons", outline="centres"), 0.97, ()),
        # it fills through pixel centres: half a pixel more all round
        (Coco(images="copy", format="polygons"), 0.93, ("corner", "two pixels", "touching", "row")),
    ],
    ids=["rle", "centres", "edges"],
)
def test_supervision_reads_coco(writer, at_least, but, dataset, tmp_path):
    sv = pytest.importorskip("supervision")
    folder = write(writer, dataset, tmp_path / "coco")
    found = sv.DetectionDataset.from_coco(str(folder / "images"), str(folder / "instances.json"), force_masks=True)
    for path, _, detections in check_items(found, lambda item: len(item[2])):
        if "空" not in path:
            check(detections.mask, (found.classes[number] for number in detections.class_id), at_least, but)


def test_supervision_reads_the_layout_of_roboflow(dataset, splits, tmp_path):
    sv = pytest.importorskip("supervision")
    folder = write(Coco(layout="roboflow", images="upright", folders="flat", splits=splits), dataset, tmp_path / "coco")
    items = []
    for split in ("train", "valid"):
        assert {path.suffix for path in (folder / split).iterdir()} <= {".jpg", ".png", ".json"}
        found = sv.DetectionDataset.from_coco(
            str(folder / split), str(folder / split / "_annotations.coco.json"), force_masks=True
        )
        items += found
    for path, picture, detections in check_items(items, lambda item: len(item[2])):
        assert picture.shape[:2] == (HEIGHT, WIDTH)
        if "空" not in path:
            check(detections.mask, (found.classes[number] for number in detections.class_id), 1.0)


def test_supervision_reads_yolo(dataset, tmp_path):
    sv = pytest.importorskip("supervision")
    folder = write(Yolo(val=0, folders="flat"), dataset, tmp_path / "yolo")
    found = sv.DetectionDataset.from_yolo(
        str(folder / "images/train"), str(folder / "labels/train"), str(folder / "data.yaml"), force_masks=True
    )
    for path, _, detections in check_items(found, lambda item: len(item[2])):
        if "空" not in path:  # it draws the bridge between two parts
            labels = (found.classes[number] for number in detections.class_id)
            check(detections.mask, labels, 0.99, but=("parts",))


def test_supervision_reads_the_boxes_of_voc(dataset, tmp_path):
    sv = pytest.importorskip("supervision")
    folder = write(Voc(images="upright", folders="flat"), dataset, tmp_path / "voc")
    found = sv.DetectionDataset.from_pascal_voc(str(folder / "JPEGImages"), str(folder / "Annotations"))
    names = dict(zip(LABELS, map(name_class, LABELS), strict=True))
    for path, picture, detections in check_items(found, lambda item: len(item[2])):
        assert picture.shape[:2] == (HEIGHT, WIDTH)
        if "空" not in path:
            assert [found.classes[number] for number in detections.class_id] == [names[label] for label in LABELS]
            expected = [mask.box.xyxy for mask in dataset[0][1].masks]
            assert np.array_equal(detections.xyxy, np.array(expected))


@pytest.mark.parametrize(("shapes", "at_least"), [("mask", 1.0), ("polygons", 0.98)])
def test_labelme_converts_its_own_files(shapes, at_least, dataset, tmp_path):
    pytest.importorskip("labelme")
    from labelme import _label_file, utils

    folder = write(Labelme(shapes=shapes, images="copy"), dataset, tmp_path / "labelme")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(LABELS), start=1)}
    for image, result in dataset:
        data = _label_file.read_label_file(str(folder / f"{image.ref.key[:-4]}.json"))
        of_class, objects = utils.shapes_to_label((HEIGHT, WIDTH, 3), data.shapes, numbers)
        assert objects.max() == len(result.masks)
        if result.masks:
            found = [objects == number for number in range(1, len(LABELS) + 1)]
            check(found, LABELS, at_least, but=("ring",) if shapes == "polygons" else ())  # it has no holes
            for mask, label in zip(found, LABELS, strict=True):
                assert set(of_class[mask]) == {numbers[label]}


@pytest.mark.parametrize("kind", ["voc", "voc_detection", "voc_segmentation"])
def test_datumaro_reads_voc_each_image_once(kind, dataset, splits, tmp_path):
    datumaro = pytest.importorskip("datumaro")
    folder = write(Voc(images="copy", splits=splits), dataset, tmp_path / "voc")
    found = datumaro.Dataset.import_from(str(folder), kind)
    types = datumaro.AnnotationType
    wanted = types.bbox if kind == "voc_detection" else types.mask
    of_kind = lambda item: [each for each in item.annotations if each.type == wanted]  # noqa: E731
    items = check_items(found, lambda item: len(of_kind(item)))
    assert {item.id for item in items} == {key[:-4] for key in KEYS}
    assert set(found.subsets()) == {"train", "val"}
    names = [label.name for label in found.categories()[types.label]]
    for item in items:
        if kind == "voc_segmentation" and "空" not in item.id:
            masks = sorted(of_kind(item), key=lambda mask: mask.attributes.get("id", mask.group))
            got = {(names[mask.label], mask.image.astype(bool).tobytes()) for mask in masks}
            expected = zip(map(name_class, LABELS), (array.tobytes() for array in SHAPES.values()), strict=True)
            assert got == set(expected)


def test_datumaro_reads_coco_by_split(dataset, splits, tmp_path):
    datumaro = pytest.importorskip("datumaro")
    folder = write(Coco(layout="splits", images="upright", splits=splits), dataset, tmp_path / "coco")
    found = datumaro.Dataset.import_from(str(folder), "coco_instances")
    kind = datumaro.AnnotationType.mask
    of_kind = lambda item: [each for each in item.annotations if each.type == kind]  # noqa: E731
    names = [label.name for label in found.categories()[datumaro.AnnotationType.label]]
    for item in check_items(found, lambda item: len(of_kind(item))):
        assert item.media.data.shape[:2] == (HEIGHT, WIDTH)
        if masks := sorted(of_kind(item), key=lambda mask: mask.group):
            check([mask.image for mask in masks], [names[mask.label] for mask in masks], 1.0)


def test_datumaro_reads_the_boxes_of_yolo_each_image_once(dataset, tmp_path):
    datumaro = pytest.importorskip("datumaro")
    folder = write(Yolo(detect=True, val=0, no_val="omit", folders="flat"), dataset, tmp_path / "yolo")
    found = datumaro.Dataset.import_from(str(folder), "yolo")
    check_items(found, lambda item: len(item.annotations))


def test_sahi_slices_polygons_of_few_pixels_and_with_holes(dataset, tmp_path):
    pytest.importorskip("sahi")
    from sahi.slicing import slice_coco

    folder = write(Coco(format="polygons", images="upright"), dataset, tmp_path / "coco")
    place = {"image_dir": str(folder / "images"), "output_dir": str(tmp_path / "slices")}
    size = {"slice_height": 60, "slice_width": 80, "overlap_height_ratio": 0, "overlap_width_ratio": 0}
    file = str(folder / "instances.json")
    sliced, _ = slice_coco(file, output_coco_annotation_file_name="x", min_area_ratio=0, **place, **size)
    area = sum(annotation["area"] for annotation in sliced["annotations"])
    assert area == pytest.approx(sum(map(np.sum, SHAPES.values())) * (len(KEYS) - 1), rel=0.02)


def test_globox_reads_boxes(dataset, tmp_path):
    globox = pytest.importorskip("globox")
    coco = write(Coco(format="polygons"), dataset, tmp_path / "coco")
    voc = write(Voc(folders="flat"), dataset, tmp_path / "voc")
    read = globox.AnnotationSet
    for found in (read.from_coco(coco / "instances.json"), read.from_pascal_voc(voc / "Annotations")):
        check_items(found, lambda item: len(item.boxes))


def test_an_exported_folder_of_parquet_is_a_table(dataset, tmp_path):
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    dataset_of = pytest.importorskip("pyarrow.dataset").dataset
    output = tmp_path / "out"
    with Ledger.create(output) as ledger:
        for _, result in dataset:
            store_result(output, result)
            ledger.record(LedgerRow(result.key, result.status, "0/0/0/", 1, 1, 1, 0.1, 0))
    with Run(output) as run:
        folder = export(run, ExportRequest("parquet", folder=tmp_path / "table"), print).folder
    rows = len(LABELS) * (len(KEYS) - 1) + 1
    assert len(pandas.read_parquet(folder)) == len(polars.read_parquet(folder)) == rows
    assert dataset_of(folder).count_rows() == rows


@pytest.mark.parametrize(
    ("outline", "at_least", "but"),
    [("centres", 0.99, ("parts",)), ("edges", 0.93, ("corner", "two pixels", "touching", "row"))],
)
def test_ultralytics_loads_the_dataset(outline, at_least, but, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    pytest.importorskip("ultralytics")
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset, polygon2mask

    folder = write(Yolo(val=0, outline=outline), dataset, tmp_path / "yolo")
    about = check_det_dataset(str(folder / "data.yaml"), autodownload=False)
    assert about["names"] == dict(enumerate(sorted(set(LABELS))))
    loaded = YOLODataset(img_path=about["train"], data=about, task="segment", imgsz=160, augment=False)
    for label in check_items(loaded.labels, lambda label: len(label["cls"])):
        if len(label["cls"]):
            lines = [(segment * (WIDTH, HEIGHT)).reshape(-1) for segment in label["segments"]]
            masks = [polygon2mask((HEIGHT, WIDTH), [line]) for line in lines]
            check(masks, (about["names"][int(number)] for number in label["cls"].ravel()), at_least, but)


def test_ultralytics_takes_no_line_for_damaged(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    pytest.importorskip("ultralytics")
    from ultralytics.data.utils import img2label_paths, verify_image_label

    folder = write(Yolo(val=0), dataset, tmp_path / "yolo")
    for image in sorted(path for path in (folder / "images").rglob("*") if path.is_file()):
        (label,) = img2label_paths([str(image)])
        seen = verify_image_label((str(image), label, "", False, len(LABELS), 0, 0, False))
        missing, found, empty, corrupt, message = seen[5:]
        assert (missing, corrupt, message) == (0, 0, "")
        assert found + empty >= 1
