"""Weights: found, downloaded once before the workers start, verified; never run as code."""

import contextlib
import hashlib
import os
import pickle
import random
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from breaking_server import serving
from click.testing import CliRunner

from maskmill import Pipeline, PipelineError, files
from maskmill.files import sha256_of
from maskmill_plugins.backends.sam import Sam
from maskmill_plugins.backends.sam.commands import weights
from maskmill_plugins.backends.sam.weights.checkpoints import weights_folder
from maskmill_plugins.backends.sam.weights.published import MODELS

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
    monkeypatch.setitem(MODELS, "vit_b", replace(MODELS["vit_b"], bytes=len(CONTENT), sha256=SHA256))
    with serving(CONTENT) as server:
        monkeypatch.setenv("MASKMILL_WEIGHTS_URL", server.url)
        yield server


def command(*arguments):
    return CliRunner().invoke(weights, arguments)


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
    result = command("pull", "vit_b")
    assert result.exit_code == 0, result.output
    assert (weights_folder() / "sam_vit_b_01ec64.pth").read_bytes() == CONTENT
    assert stage.check() == []
    assert stage.reaches() == "none"
    assert stage.model_id() == before == SHA256
    assert command("path", "vit_b").output.strip() == str(stage.checkpoint_path())


def test_pull_into_a_folder(mirror, place):
    assert command("pull", "vit_b", "--to", "weights").exit_code == 0
    assert (place / "here" / "weights" / "sam_vit_b_01ec64.pth").exists()
    assert not (weights_folder() / "sam_vit_b_01ec64.pth").exists()


def test_pull_takes_what_is_here_already(mirror, place):
    path = place / "here" / "sam_vit_b_01ec64.pth"
    path.write_bytes(CONTENT)
    result = command("pull", "vit_b")
    assert result.exit_code == 0
    assert "is already on this machine" in result.output
    assert mirror.requests == []
    path.write_bytes(b"half")
    assert "finds it first: rename it" in command("pull", "vit_b").output
    assert (weights_folder() / "sam_vit_b_01ec64.pth").read_bytes() == CONTENT


def test_the_same_file_gives_the_same_fingerprint_wherever_it_lies(mirror, place):
    absent = Sam()
    before = absent.model_id(), absent.digest()
    assert command("pull", "vit_b").exit_code == 0
    beside = place / "beside"
    beside.mkdir()
    (beside / "sam_vit_b_01ec64.pth").write_bytes(CONTENT)
    in_cache, by_yaml = Sam(), Sam.from_options({}, base=beside)
    by_path = Sam.from_options({"checkpoint": "sam_vit_b_01ec64.pth"}, base=beside)
    paths = {stage.checkpoint_path() for stage in (in_cache, by_yaml)}
    assert len(paths) == 2
    assert {(stage.model_id(), stage.digest()) for stage in (in_cache, by_yaml, by_path)} == {before}


def test_list_says_what_is_verified(mirror, place):
    path = weights_folder() / "sam_vit_b_01ec64.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert f"not verified  {path}" in command("list").output
    assert command("verify").exit_code == 0
    assert f" verified  {path}" in command("list").output
    assert f"not verified  {path}" not in command("list").output
    os.utime(path, ns=(1, 1))
    assert f"not verified  {path}" in command("list").output
    path.write_bytes(b"half")
    assert f"DAMAGED (0 MB)  {path}" in command("list").output
    path.unlink()
    assert command("pull", "vit_b").exit_code == 0
    assert f"not verified  {path}" not in command("list").output


def test_list_verify_and_path(mirror):
    assert "missing; maskmill weights pull vit_b" in command("list").output
    absent = command("path", "vit_b")
    assert absent.exit_code == 1
    assert "maskmill weights pull vit_b" in absent.output
    assert command("verify").output == "there are no weights\n"
    path = weights_folder() / "sam_vit_b_01ec64.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert str(path) in command("list").output
    good = command("verify")
    assert (good.exit_code, good.output) == (0, f"{path}: sha256 {SHA256}: ok\n")
    path.write_bytes(CONTENT + b"x")
    bad = command("verify", "vit_b")
    assert bad.exit_code == 1
    assert f"DAMAGED, expected {SHA256} and 50000 bytes, not 50001" in bad.output


@pytest.mark.parametrize("what", ["check", "dry run", "offline"])
def test_only_a_run_downloads(mirror, project, what):
    project.photos("a.png")
    project.write(backend="{use: sam}")
    pipeline = Pipeline.load(project.file)
    if what == "check":
        assert [problem.warning for problem in pipeline.check()] == [True]
    elif what == "dry run":
        assert "1 image: 1 new" in pipeline.rehearse()
    else:
        with pytest.raises(PipelineError) as caught:
            pipeline.run(offline=True)
        assert "--offline: the backend 'sam' needs the network (internet)" in str(caught.value)
        assert "put sam_vit_b_01ec64.pth into" in str(caught.value)
        (project.folder / "sam_vit_b_01ec64.pth").write_bytes(CONTENT)
        assert pipeline.check(offline=True) == []
    assert mirror.requests == []


RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background of a shell
from dataclasses import replace
from maskmill.cli import main
from maskmill_plugins.backends.sam.weights.published import MODELS
MODELS["vit_b"] = replace(MODELS["vit_b"], bytes=int(sys.argv[1]), sha256=sys.argv[2])
main(["run", sys.argv[3]])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interruption_ends_a_download_at_once_and_keeps_what_arrived(mirror, project):
    project.photos("a.png")
    project.write(backend="{use: sam}")
    mirror.pace = 0.5
    arguments = [sys.executable, "-c", RUN, str(len(CONTENT)), SHA256, str(project.file)]
    running = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    part = weights_folder() / "sam_vit_b_01ec64.pth.part"
    deadline = time.monotonic() + 30
    while not mirror.sent > 10_000:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=3)
    assert running.returncode == 130
    assert "Traceback" not in errors
    assert 0 < part.stat().st_size < len(CONTENT)
    mirror.pace = 0
    assert command("pull", "vit_b").exit_code == 0
    assert mirror.requests[-1].startswith("bytes=")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A fine-tuned ViT-B's weights: the right names and shapes, in half precision."""
    torch = pytest.importorskip("torch")
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        shapes = sam_model_registry["vit_b"]().state_dict()
    path = tmp_path_factory.mktemp("tuned") / "微调.pth"
    torch.save({name: torch.zeros(tensor.shape, dtype=torch.half) for name, tensor in shapes.items()}, path)
    return path


@pytest.mark.torch
@pytest.mark.slow
def test_a_run_downloads_once_for_all_its_workers(project, monkeypatch, tuned):
    content = tuned.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(MODELS, "vit_b", replace(MODELS["vit_b"], bytes=len(content), sha256=sha256))
    with (project.folder / "plugins" / "fakes.py").open("a", encoding="utf-8") as file:  # the same in the workers
        file.write(
            "\nfrom dataclasses import replace\n"
            "from maskmill_plugins.backends.sam.weights.published import MODELS\n"
            f"MODELS['vit_b'] = replace(MODELS['vit_b'], bytes={len(content)}, sha256={sha256!r})\n"
        )
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


def test_weights_put_into_the_cache_are_found_by_their_name(place):
    path = weights_folder() / "微调.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    stage = Sam.from_options({"checkpoint": "微调.pth"}, base=place / "here")
    assert stage.check() == []
    assert stage.checkpoint_path() == path
    assert stage.model_id() == SHA256
    assert "微调.pth" in command("list").output
    assert command("path", "微调.pth").output.strip() == str(path)
    assert command("verify").output.rstrip().endswith(": no sha256 to compare with")
    path.with_name("微调.pth.sha256").write_text(f"{SHA256}  微调.pth\n", encoding="utf-8")
    assert command("verify").output.rstrip().endswith(": ok")
    path.write_bytes(b"damaged")
    damaged = command("verify", "微调.pth")
    assert damaged.exit_code == 1
    assert f"DAMAGED, expected {SHA256}" in damaged.output


@pytest.mark.torch
def test_half_a_file_that_is_meant_is_explained(place):
    path = place / "here" / "sam_vit_b_01ec64.pth"
    path.write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(PipelineError, match=r"it has 1004 bytes, the published file has 375042383: delete it.*pull"):
        Sam.from_options({"device": "cpu", "checkpoint": str(path)}).open()


FOREIGN = {
    "half": (CONTENT[:30_000], "it has 30000 bytes, the published file has 50000"),
    "longer": (CONTENT + b"x", "it has 50001 bytes"),
    "damaged": (CONTENT[:-1] + b"x", f"not {SHA256}, so it is damaged or another file"),
    "empty": (b"", "it is empty"),
    "web page": (b"<!DOCTYPE html><title>Not found</title>", "it is a web page; the download went wrong"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1", "it is a pointer of git-lfs"),
}


@pytest.mark.parametrize(("content", "reason"), FOREIGN.values(), ids=FOREIGN)
def test_another_file_under_a_published_name_is_refused_before_it_is_used(mirror, place, content, reason):
    path = place / "here" / "weights" / "sam_vit_b_01ec64.pth"
    path.parent.mkdir()
    path.write_bytes(content)
    stage = Sam.from_options({}, base=place / "here")
    (problem,) = stage.check()
    assert reason in problem.message
    assert f"maskmill weights pull vit_b --to {shlex.quote(str(path.parent))}" in problem.hint
    assert f"checkpoint: {path}" in problem.hint
    for use in (stage.model_id, stage.open):
        with pytest.raises(PipelineError, match="is not Meta's vit_b"):
            use()
    assert command("pull", "vit_b", "--to", str(path.parent)).exit_code == 0
    assert stage.check() == []
    assert stage.model_id() == SHA256


def test_a_file_under_a_published_name_that_is_meant_is_used(mirror, place):
    path = place / "here" / "sam_vit_b_01ec64.pth"
    path.write_bytes(CONTENT[:30_000])
    stage = Sam.from_options({"checkpoint": path.name}, base=place / "here")
    assert stage.check() == []
    assert stage.model_id() == hashlib.sha256(CONTENT[:30_000]).hexdigest()


def test_the_content_is_read_once_while_the_file_is_unchanged(mirror, place, monkeypatch):
    path = place / "here" / "sam_vit_b_01ec64.pth"
    path.write_bytes(CONTENT)
    stage = Sam.from_options({}, base=place / "here")
    assert stage.check() == []
    files._known.clear()  # as in another process
    monkeypatch.setattr(files, "sha256_of", lambda path: pytest.fail("it is read again"))
    assert stage.model_id() == SHA256
    path.write_bytes(CONTENT[:-1] + b"x")
    monkeypatch.setattr(files, "sha256_of", sha256_of)
    assert len(stage.check()) == 1


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.torch
@pytest.mark.parametrize("way", ["open", "verify"])
@pytest.mark.parametrize("form", ["bare", "zip", "old", "beside weights", "safetensors"])
def test_a_checkpoint_that_would_run_code_is_refused_unexecuted(tmp_path, way, form):
    import torch

    proof = tmp_path / "it ran"
    evil = Evil(proof)
    path = tmp_path / f"evil.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form in ("bare", "safetensors"):
        path.write_bytes(pickle.dumps(evil))
    else:
        data = {"model": {"a": torch.zeros(2)}, "optimizer": evil} if form == "beside weights" else evil
        torch.save(data, path, _use_new_zipfile_serialization=form != "old")
    if way == "verify":
        assert command("verify", str(path)).exit_code == 0
    else:
        with pytest.raises(PipelineError, match="cannot be read" if form == "safetensors" else "refused: it "):
            Sam(checkpoint=path, device="cpu").open()
    assert not proof.exists()
    assert not weights_folder().exists()
    if form != "safetensors":
        with contextlib.suppress(RuntimeError):  # of what follows the pickle
            torch.load(path, weights_only=False)
        assert proof.exists(), "the file is no test"
