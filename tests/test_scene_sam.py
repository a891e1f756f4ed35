"""Are masks right? A small SAM, trained on drawn scenes, is compared with their exact masks in every way it is used.

The figures are those of tests/data/scene_sam/README.md. They change when a mask is moved by a pixel, when x and y
are exchanged, or when a mask is given to another prompt: the last tests show that.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import loky
import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask
from served import Served

from maskmill import Box, Grid, Image, ImageRef, Mask, Pipeline, Point, Prompt, read_run
from maskmill_plugins.backends.remote import Remote
from maskmill_plugins.backends.sam import Sam

pytestmark = pytest.mark.torch
pytest.importorskip("torch")
pytest.importorskip("segment_anything")

ROOT = Path(__file__).parent.parent
SCENES = ROOT / "datasets" / "scenes"
WEIGHTS = Path(__file__).parent / "data" / "scene_sam" / "scene_sam.pth"
TOLERANCE = 0.005


class Object(NamedTuple):
    """A drawn object: its exact mask, bool (H, W), and its prompts."""

    label: str
    truth: np.ndarray
    box: Prompt
    points: Prompt


def read_scenes() -> dict[str, list[Object]]:
    truth = json.loads((SCENES / "truth.json").read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    drawn: dict[str, list] = {name: [] for name in names.values()}
    for annotation in truth["annotations"]:
        drawn[names[annotation["image_id"]]].append(annotation)

    def lines(name):
        rows = map(json.loads, (SCENES / name).read_text(encoding="utf-8").splitlines())
        return {row["image"]: row["prompts"] for row in rows}

    points = lines("points.jsonl")
    scenes: dict[str, list[Object]] = {}
    for image, prompts in lines("boxes.jsonl").items():
        scenes[image] = []
        for given, pointed in zip(prompts, points[image], strict=True):
            x1, y1, x2, y2 = given["box"]
            near = min(drawn[image], key=lambda a: np.abs(np.subtract(a["bbox"], [x1, y1, x2 - x1, y2 - y1])).max())
            pixels = coco_mask.decode(near["segmentation"]).astype(bool)
            box, label = Prompt(box=Box(x1, y1, x2, y2), label=given["label"]), given["label"]
            scenes[image].append(
                Object(label, pixels, box, Prompt(points=tuple(Point(*p) for p in pointed["points"]), label=label))
            )
    return scenes


OBJECTS = read_scenes()
#: Enough for comparisons bit by bit.
FEW = [name for name, objects in OBJECTS.items() if len(objects) > 2][:4]


def load(name: str) -> Image:
    return Image.load(ImageRef(str(SCENES / "images" / name), name))


def opened(**options) -> Sam:
    sam = Sam(checkpoint=WEIGHTS, device="cpu", **options)
    sam.open()
    return sam


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("MASKMILL_THREADS", "1")
    monkeypatch.delenv("MASKMILL_TOKEN", raising=False)


@pytest.fixture(scope="module")
def found():
    """The masks of every object: by its box, by its points, the three candidates of its points."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKMILL_THREADS", "1")
        sam, every = opened(), opened(multimask="all")
        masks: dict[str, dict[str, list]] = {"box": {}, "points": {}, "candidates": {}}
        for name, objects in OBJECTS.items():
            if not objects:
                continue
            image = load(name)
            embedding = sam.embed(image)
            masks["box"][name] = sam.masks(image, [each.box for each in objects], embedding)
            masks["points"][name] = sam.masks(image, [each.points for each in objects], embedding)
            three = every.masks(image, [each.points for each in objects], embedding)
            masks["candidates"][name] = [three[3 * n : 3 * n + 3] for n in range(len(objects))]
        return masks


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


def mean_iou(masks: dict[str, list[Mask]], change=lambda array: array) -> float:
    return float(
        np.mean(
            [iou(change(m.array), o.truth) for name in masks for m, o in zip(masks[name], OBJECTS[name], strict=True)]
        )
    )


@pytest.mark.parametrize(("prompts", "figure"), [("box", 0.853), ("points", 0.778)])
def test_masks_are_right(found, prompts, figure):
    assert mean_iou(found[prompts]) == pytest.approx(figure, abs=TOLERANCE)


def test_the_best_of_three_candidates_is_better_than_the_one_chosen(found):
    best = [
        max(iou(m.array, o.truth) for m in three)
        for name, objects in found["candidates"].items()
        for three, o in zip(objects, OBJECTS[name], strict=True)
    ]
    assert np.mean(best) == pytest.approx(0.826, abs=TOLERANCE)


@pytest.mark.parametrize("prompts", ["box", "points"])
def test_predicted_iou_orders_the_real_one(found, prompts):
    masks = found[prompts]
    pairs = [
        (m.score, iou(m.array, o.truth)) for name in masks for m, o in zip(masks[name], OBJECTS[name], strict=True)
    ]
    ranks = [np.argsort(np.argsort(values)) for values in zip(*pairs, strict=True)]
    assert np.corrcoef(*ranks)[0, 1] >= 0.7  # Spearman's


def test_negative_points_and_a_box_with_points_are_taken_as_meant(found):
    sam = opened()
    both, only = [], []
    for name in FEW:
        image = load(name)
        embedding = sam.embed(image)
        prompts = [replace(o.box, points=o.points.points) for o in OBJECTS[name]]
        positive = [Prompt(points=tuple(p for p in o.points.points if p.label)) for o in OBJECTS[name]]
        both += [
            iou(m.array, o.truth) for m, o in zip(sam.masks(image, prompts, embedding), OBJECTS[name], strict=True)
        ]
        only += [
            iou(m.array, o.truth) for m, o in zip(sam.masks(image, positive, embedding), OBJECTS[name], strict=True)
        ]
    pointed = [iou(m.array, o.truth) for name in FEW for m, o in zip(found["points"][name], OBJECTS[name], strict=True)]
    assert np.mean(both) > 0.8
    assert np.mean(pointed) > np.mean(only), "negative points help"


@pytest.mark.parametrize(
    "options",
    [{"fast": False}, {"multimask": "off"}, {"decoder_heads": 4}],
    ids=["segment_anything itself", "no candidates", "heads given"],
)
def test_other_ways_give_the_same_bits(found, options):
    sam = opened(**options)
    for name in FEW:
        masks = sam.masks(load(name), [o.box for o in OBJECTS[name]])
        assert [m.counts for m in masks] == [m.counts for m in found["box"][name]]


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    import torch

    image, before = load(FEW[0]), torch.get_num_threads()
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 1, (100, 2, 2)), 1) * [image.width, image.height]
    boxes = [Prompt(box=Box(*map(float, corner.ravel()))) for corner in corners]
    points = [Prompt(points=(Point(*map(float, corner[0])),)) for corner in corners[:10]]
    monkeypatch.setattr(loky, "cpu_count", lambda: 4)
    monkeypatch.setattr("maskmill_plugins._shared.sam.decoding_threads.LEAST_NUMBERS", 0)  # as for large models
    answers = []
    for count in (1, 2, 4):
        monkeypatch.setenv("MASKMILL_THREADS", str(count))
        sam = opened()
        masks = sam.masks(image, [*boxes, *points, Prompt(grid=Grid(points_per_side=8))])
        answers.append([(m.counts, m.score, m.stability) for m in masks])
        with ThreadPoolExecutor(1) as another:
            assert another.submit(torch.get_num_threads).result() == count, "other threads of the process keep theirs"
        sam.close()
    torch.set_num_threads(before)
    assert answers[0] == answers[1] == answers[2]
    assert len(answers[0]) > 110


def test_one_prompt_at_a_time_and_embeddings_from_the_cache_give_the_same_bits(found, tmp_path):
    for _ in range(2):  # the second time from the cache
        sam = opened(cache=tmp_path / "cache")
        for name in FEW:
            image = load(name)
            masks = [sam.masks(image, [o.box])[0] for o in OBJECTS[name]]
            assert [m.counts for m in masks] == [m.counts for m in found["box"][name]]


def test_a_picture_that_is_turned_by_exif_gives_the_same_bits(found, tmp_path):
    sam = opened()
    for name in FEW:
        upright = load(name)
        turned = PIL.Image.fromarray(upright.pixels).transpose(PIL.Image.Transpose.ROTATE_90)
        exif = PIL.Image.Exif()
        exif[274] = 6
        turned.save(tmp_path / "turned.png", exif=exif)
        image = Image.load(ImageRef(str(tmp_path / "turned.png"), "turned.png"))
        np.testing.assert_array_equal(image.pixels, upright.pixels)
        masks = sam.masks(image, [o.box for o in OBJECTS[name]])
        assert [m.counts for m in masks] == [m.counts for m in found["box"][name]]


def test_a_server_gives_the_same_bits(found):
    sets = ["--set", f"checkpoint={WEIGHTS.as_posix()}", "--set", "device=cpu"]
    with Served("--backend", "sam", *sets, "--threads", 1) as server:
        remote = Remote(url=server.url)
        assert [problem for problem in remote.check() if not problem.warning] == []
        remote.open()
        for name in FEW:
            masks = remote.masks(load(name), [o.box for o in OBJECTS[name]])
            assert [m.counts for m in masks] == [m.counts for m in found["box"][name]]
        remote.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the shipped pipeline in a worker process; its output folder."""
    output = tmp_path_factory.mktemp("scenes_sam") / "out"
    sets = ["backend.device=cpu", "run.jobs=1", "run.threads=1"]
    report = Pipeline.load(ROOT / "pipelines" / "scenes_sam.yaml", output=output, sets=sets).run(quiet=True)
    assert report.exit_code == 0
    return output


def test_a_worker_process_gives_the_same_bits(found, run):
    masks = {result.key: [m.counts for m in result.kept] for result in read_run(run) if result.kept}
    assert masks == {name: [m.counts for m in masks] for name, masks in found["box"].items()}


def average_precision(instances: dict) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(SCENES / "truth.json"))
    evaluation = COCOeval(truth, truth.loadRes(instances), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def read_instances(run: Path) -> list[dict]:
    """The run's COCO annotations, with the ids of the truth's images and categories."""
    truth = json.loads((SCENES / "truth.json").read_text(encoding="utf-8"))
    made = json.loads((run / "coco" / "instances.json").read_text(encoding="utf-8"))
    images = {image["file_name"]: image["id"] for image in truth["images"]}
    labels = {category["name"]: category["id"] for category in truth["categories"]}
    image_of = {image["id"]: images[Path(image["file_name"]).name] for image in made["images"]}
    label_of = {category["id"]: labels[category["name"]] for category in made["categories"]}
    return [
        {**a, "image_id": image_of[a["image_id"]], "category_id": label_of[a["category_id"]]}
        for a in made["annotations"]
    ]


def test_the_data_set_has_the_precision_of_the_readme(run, capsys):
    instances = read_instances(run)
    assert average_precision(instances) == pytest.approx(0.746, abs=TOLERANCE)
    shuffled = [{**a, "category_id": 1 + a["category_id"] % 6} for a in instances]
    assert average_precision(shuffled) < 0.1, "a label given to the next class is noticed"


def moved(array: np.ndarray) -> np.ndarray:
    return np.roll(array, (1, 1), (0, 1))


def test_masks_moved_by_one_pixel_are_noticed(found):
    assert mean_iou(found["box"], moved) < 0.853 - 2 * TOLERANCE
    assert mean_iou(found["points"], moved) < 0.778 - TOLERANCE


def test_masks_in_another_order_are_noticed(found):
    masks = {name: masks[1:] + masks[:1] for name, masks in found["box"].items()}
    assert mean_iou(masks) < 0.2


def test_exchanged_coordinates_are_noticed():
    sam = opened()
    values = []
    for name in FEW:
        image = load(name)
        flipped = [Prompt(box=Box(o.box.box.y1, o.box.box.x1, o.box.box.y2, o.box.box.x2)) for o in OBJECTS[name]]
        flipped = [p.fit(*image.size) if p.box.y1 < image.height else OBJECTS[name][0].box for p in flipped]
        values += [iou(m.array, o.truth) for m, o in zip(sam.masks(image, flipped), OBJECTS[name], strict=True)]
    assert np.mean(values) < 0.5
