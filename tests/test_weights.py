"""Weights: found, downloaded once before the workers start, added, verified; never run as code."""

import hashlib
import os
import pickle
import random
from dataclasses import replace

import pytest
from breaking_server import serving
from click.testing import CliRunner

from maskmill import Pipeline, PipelineError
from maskmill_plugins.backends.sam import Sam, checkpoints, weights_command
from maskmill_plugins.backends.sam.checkpoints import MODELS, weights_folder

CONTENT = random.Random(2).randbytes(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Empty caches, and a folder to be in."""
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("MASKMILL_WEIGHTS_URL", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def mirror(monkeypatch):
    """A mirror of `vit_b`, as if Meta had published these bytes."""
    table = {**MODELS, "vit_b": replace(MODELS["vit_b"], bytes=len(CONTENT), sha256=SHA256)}
    monkeypatch.setattr(checkpoints, "MODELS", table)
    monkeypatch.setattr(weights_command, "MODELS", table)
    monkeypatch.setattr("maskmill_plugins.backends.sam.plugin.MODELS", table)
    with serving(CONTENT) as server:
        monkeypatch.setenv("MASKMILL_WEIGHTS_URL", server.url)
        yield server


def weights(*arguments):
    return CliRunner().invoke(weights_command.weights, arguments)


def test_the_table_is_metas():
    assert {name: (model.file, model.bytes, model.sha256[:8]) for name, model in MODELS.items()} == {
        "vit_b": ("sam_vit_b_01ec64.pth", 375042383, "ec2df627"),
        "vit_l": ("sam_vit_l_0b3195.pth", 1249524607, "3adcc431"),
        "vit_h": ("sam_vit_h_4b8939.pth", 2564550879, "a7bf3b02"),
    }
    assert all(len(model.sha256) == 64 for model in MODELS.values())
    assert MODELS["vit_b"].url == "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth"


def test_pull_downloads_to_where_auto_looks(mirror):
    stage = Sam()
    [warning] = stage.check()
    assert warning.warning
    assert "will be downloaded" in warning.message
    assert stage.reaches() == "internet"
    before = stage.model_id()
    result = weights("pull", "vit_b")
    assert result.exit_code == 0, result.output
    assert (weights_folder() / "sam_vit_b_01ec64.pth").read_bytes() == CONTENT
    assert stage.check() == []
    assert stage.reaches() == "none"
    assert stage.model_id() == before == SHA256
    assert weights("path", "vit_b").output.strip() == str(stage.checkpoint_path())


def test_pull_into_a_folder(mirror, place):
    assert weights("pull", "vit_b", "--to", "weights").exit_code == 0
    assert (place / "here" / "weights" / "sam_vit_b_01ec64.pth").exists()
    assert not (place / "cache").exists()


def test_list_verify_and_path(mirror):
    assert "not here; maskmill weights pull vit_b" in weights("list").output
    absent = weights("path", "vit_b")
    assert absent.exit_code == 1
    assert "maskmill weights pull vit_b" in absent.output
    assert weights("verify").output == "there are no weights\n"
    path = weights_folder() / "sam_vit_b_01ec64.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert str(path) in weights("list").output
    good = weights("verify")
    assert (good.exit_code, good.output) == (0, f"{path}: sha256 {SHA256}: ok\n")
    path.write_bytes(CONTENT + b"x")
    bad = weights("verify", "vit_b")
    assert bad.exit_code == 1
    assert f"DAMAGED, expected {SHA256}" in bad.output


@pytest.mark.parametrize("command", ["check", "dry run", "offline"])
def test_only_a_run_downloads(mirror, project, command):
    project.photos("a.png")
    project.write(backend="{use: sam}")
    pipeline = Pipeline.load(project.file)
    if command == "check":
        assert [problem.warning for problem in pipeline.check()] == [True]
    elif command == "dry run":
        assert "1 images to do" in pipeline.rehearse()
    else:
        with pytest.raises(PipelineError, match="the backend 'sam' needs the network"):
            pipeline.run(offline=True)
    assert mirror.requests == []


@pytest.mark.torch
@pytest.mark.slow
def test_a_run_downloads_once_for_all_its_workers(project, monkeypatch, tmp_path):
    import torch
    from segment_anything import sam_model_registry

    path = tmp_path / "b.pth"
    torch.save(sam_model_registry["vit_b"]().state_dict(), path)
    content = path.read_bytes()
    published = replace(MODELS["vit_b"], bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(MODELS, "vit_b", published)
    (project.folder / "photos").mkdir()
    project.photos("broken.png", "other.png")
    for name in ("broken.png", "other.png"):  # the model is opened, and no image encoded: that takes long
        (project.folder / "photos" / name).write_bytes(b"no picture")
    project.write(backend="{use: sam}", run="{engine: joblib, jobs: 2}")
    with serving(content) as server:
        monkeypatch.setenv("MASKMILL_WEIGHTS_URL", server.url)
        report = Pipeline.load(project.file).run(quiet=True)
        assert len(server.requests) == 1
    assert report.counts["failed"] == 2
    assert {failure["type"] for failure in project.failures().values()} == {"ImageReadError"}


@pytest.fixture
def tuned(tmp_path):
    """A fine-tuned ViT-B's weights, as a skeleton of the right shapes."""
    torch = pytest.importorskip("torch")
    from segment_anything import sam_model_registry

    path = tmp_path / "微调.pth"
    torch.save(sam_model_registry["vit_b"]().state_dict(), path)
    return path


@pytest.mark.torch
def test_added_weights_are_found_by_their_name(tuned, tmp_path):
    added = weights("add", str(tuned))
    assert added.exit_code == 0, added.output
    assert "{use: sam, model: vit_b, checkpoint: 微调.pth}" in added.output
    stage = Sam.from_options({"checkpoint": "微调.pth"}, base=tmp_path / "here")
    assert stage.check() == []
    assert stage.model_id() == hashlib.sha256(tuned.read_bytes()).hexdigest()
    assert "微调.pth" in weights("list").output
    assert weights("verify").output.rstrip().endswith(": ok")
    assert weights("add", str(tuned)).exit_code == 0, "the same file again"
    (weights_folder() / "微调.pth").write_bytes(b"damaged")
    assert weights("verify", "微调.pth").exit_code == 1
    clash = weights("add", str(tuned))
    assert isinstance(clash.exception, PipelineError)
    assert "exists and is another file" in str(clash.exception)
    posing = weights("add", str(tuned), "--name", "sam_vit_b_01ec64.pth")
    assert "is not Meta's" in str(posing.exception)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.torch
@pytest.mark.parametrize("way", ["add", "open"])
def test_a_checkpoint_that_would_run_code_is_refused_unexecuted(tmp_path, way):
    proof = tmp_path / "it ran"
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil(proof)))
    with pytest.raises(PipelineError, match="refused"):
        if way == "add":
            raise weights("add", str(path)).exception
        Sam(checkpoint=path, device="cpu").open()
    assert not proof.exists()
    assert not weights_folder().exists()
