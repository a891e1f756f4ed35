"""`masks: keep` of the source `file` with `backend: none`: existing masks run through a pipeline without a model."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from stored_runs import files, told

from maskmill import Image, ImageRef, Mask, Pipeline, PromptError, Run, testing
from maskmill.masks import iou
from maskmill_plugins.prompts.file import File

HEIGHT, WIDTH = 48, 64
KEY = "sub/猫.png"


def drawn(*rectangles: tuple[int, int, int, int], hole: tuple[int, int, int, int] | None = None) -> Mask:
    """The mask of rectangles x1, y1, x2, y2, without a hole."""
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    for x1, y1, x2, y2 in rectangles:
        pixels[y1:y2, x1:x2] = True
    if hole is not None:
        pixels[hole[1] : hole[3], hole[0] : hole[2]] = False
    return Mask.from_array(pixels)


#: Of one part, of two parts, with a hole; the last two overlap.
MASKS = [drawn((2, 3, 20, 17)), drawn((30, 2, 40, 9), (44, 5, 60, 30)), drawn((24, 20, 50, 44), hole=(30, 25, 41, 38))]
APART = MASKS[:2]


def line(masks: list[Mask]) -> str:
    prompts = [
        {"mask": {"size": mask.size, "counts": mask.counts, "score": 0.5, "stability": 0.75}, "label": f"类 {number}"}
        for number, mask in enumerate(masks)
    ]
    return json.dumps({"image": KEY, "prompts": prompts})


def run(folder: Path, path: Path, output: str, **options) -> Path:
    """Run a pipeline without a model; returns the output folder."""
    testing.write_picture(folder / "photos" / KEY, HEIGHT, WIDTH)
    document = {
        "dataset": "photos",
        "prompts": [{"use": "file", "path": str(path), **options}],
        "backend": "none",
        "writers": ["coco"],
        "output": output,
        "run": {"engine": "inline"},
    }
    (folder / "p.yaml").write_text(json.dumps(document), encoding="utf-8")
    Pipeline.load(folder / "p.yaml").run(quiet=True)
    return folder / output


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run whose masks are `MASKS`, and one with those that do not overlap and have no holes."""
    folder = tmp_path_factory.mktemp("已有")
    for name, masks in (("all", MASKS), ("apart", APART)):
        (folder / f"{name}.jsonl").write_text(line(masks), encoding="utf-8")
        run(folder, folder / f"{name}.jsonl", name)
    return folder


def image(tmp_path: Path, key: str = KEY) -> Image:
    testing.write_picture(tmp_path / "images" / key, HEIGHT, WIDTH)
    return Image.load(ImageRef(str(tmp_path / "images" / key), key))


def kept(source: File, picture: Image) -> list[Mask]:
    """The masks of the prompts, all of which must have one."""
    return [Mask(prompt.mask.size, prompt.mask.counts, prompt=prompt) for prompt in source.prompts(picture)]


EXPORTS = {
    "coco": ("all", "coco", [], 1),
    "coco-polygons": ("all", "coco", ["format=polygons", "tolerance=0"], 1),
    "labelme-masks": ("all", "labelme", ["shapes=mask"], 1),
    "labelme-polygons": ("apart", "labelme", ["tolerance=0"], 1),
    "yolo": ("all", "yolo", ["tolerance=0"], 0.99),  # one line through all parts and holes
    "voc": ("apart", "voc", [], 1),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_gives_its_masks_back(name, stored, tmp_path, capsys):
    which, writer, options, least = EXPORTS[name]
    sets = [part for option in options for part in ("--set", option)]
    assert told(capsys, "export", stored / which, "--to", writer, "-o", tmp_path / "e", "-q", *sets)[0] == 0
    source = File(path=tmp_path / "e", masks="keep")
    assert source.check() == []
    masks = MASKS if which == "all" else APART
    found = kept(source, image(tmp_path))
    assert [mask.label for mask in found] == [f"类 {number}" for number in range(len(masks))]
    assert all(mask.prompt.box is not None for mask in found)
    assert np.diag(iou(found, masks)).min() >= least


def test_kept_masks_are_exported_again_byte_by_byte_and_agree_with_their_source(stored, tmp_path, capsys):
    again = run(tmp_path, stored / "all/coco/instances.json", "again", masks="keep")
    assert files(again / "coco") == files(stored / "all/coco")
    (result,) = Run(again).results()
    assert [(mask.counts, mask.score, mask.stability) for mask in result.kept] == [
        (mask.counts, 0.5, 0.75) for mask in MASKS
    ]
    rows = (again / "prompts.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    assert [",mask,0," in row or ",mask,1," in row or ",mask,2," in row for row in rows] == [True] * 3
    truth = stored / "all/coco/instances.json"
    assert told(capsys, "evaluate", again, "--truth", truth, "-o", tmp_path / "e")[0] == 0
    measured = json.loads((tmp_path / "e/evaluation.json").read_bytes())["all"]
    assert (measured["objects"], measured["mean_iou"], measured["matched_by"]["id"]) == (3, 1.0, 3)


def coco(folder: Path, *annotations: dict) -> Path:
    entries = [
        {"id": number, "image_id": 1, "category_id": 1, **fields} for number, fields in enumerate(annotations, start=1)
    ]
    document = {
        "images": [{"id": 1, "file_name": KEY, "height": HEIGHT, "width": WIDTH}],
        "annotations": entries,
        "categories": [{"id": 1, "name": "cup"}],
    }
    folder.mkdir(exist_ok=True)
    (folder / "c.json").write_text(json.dumps(document), encoding="utf-8")
    return folder / "c.json"


def test_crowds_and_uncompressed_run_lengths_are_kept_on_request(tmp_path):
    runs = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * 2, HEIGHT * 3, HEIGHT * (WIDTH - 5)]}
    path = coco(tmp_path, {"segmentation": runs, "iscrowd": 1, "bbox": [2, 0, 3, HEIGHT]})
    assert File(path=path, masks="keep").prompts(image(tmp_path)) == []
    (mask,) = kept(File(path=path, masks="keep", crowd="prompt"), image(tmp_path))
    assert (mask.area, mask.box.xyxy) == (HEIGHT * 3, (2, 0, 5, HEIGHT))


def labelme(folder: Path, *shapes: dict) -> Path:
    about = {"version": "5.5.0", "imagePath": Path(KEY).name, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    (folder / "l").mkdir()
    text = json.dumps({**about, "shapes": [{"label": "cup", "group_id": None, **shape} for shape in shapes]})
    (folder / "l" / "猫.json").write_text(text, encoding="utf-8")
    return folder / "l"


def picture(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_shapes_of_labelme_are_filled_as_labelme_does(tmp_path):
    ring = np.full((4, 6), 255, np.uint8)
    ring[1, 1] = 0
    path = labelme(
        tmp_path,
        {"shape_type": "rectangle", "points": [[9, 12], [4, 3]]},
        {"shape_type": "circle", "points": [[30, 20], [34, 20]]},
        {"shape_type": "mask", "points": [[40, 30], [45, 33]], "mask": picture(ring)},
        {"shape_type": "polygon", "points": [[1, 40], [6, 40], [6, 44], [1, 44]], "group_id": 1},
        {"shape_type": "rectangle", "points": [[10, 40], [11, 41]], "group_id": 1},
        {"shape_type": "point", "points": [[50, 9]]},
    )
    *masks, point = File(path=path, masks="keep").prompts(image(tmp_path))
    assert point.mask is None and point.points
    rectangle, circle, held, group = (Mask(each.mask.size, each.mask.counts) for each in masks)
    assert (rectangle.area, rectangle.box.xyxy) == (60, (4, 3, 10, 13))
    assert circle.box.xyxy == (26, 16, 35, 25) and 45 <= circle.area <= 69
    assert (held.area, held.box.xyxy) == (23, (40, 30, 46, 34))
    assert group.area == 6 * 5 + 4


def test_what_has_only_a_box_stays_a_prompt_and_needs_a_model(tmp_path):
    path = coco(tmp_path, {"segmentation": [[1, 1, 9, 1, 9, 9]], "bbox": [1, 1, 8, 8]}, {"bbox": [20, 20, 8, 8]})
    first, second = File(path=path, masks="keep").prompts(image(tmp_path))
    assert first.mask is not None and second.mask is None and second.box.xyxy == (20, 20, 28, 28)
    failure = json.loads((run(tmp_path, path, "out", masks="keep") / "failures.jsonl").read_bytes())
    assert "the backend 'none' takes only prompts that have a mask, not box; choose a backend" in failure["message"]
    boxes = coco(tmp_path / "b", {"bbox": [20, 20, 8, 8]})
    (problem,) = File(path=boxes, masks="keep").check()
    assert problem.warning and "contains no masks or polygons" in problem.message


def test_only_kept_masks_count_for_the_fingerprint(tmp_path):
    box = {"bbox": [1, 1, 8, 8]}
    shaped = coco(tmp_path, {"segmentation": [[1, 1, 9, 1, 9, 9]], **box})
    bare = coco(tmp_path / "b", box)
    ref = ImageRef(KEY, KEY)
    as_prompts = {File(path=path).fingerprint(ref) for path in (shaped, bare)}
    assert len(as_prompts) == 1
    assert File(path=bare, masks="keep").fingerprint(ref) in as_prompts
    first = File(path=shaped, masks="keep").fingerprint(ref)
    other = coco(tmp_path / "o", {"segmentation": [[1, 1, 9, 1, 9, 8]], **box})
    assert len({first, File(path=other, masks="keep").fingerprint(ref), *as_prompts}) == 3


BROKEN = {
    "polygon": ({"segmentation": [[1, 1, 9, 1]]}, "a polygon must have x, y of at least 3 points, not 4 numbers"),
    "size": ({"segmentation": {"size": [9, 9], "counts": [81]}}, "its RLE has 9×9 = 81 pixels, but its image"),
    "cut off": ({"segmentation": {"size": [HEIGHT, WIDTH], "counts": "1"}}, "they may be cut off"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_damaged_mask_is_reported_only_where_it_is_kept(name, tmp_path):
    fields, message = BROKEN[name]
    path = coco(tmp_path, {"bbox": [1, 1, 8, 8], **fields})
    assert File(path=path).check() == []
    (problem,) = File(path=path, masks="keep").check()
    assert message in problem.message and "annotations[0] (id 1)" in problem.message


SHAPES = {
    "no png": ({"mask": "AAAA", "points": [[1, 1], [2, 2]]}, "its mask is no PNG file in base64"),
    "missing": ({"mask": None, "points": [[1, 1], [2, 2]]}, "must have its pixels in `mask`"),
    "size": ({"mask": picture(np.ones((2, 2), np.uint8)), "points": [[1, 1], [3, 3]]}, "2×2 pixels, but its points"),
    "outside": ({"mask": picture(np.ones((2, 2), np.uint8)), "points": [[63, 1], [64, 2]]}, "partly outside the image"),
    "far": ({"shape_type": "polygon", "points": [[1, 1], [9, 1], [9, 1e9]]}, "lies far outside the image"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_damaged_shape_fails_its_image(name, tmp_path):
    fields, message = SHAPES[name]
    source = File(path=labelme(tmp_path, {"shape_type": "mask", **fields}), masks="keep")
    with pytest.raises(PromptError, match=message):
        source.prompts(image(tmp_path))


def test_an_object_of_voc_without_pixels_is_reported(stored, tmp_path, capsys):
    told(capsys, "export", stored / "apart", "--to", "voc", "-o", tmp_path / "e", "-q")
    (numbers,) = (tmp_path / "e/SegmentationObject").rglob("*.png")
    assert len(kept(File(path=tmp_path / "e", masks="keep"), image(tmp_path))) == 2
    PIL.Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(numbers)
    (problem,) = File(path=tmp_path / "e", masks="keep").check()
    assert "has its number, 2" in problem.message
    assert File(path=tmp_path / "e").check() == []
