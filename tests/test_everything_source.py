"""The prompt source `everything`: the generator's own parameters, through a whole pipeline to files."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest
import small_sam
from pydantic import ValidationError

from maskmill import Grid, PipelineError, Prompt, read_run, testing
from maskmill.api import Pipeline
from maskmill.config.load import load_config
from maskmill_plugins.prompts.everything import Everything

#: Random weights predict an IoU around 0: thresholds that some masks pass and some do not.
GRID = {
    "points_per_side": 4,
    "pred_iou_thresh": 0.05,
    "stability_score_thresh": 0.1,
    "stability_score_offset": 0.2,
    "box_nms_thresh": 1,
    "min_mask_region_area": 20,
}


def test_the_options_are_the_generators_with_its_defaults():
    assert set(Everything.model_fields) == {field.name for field in fields(Grid)} | {"label"}
    assert Everything().prompts(testing.image()) == [Prompt(grid=Grid())]


@pytest.mark.torch
def test_the_names_and_defaults_are_those_of_segment_anything():
    import inspect

    from segment_anything import SamAutomaticMaskGenerator

    theirs = inspect.signature(SamAutomaticMaskGenerator).parameters
    for name, value in asdict(Grid()).items():
        assert theirs[name].default == value, name


def test_every_option_reaches_the_prompt():
    values = {name: value + 1 if isinstance(value, int) else value / 2 for name, value in asdict(Grid()).items()}
    [prompt] = Everything.from_options(values | {"label": "物体"}).prompts(testing.image())
    assert prompt == Prompt(grid=Grid(**values), label="物体")


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"points_per_side": 0}, "points_per_side"),
        ({"points_per_side": 8.5}, "points_per_side"),
        ({"pred_iou_thresh": 88}, "pred_iou_thresh"),
        ({"crop_overlap_ratio": 1}, "crop_overlap_ratio"),
        ({"crop_n_layers": -1}, "crop_n_layers"),
        ({"points_per_side": 8, "crop_n_layers": 2, "crop_n_points_downscale_factor": 3}, "downscale_factor"),
        ({"point_grids": []}, "point_grids"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_right_is_refused(options, where):
    with pytest.raises(ValidationError, match=where):
        Everything.from_options(options)


def test_a_backend_without_everything_mode_is_found_before_the_run(tmp_path):
    testing.write_picture(tmp_path / "photos/a.png")
    file = tmp_path / "p.yaml"
    file.write_text(
        "dataset: photos\nprompts: [everything]\nbackend: grabcut\noutput: out\nrun: {engine: inline}\n",
        encoding="utf-8",
    )
    with pytest.raises(PipelineError, match="'everything' gives everything"):
        Pipeline(load_config(file)).run()


@pytest.mark.torch
def test_a_run_finds_what_the_generator_finds(tmp_path, monkeypatch):
    import segment_anything
    import torch

    from maskmill.images import Image, ImageRef

    torch.set_num_threads(1)
    monkeypatch.setenv("MASKMILL_THREADS", "1")
    small_sam.save(small_sam.seeded(5), tmp_path / "small.pth")
    for number, name in enumerate(("a.png", "夜/b.png")):
        testing.write_picture(tmp_path / "photos" / name, 120, 160, seed=number)
    options = ", ".join(f"{name}: {value}" for name, value in GRID.items())
    (tmp_path / "p.yaml").write_text(
        f"dataset: photos\nprompts: [{{use: everything, label: 物体, {options}}}]\n"
        "backend: {use: sam, checkpoint: small.pth, device: cpu}\n"
        "writers: [png, coco]\noutput: out\nrun: {engine: inline}\n",
        encoding="utf-8",
    )
    report = Pipeline.load(tmp_path / "p.yaml").run(quiet=True)
    assert report.exit_code == 0
    sam = small_sam.seeded(5)
    generator = segment_anything.SamAutomaticMaskGenerator(sam, output_mode="coco_rle", **GRID)
    for result in read_run(tmp_path / "out"):
        image = Image.load(ImageRef(str(tmp_path / "photos" / result.key), result.key))
        expected = generator.generate(image.pixels)
        assert [mask.score for mask in result.masks] == pytest.approx(
            [record["predicted_iou"] for record in expected], abs=1e-5
        )
        assert len(result.masks) > 1
        for mask, record in zip(result.masks, expected, strict=True):
            assert abs(mask.area - record["area"]) <= 2
            assert mask.label == "物体"
