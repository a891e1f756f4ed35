"""Whole runs with the backend hf: a model that is downloaded first, turned photos, a server, texts, broken weights."""

import json

import hub_server
import numpy as np
import pytest
from PIL import Image as Picture

from maskmill import Pipeline, PipelineError, read_run

for package in ("transformers", "segment_anything", "httpx", "fastapi", "uvicorn"):
    pytest.importorskip(package)
from served import Served  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_torch_thread")]
NAME = "someone/tiny-sam2"
PROMPTS = """
  - use: manual
    units: relative
    objects:
      - {points: [[0.5, 0.5], [0.1, 0.1, 0]]}
      - {box: [0.1, 0.2, 0.7, 0.9], label: 猫}
      - {points: [[0.7, 0.2]]}
"""


@pytest.fixture
def photos(tmp_path):
    """Two photos with the same pixels: one upright, one stored turned with its orientation in EXIF."""
    folder = tmp_path / "照片"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (25, 15, 3), dtype=np.uint8)
    upright = Picture.fromarray(pixels).resize((90, 150), Picture.Resampling.BICUBIC)
    upright.save(folder / "upright.png")
    turned = Picture.Exif()
    turned[0x0112] = 6
    upright.rotate(90, expand=True).save(folder / "turned.png", exif=turned)
    return folder


def write_pipeline(photos, backend, output="out", prompts=PROMPTS):
    file = photos.parent / "p.yaml"
    file.write_text(
        f"dataset: 照片\nprompts: {prompts}\nbackend: {backend}\nwriters: [png]\nrun: {{engine: inline, threads: 1}}\n",
        encoding="utf-8",
    )
    return Pipeline.load(file, output=photos.parent / output)


def list_masks(output):
    return {result.key: [(mask.counts, mask.score, mask.label) for mask in result.kept] for result in read_run(output)}


def test_a_run_downloads_its_model_first_and_a_rerun_needs_neither_hub_nor_work(
    photos, hf_folders, tmp_path, monkeypatch
):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    files = {path.name: path.read_bytes() for path in hf_folders("sam2_video").iterdir()}
    backend = f"{{use: hf, model: {NAME}, device: cpu}}"
    with hub_server.serving(NAME, files) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        pipeline = write_pipeline(photos, backend)
        with pytest.raises(PipelineError, match="--offline"):
            pipeline.run(offline=True)
        report = pipeline.run(quiet=True)
        assert report.counts["done"] == 2
        assert sorted(hub.sent) == sorted(files)
    masks = list_masks(tmp_path / "out")
    assert masks["turned.png"] == masks["upright.png"]
    about = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert len(about["fingerprint"]["model"]) == 64
    # The same files in a folder are the same model.
    here = f"{{use: hf, model: {hf_folders('sam2_video').as_posix()}, device: cpu}}"
    again = write_pipeline(photos, here).run(quiet=True, offline=True)
    assert again.ran == 0


def test_masks_from_a_server_are_those_of_this_machine(photos, hf_folders, tmp_path):
    folder = hf_folders("sam_hq").as_posix()
    write_pipeline(photos, f"{{use: hf, model: '{folder}', device: cpu}}", "a").run(quiet=True)
    options = ("--backend", "hf", "--set", f"model={folder}", "--set", "device=cpu", "--threads", "1")
    with Served(*options) as server:
        remote = f"{{use: remote, url: 'http://127.0.0.1:{server.port}'}}"
        write_pipeline(photos, remote, "b").run(quiet=True)
    assert list_masks(tmp_path / "a") == list_masks(tmp_path / "b")


def test_texts_in_a_run_give_masks_with_the_users_labels(photos, hf_folders, tmp_path):
    backend = f"{{use: hf, model: '{hf_folders('sam3').as_posix()}', device: cpu, threshold: 0.2}}"
    prompts = "[{use: text, find: {猫: a red cat, person: a person}}]"
    assert write_pipeline(photos, backend, prompts=prompts).run(quiet=True).counts["done"] == 2
    masks = list_masks(tmp_path / "out")
    assert {label for _, _, label in masks["upright.png"]} == {"猫", "person"}
    assert masks["turned.png"] == masks["upright.png"]


def test_prompts_that_the_model_does_not_take_are_refused_before_the_run(photos, hf_folders, tmp_path):
    backend = f"{{use: hf, model: '{hf_folders('sam3').as_posix()}', device: cpu}}"
    (problem,) = write_pipeline(photos, backend, prompts="[{use: everything}]").check()
    assert "everything" in problem.message
    assert not problem.warning
    instances = backend.replace("device: cpu", "device: cpu, task: instances")
    (problem,) = write_pipeline(photos, instances, prompts="[{use: text, find: [cat]}]").check()
    assert "text" in problem.message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs", id="lfs"),
        pytest.param(b"<!DOCTYPE html><html>", "a web page", id="web page"),
        pytest.param(b"\x08\0\0\0\0\0\0\0{}      ", "are missing", id="empty"),
    ],
)
def test_damaged_weights_are_named(content, message, photos, hf_folders, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in hf_folders("sam2_video").iterdir():
        (folder / path.name).write_bytes(content if path.suffix == ".safetensors" else path.read_bytes())
    pipeline = write_pipeline(photos, "{use: hf, model: model, device: cpu}")
    report = pipeline.check()
    assert report == []
    with pytest.raises(PipelineError, match=message):
        pipeline.config.backend.stage.open()
