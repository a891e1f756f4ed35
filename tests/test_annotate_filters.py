"""The pipeline's filters on the masks of the annotation page."""

import json

import pytest
from annotate_kit import annotating, folder_of, opened, save

from maskmill import Filter, Pipeline, read_run
from maskmill.testing import FillPrompt
from maskmill_plugins.annotate.command import _preview_filters, find_task

PLUGIN = """
from maskmill import hookimpl
from maskmill.testing import FillPrompt

@hookimpl
def register_backends(register):
    register("fill", FillPrompt)
"""
FILTERS = [
    {"use": "class_map", "map": {"cup": "vessel"}},
    {"use": "score", "max_area": 900},
    {"use": "nms", "iou": 0.5, "across_labels": True},
    {"use": "no_overlap"},
]
#: One is too large, one covers the same object as another, one overlaps a little, one stays as it is.
DRAWN = [
    {"box": [2, 2, 42, 42], "label": "plate"},
    {"box": [2, 2, 22, 22], "label": "cup"},
    {"box": [3, 2, 23, 22], "label": "mug"},
    {"box": [20, 2, 40, 12], "label": "fork"},
    {"box": [50, 30, 60, 40]},
]


class Fussy(Filter):
    """Fails on more than two masks, and where it cannot open."""

    broken: bool = False

    def open(self):
        if self.broken:
            raise OSError("no such table")

    def apply(self, image, masks):
        if len(masks) > 2:
            raise ValueError(f"{len(masks)} masks of {image.ref.key}")
        return [mask.drop("unwanted") for mask in masks]


@pytest.fixture
def pipeline(tmp_path):
    folder_of(tmp_path / "photos", 1)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "fill.py").write_text(PLUGIN, encoding="utf-8")
    text = {"dataset": "photos", "backend": "fill", "filters": FILTERS, "output": "out", "run": {"engine": "inline"}}
    text["prompts"] = [{"use": "file", "path": "prompts.jsonl"}]
    (tmp_path / "p.yaml").write_text(json.dumps(text), encoding="utf-8")
    return tmp_path / "p.yaml"


def filtered(server, prompts, key="000.png"):
    """What the server says about the masks of these prompts."""
    id_ = opened(server, key)["id"]
    masks = server.masks(id_, *prompts).json()["masks"]
    sent = [{name: mask[name] for name in ("prompt", "counts", "score", "stability")} for mask in masks]
    body = {"id": id_, "key": key, "prompts": prompts, "masks": sent}
    answer = server.http.post("/v1/annotate/filters", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    return found["problem"], [
        (new["dropped_by"], new["reason"], new["label"], (new["mask"] or old)["counts"])
        for new, old in zip(found["masks"], masks, strict=False)
    ]


def test_the_page_shows_what_a_batch_run_keeps_changes_and_drops(pipeline, tmp_path):
    task = find_task(pipeline, None, ())
    with annotating(tmp_path / "photos", FillPrompt(), prompts=task.prompts, filters=task.filters) as server:
        save(server, "000.png", *DRAWN)
        assert server.http.get("/v1/annotate/session").json()["filters"] == [each["use"] for each in FILTERS]
        problem, page = filtered(server, DRAWN)
        coco = server.http.get("/v1/annotate/result", params={"key": "000.png", "format": "coco"}).json()
    Pipeline.load(pipeline).run(quiet=True)
    (result,) = read_run(tmp_path / "out")
    assert problem is None
    assert page == [(mask.dropped_by, mask.reason, mask.label, mask.counts) for mask in result.masks]
    assert [name for name, *_ in page] == ["score", None, "nms", None, None]
    assert page[0][1] == "area 1600 > 900" and page[1][2] == "vessel"
    assert len(coco["annotations"]) == 3, "a download has what the batch keeps"


def test_a_filter_that_fails_is_named_and_the_page_goes_on(tmp_path):
    folder = folder_of(tmp_path / "photos", 1)
    with annotating(folder, filters=[("fussy", Fussy())]) as server:
        save(server, "000.png", *DRAWN)
        assert filtered(server, DRAWN) == ("filters fussy: ValueError: 5 masks of 000.png", [])
        answer = server.http.get("/v1/annotate/result", params={"key": "000.png", "format": "coco"})
        assert answer.status_code == 409 and "5 masks" in answer.json()["detail"]
        problem, page = filtered(server, DRAWN[:2])
        assert problem is None and [each[:2] for each in page] == [("fussy", "unwanted")] * 2
    with annotating(folder, filters=[("fussy", Fussy(broken=True))]) as server:
        problem, _ = filtered(server, DRAWN[:1])
        assert problem == "filters fussy: OSError: no such table"


def test_filters_are_not_shown_for_the_masks_of_another_backend(pipeline):
    task = find_task(pipeline, None, ())
    with (
        _preview_filters(task, "fill", {"backend": None}) as mine,
        _preview_filters(task, "grabcut", {"backend": "grabcut"}) as other,
    ):
        assert mine.names == [each["use"] for each in FILTERS] and other is None
