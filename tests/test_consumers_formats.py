"""More programs that read our files: panoptic, CVAT, Hugging Face, FiftyOne, Label Studio's polygons, semantic PNGs."""

import cv2
import numpy as np
import pytest
from test_consumers import (  # noqa: F401 - fixtures
    HEIGHT,
    KEYS,
    LABELS,
    SHAPES,
    WIDTH,
    check,
    check_items,
    dataset,
    splits,
    write,
)

from maskmill_plugins.writers.cvat import Cvat
from maskmill_plugins.writers.fiftyone import FiftyOne
from maskmill_plugins.writers.huggingface import HuggingFace
from maskmill_plugins.writers.panoptic import Panoptic
from maskmill_plugins.writers.semantic import Semantic

pytestmark = pytest.mark.filterwarnings("ignore")


def count_masks(item):
    return len(item.annotations)


def test_datumaro_reads_panoptic(dataset, splits, tmp_path):  # noqa: F811
    datumaro = pytest.importorskip("datumaro")
    folder = write(Panoptic(images="upright", splits=splits), dataset, tmp_path / "panoptic")
    found = datumaro.Dataset.import_from(str(folder), "coco_panoptic")
    names = [label.name for label in found.categories()[datumaro.AnnotationType.label]]
    for item in check_items(found, count_masks):
        assert item.media.data.shape[:2] == (HEIGHT, WIDTH)
        if masks := sorted(item.annotations, key=lambda mask: mask.id):
            check([mask.image for mask in masks], [names[mask.label] for mask in masks], 1.0)


@pytest.mark.parametrize("shapes", ["mask", "polygons"])
def test_datumaro_reads_cvat(shapes, dataset, tmp_path):  # noqa: F811
    datumaro = pytest.importorskip("datumaro")
    folder = write(Cvat(shapes=shapes, images="upright"), dataset, tmp_path / "cvat")
    found = datumaro.Dataset.import_from(str(folder), "cvat")
    names = [label.name for label in found.categories()[datumaro.AnnotationType.label]]
    assert len(found) == len(KEYS)
    for item in found:
        assert item.media.data.shape[:2] == (HEIGHT, WIDTH)
        if shapes == "mask" and item.annotations:
            check([mask.image for mask in item.annotations], [names[mask.label] for mask in item.annotations], 1.0)
        elif item.annotations:  # two parts are two polygons of one group, so are two that touch at a corner
            assert len(item.annotations) == len(LABELS) + 2
            assert [names[each.label] for each in item.annotations if not each.group] == [
                label for label, shape in zip(LABELS, SHAPES, strict=True) if shape not in ("parts", "touching")
            ]
            area = sum(each.get_area() for each in item.annotations)
            assert area == pytest.approx(sum(map(np.sum, SHAPES.values())), rel=0.02)


def test_datasets_loads_the_folder_for_hugging_face(dataset, splits, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    load = pytest.importorskip("datasets.load")  # `datasets` alone is also a folder of ours
    folder = write(HuggingFace(splits=splits), dataset, tmp_path / "hf")
    cache = str(tmp_path / "cache")
    load.load_dataset(str(folder), cache_dir=cache)
    (tmp_path / "again").mkdir()
    folder = folder.rename(tmp_path / "again" / folder.name)
    found = load.load_dataset(str(folder), cache_dir=cache)  # the cache knows that it is another place
    assert {name: len(rows) for name, rows in found.items()} == {"train": 3, "validation": 2}
    classes = found["train"].features["objects"]["category"].feature
    for row in check_items([*found["train"], *found["validation"]], lambda row: len(row["objects"]["category"])):
        assert row["image"].size == row["mask"].size == (WIDTH, HEIGHT)
        if row["key"] != "空.jpg":
            numbers = np.asarray(row["mask"])
            labels = [classes.int2str(number) for number in row["objects"]["category"]]
            check([numbers == number for number in range(1, len(LABELS) + 1)], labels, 1.0)


def test_fiftyone_imports_its_directory(dataset, splits, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("fiftyone")
    from fiftyone.utils.data.importers import FiftyOneDatasetImporter, _handle_legacy_formats

    folder = write(FiftyOne(splits=splits, images="upright"), dataset, tmp_path / "fiftyone")
    with _handle_legacy_formats(FiftyOneDatasetImporter(str(folder))) as samples:
        for sample in check_items(samples, lambda sample: len(sample.segmentations.detections)):
            assert cv2.imdecode(np.fromfile(sample.filepath, np.uint8), -1).shape[:2] == (HEIGHT, WIDTH)
            if found := sample.segmentations.detections:
                masks = [each.to_segmentation(frame_size=(WIDTH, HEIGHT)).mask for each in found]
                check([mask > 0 for mask in masks], [each.label for each in found], 1.0)


def test_opencv_reads_the_class_numbers(dataset, tmp_path):  # noqa: F811
    folder = write(Semantic(), dataset, tmp_path / "semantic")
    names = (folder / "labels.txt").read_text(encoding="utf-8").splitlines()
    for key in KEYS[:-1]:
        path = folder / "masks" / f"{key[:-4]}.png"
        numbers = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE)
        for label in set(LABELS):
            expected = np.any([array for array, name in zip(SHAPES.values(), LABELS, strict=True) if name == label], 0)
            name = next(each for each in names[1:] if each.partition("~")[0] == label)
            assert np.array_equal(numbers == names.index(name), expected)
