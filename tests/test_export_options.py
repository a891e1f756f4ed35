"""What the dataset writers share: images beside the annotations, splits, names without folders, outlines."""

import csv
import io
import itertools
import json

import numpy as np
import PIL.Image
import pytest
from test_dataset_writers import HEIGHT, SHAPES, WIDTH, block, disc, files, mask, result, written

from maskmill import Image, ImageError, ImageRef, Mask, OutputError, PipelineError, testing
from maskmill_plugins._shared.drawing.outlines import has_crossings
from maskmill_plugins._shared.drawing.polygons import polygon_iou, to_parts, to_polygons
from maskmill_plugins._shared.export.file_names import image_path, name_class_file, stem_path
from maskmill_plugins._shared.export.splits import read_splits
from maskmill_plugins.writers.coco import Coco
from maskmill_plugins.writers.labelme import Labelme
from maskmill_plugins.writers.voc import Voc
from maskmill_plugins.writers.yolo import Yolo

# polygons

TOUCHING = block(10, 20, 10, 20) | block(20, 35, 20, 40)
RAGGED = np.random.default_rng(3).random((HEIGHT, WIDTH)) > 0.45
ODD_SHAPES = {
    **SHAPES,
    "corner": block(0, 1, 0, 1),
    "two pixels": block(3, 4, 5, 7),
    "two pixels, diagonal": block(3, 4, 5, 6) | block(4, 5, 6, 7),
    "touching": TOUCHING,
    "touching three": TOUCHING | block(35, 40, 40, 60),
    "hole that touches": block(5, 40, 5, 60) & ~block(10, 20, 10, 20) & ~block(20, 30, 20, 30),
    "hole at the corner": block(5, 40, 5, 60) & ~block(5, 6, 5, 6) & ~block(6, 20, 6, 20),
    "island at a corner of its hole": (block(5, 45, 5, 60) & ~block(10, 40, 10, 50)) | block(10, 20, 10, 20),
    "ragged": RAGGED,
}


@pytest.mark.parametrize("tolerance", [0, 0.75, 5])
@pytest.mark.parametrize("outline", ["edges", "centres"])
@pytest.mark.parametrize("array", ODD_SHAPES.values(), ids=ODD_SHAPES.keys())
def test_a_ring_touches_itself_nowhere_and_rings_give_the_mask_back(array, outline, tolerance):
    parts = to_parts(Mask.from_array(array), tolerance, outline)
    for ring in itertools.chain.from_iterable(parts):
        assert len(ring) >= 3
        assert len(np.unique(ring, axis=0)) == len(ring)
        assert not has_crossings(ring)
        assert ring.min() >= 0
        assert np.all(ring.max(axis=0) <= (WIDTH, HEIGHT))
    lines = to_polygons(Mask.from_array(array), tolerance, outline, holes="bridge")
    iou = polygon_iou(Mask.from_array(array), lines, outline)
    # OpenCV also draws the bridges, which in a very ragged mask may touch a pixel of the background
    assert iou == 1.0 if tolerance == 0 and (outline == "edges" or array is not RAGGED) else iou > 0.85


@pytest.mark.parametrize("name", ["one pixel", "corner", "two pixels", "two pixels, diagonal", "thin row", "touching"])
@pytest.mark.parametrize("tolerance", [0, 0.75])
def test_the_area_of_a_small_polygon_is_that_of_its_pixels(name, tolerance):
    array = ODD_SHAPES[name]
    lines = [np.reshape(line, (-1, 2)) for line in to_polygons(Mask.from_array(array), tolerance)]
    areas = [np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)) for x, y in (line.T for line in lines)]
    assert np.abs(areas).sum() / 2 == pytest.approx(array.sum(), rel=0.02)


def test_parts_that_touch_at_a_corner_are_two_rings():
    assert sorted(len(part) for part in to_parts(Mask.from_array(TOUCHING), 0)) == [1, 1]
    ((outer, hole),) = to_parts(Mask.from_array(disc(30, 40, 20) & ~disc(30, 40, 8)))
    assert np.ptp(outer) > np.ptp(hole)


# images beside the annotations


def photo(path, turned=False, kind="RGB"):
    """A picture that is HEIGHT × WIDTH when upright."""
    pixels = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(pixels).convert(kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    if turned:
        picture = picture.transpose(PIL.Image.Transpose.ROTATE_90)
        exif = picture.getexif()
        exif[274] = 6
        picture.save(path, exif=exif)
    else:
        picture.save(path)
    return Image.load(ImageRef(str(path), path.name))


PLACES = {
    "coco": (Coco, "images/{}"),
    "coco-splits": (lambda **options: Coco(layout="splits", val=0, **options), "images/train/{}"),
    "coco-roboflow": (lambda **options: Coco(layout="roboflow", val=0, **options), "train/{}"),
    "voc": (Voc, "JPEGImages/{}"),
    "labelme": (Labelme, "{}"),
    "yolo": (lambda **options: Yolo(val=0, **options), "images/train/{}"),
}


@pytest.mark.parametrize("name", PLACES)
def test_images_can_be_copied_linked_and_turned_upright(name, tmp_path):
    make, place = PLACES[name]
    image = photo(tmp_path / "t.jpg", turned=True)
    assert image.size == (HEIGHT, WIDTH)
    for how in ("copy", "link", "upright"):
        artifacts = make(images=how).write(image, result("t.jpg", mask(block(1, 9, 1, 9))), tmp_path / how)
        path = tmp_path / how / place.format("t.jpg")
        assert place.format("t.jpg") in {artifact.path for artifact in artifacts}
        assert path.samefile(tmp_path / "t.jpg") == (how == "link")
        same = path.read_bytes() == (tmp_path / "t.jpg").read_bytes()
        assert same == (how != "upright")
        if how == "upright":
            with PIL.Image.open(path) as opened:
                assert (opened.size, opened.getexif().get(274)) == ((WIDTH, HEIGHT), None)
                assert np.abs(np.asarray(opened).astype(int) - image.pixels).mean() < 12
    made = make(images="none").write(image, result("t.jpg", mask(block(1, 9, 1, 9))), tmp_path / "none")
    assert not any(artifact.path.endswith(".jpg") for artifact in made)


@pytest.mark.parametrize(
    ("key", "kind", "path"),
    [("a.png", "RGB", "a.png"), ("a.gif", "P", "a_gif.png"), ("a.tif", "RGB", "a_tif.png"), ("a.bmp", "RGB", "a.bmp")],
)
def test_upright_copies_what_every_reader_opens_and_converts_the_rest(key, kind, path, tmp_path):
    image = photo(tmp_path / key, kind=kind)
    (artifact,) = Coco(images="upright").write(image, result(key), tmp_path / "out")
    assert artifact.path == f"images/{path}"
    data = (tmp_path / "out" / artifact.path).read_bytes()
    assert (data == (tmp_path / key).read_bytes()) == (key == path)
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB")), image.pixels)
    Coco(images="upright").finish(iter([result(key)]), tmp_path / "out")
    content = json.loads((tmp_path / "out/instances.json").read_text(encoding="ascii"))
    assert [entry["file_name"] for entry in content["images"]] == [path]


@pytest.mark.parametrize("name", PLACES)
def test_an_image_that_changed_since_its_masks_were_made_is_not_copied(name, tmp_path):
    image = photo(tmp_path / "a.png")
    testing.write_picture(tmp_path / "a.png", HEIGHT, WIDTH, 9)
    with pytest.raises(ImageError, match="has changed since its masks were made"):
        PLACES[name][0](images="copy").write(image, result("a.png"), tmp_path / "out")


def test_labelme_finds_the_copy_beside_its_file(tmp_path):
    folder, *_ = written(Labelme(images="copy"), tmp_path, [result("sub/a.jpg"), result("sub/deep/a.png")])
    assert files(folder) == ["images.csv", "sub/a.jpg", "sub/a.json", "sub/deep/a.json", "sub/deep/a.png"]
    assert json.loads((folder / "sub/deep/a.json").read_text(encoding="utf-8"))["imagePath"] == "a.png"


# splits

RESULTS = [
    result(key, *([mask(SHAPES["hole"], "猫")] if key != "c.jpg" else []))
    for key in ("a.jpg", "sub/b.jpg", "c.jpg", "d.jpg")
]
LISTED = "\ufeffkey,split\nsub/b.jpg,val\nc.jpg,test\nno such.jpg,val\n"


def split_files(folder):
    return {path for path in files(folder) if path.endswith(".json")}


@pytest.mark.parametrize(
    ("layout", "pattern", "names"),
    [
        ("splits", "annotations/instances_{}.json", ("train", "val", "test")),
        ("roboflow", "{}/_annotations.coco.json", ("train", "valid", "test")),
    ],
)
def test_coco_by_split_has_one_file_for_each_with_the_same_categories(layout, pattern, names, tmp_path):
    (tmp_path / "splits.csv").write_text(LISTED, encoding="utf-8")
    options = {"layout": layout, "splits": tmp_path / "splits.csv", "val": 0, "images": "copy"}
    folder, _, artifacts = written(Coco(**options), tmp_path, RESULTS)
    assert sorted(artifact.path for artifact in artifacts) == files(folder)
    found = [json.loads((folder / pattern.format(name)).read_text(encoding="ascii")) for name in names]
    keys = [[image["file_name"] for image in content["images"]] for content in found]
    assert keys == [["a.jpg", "d.jpg"], ["sub/b.jpg"], ["c.jpg"]]
    assert all(content["categories"] == found[0]["categories"] for content in found)
    ids = [annotation["id"] for content in found for annotation in content["annotations"]]
    assert sorted(ids) == [1, 2, 3]
    for content in found:
        known = {image["id"] for image in content["images"]}
        assert {annotation["image_id"] for annotation in content["annotations"]} <= known
    written(Coco(), tmp_path, RESULTS)  # another layout in the same folder
    assert split_files(folder) == {"instances.json"}


@pytest.mark.parametrize("writer", [Yolo, Voc, Coco])
def test_a_list_decides_the_split_and_the_hash_that_of_the_others(writer, tmp_path):
    (tmp_path / "splits.csv").write_text(LISTED, encoding="utf-8")
    more = {"layout": "splits", "images": "copy"} if writer is Coco else {}
    made = writer(splits=tmp_path / "splits.csv", val=0, **more)
    assert made.check() == []
    folder, *_ = written(made, tmp_path, RESULTS)
    rows = csv.DictReader((folder / "images.csv").read_text(encoding="utf-8-sig").splitlines())
    assert {row["key"]: row["split"] for row in rows} == {
        "a.jpg": "train",
        "c.jpg": "test",
        "d.jpg": "train",
        "sub/b.jpg": "val",
    }
    before = made.digest()
    (tmp_path / "splits.csv").write_text("key,split\n", encoding="utf-8")
    assert made.digest() != before
    assert read_splits(folder / "images.csv")["sub/b.jpg"] == "val"  # the table of an export is such a list


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,split\na.jpg,val\n", "1: the first line lacks the column 'key'"),
        ("key,split\na.jpg,valid\n", "2: the split of 'a.jpg' is 'valid'; expected train, val or test"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_list_of_splits_that_cannot_be_used_is_named_before_the_run(text, message, tmp_path):
    path = tmp_path / "splits.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    for writer in (Yolo(splits=path), Voc(splits=path), Coco(layout="splits", splits=path)):
        (problem,) = writer.check()
        assert message in str(problem)
        with pytest.raises(PipelineError):
            read_splits(path)
    assert "has no effect" in str(Coco(splits=path).check()[-1])


def test_voc_lists_each_image_once_unless_trainval_is_wanted(tmp_path):
    (tmp_path / "splits.csv").write_text(LISTED, encoding="utf-8")
    folder, *_ = written(Voc(splits=tmp_path / "splits.csv", val=0, trainval=True), tmp_path, RESULTS)
    for name in ("Main", "Segmentation"):
        sets = {path.stem: path.read_text(encoding="utf-8").split() for path in (folder / "ImageSets" / name).iterdir()}
        assert sets == {"train": ["a", "d"], "val": ["sub/b"], "test": ["c"], "trainval": ["a", "d", "sub/b"]}
    folder, *_ = written(Voc(val=0), tmp_path, RESULTS)
    assert [path for path in files(folder) if path.startswith("ImageSets")] == [
        "ImageSets/Main/train.txt",
        "ImageSets/Segmentation/train.txt",
    ]


def test_voc_refuses_300_classes_where_coco_and_yolo_take_them(tmp_path):
    many = [result(f"{n}.jpg", *[mask(SHAPES["one pixel"], f"{n}-{m}") for m in range(100)]) for n in range(3)]
    with pytest.raises(OutputError, match="at most 254 classes, not 300; merge some with class_map"):
        written(Voc(), tmp_path, many)
    list(Yolo(images="none").finish(iter(many), tmp_path / "yolo"))
    assert "299: 2-99" in (tmp_path / "yolo/data.yaml").read_text(encoding="utf-8")
    Coco().finish(iter(many), tmp_path / "coco")
    assert len(json.loads((tmp_path / "coco/instances.json").read_text(encoding="ascii"))["categories"]) == 300


# names


def test_names_without_folders_are_never_shared():
    keys = ["a.jpg", "sub/a.jpg", "sub__a.jpg", "sub/a__b.jpg", "sub__a/b.jpg", "sub/a/b.jpg", "a_/b.jpg", "a/_b.jpg"]
    for names in (
        [stem_path(key, folders="flat") for key in keys],
        [image_path(key, "flat") for key in keys],
        [name_class_file(key, 0, "cat", ".png") for key in keys],
    ):
        assert len(set(names)) == len(keys)
        assert {name.count("/") for name in names} in ({0}, {1})
    assert stem_path("sub/a.jpg", folders="flat") == "sub__a"
    assert image_path("sub/车 1.jpg", "flat") == "sub__车 1.jpg"
    assert image_path("sub/.jpg") == "sub/.jpg"
    for folders in ("nested", "flat"):  # a name that has to be changed still ends like a picture
        assert image_path("sub/a\x01.jpg", folders).endswith(".jpg")


@pytest.mark.parametrize("writer", [Yolo(folders="flat"), Voc(folders="flat", images="copy"), Labelme(folders="flat")])
def test_flat_datasets_have_no_subfolders(writer, tmp_path):
    folder, *_ = written(writer, tmp_path, RESULTS)
    assert any("sub__b" in path for path in files(folder))
    assert not any("/sub" in path.replace("/sub__b", "") for path in files(folder))


@pytest.mark.parametrize(("writer", "kept"), [(Yolo(val=0), False), (Voc(), True), (Labelme(), True)])
def test_a_folder_called_images_keeps_its_name_unless_the_format_needs_it(writer, kept, tmp_path):
    folder, *_ = written(writer, tmp_path, [result("x/images/c.jpg")])
    assert any("x/images/c." in path for path in files(folder)) == kept
