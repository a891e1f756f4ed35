"""Workers for GPUs: how many, and which of them sees which GPU. None of it was run on a GPU."""

from __future__ import annotations

import importlib.util
import os

import loky
import pytest

from maskmill import Pipeline, read_run, testing
from maskmill.plugins.gpus import list_gpus, share_gpus
from maskmill.run.resources import BASE, RESERVE, plan_resources

GIB = 1024**3
POSIX = pytest.mark.skipif(os.name != "posix", reason="the stand-in is a shell script")

#: A backend that notes the GPU which its process sees, waits until another one is seen, and dies once in a picture.
PLUGIN = '''
import os
import time
from pathlib import Path
from maskmill import hookimpl
from maskmill.testing import FillAnything


class Gpu(FillAnything):
    """Says that it computes on a GPU."""

    dies: str = ""

    def uses_gpu(self):
        return True

    def masks(self, image, prompts, embedding=None):
        seen = os.environ["CUDA_VISIBLE_DEVICES"]
        self.note("gpu", seen)
        folder = Path(__file__).parent
        (folder / f"{seen}.seen").touch()
        until = time.monotonic() + 20
        while len(list(folder.glob("*.seen"))) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        died = folder / "died"
        if image.ref.key == self.dies and not died.exists():
            died.touch()
            os._exit(3)
        return super().masks(image, prompts, embedding)


@hookimpl
def register_backends(register):
    register("gpu", Gpu)
'''

LISTED = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aa)
  MIG 3g.20gb     Device  0: (UUID: MIG-11)
  MIG 3g.20gb     Device  1: (UUID: MIG-22)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bb)
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Puts an `nvidia-smi` that prints a text, or fails, in place of the machine's."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(text: str, code: int = 0) -> None:
        printing = "".join(f"echo '{line}'\n" for line in text.splitlines())
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{printing}exit {code}\n", encoding="utf-8")
        (tmp_path / "nvidia-smi").chmod(0o755)

    return make


@POSIX
@pytest.mark.parametrize(
    ("code", "found"), [(0, ("MIG-11", "MIG-22", "GPU-bb")), (9, ())], ids=["they are listed", "the driver fails"]
)
def test_the_gpus_are_those_of_the_driver_and_parts_of_a_divided_one_count(tool, code, found):
    tool(LISTED, code)
    assert list_gpus() == found


def test_without_the_drivers_tool_there_is_no_gpu(tool):
    assert list_gpus() == ()


@POSIX
@pytest.mark.parametrize(
    ("given", "found"),
    [("1, 3", ("1", "3")), ("GPU-aa", ("GPU-aa",)), ("", ()), ("-1", ()), ("2,-1,0", ("2",))],
)
def test_gpus_that_the_user_chose_are_the_only_ones_if_there_are_any(tool, monkeypatch, given, found):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert list_gpus() == ()
    tool(LISTED)
    assert list_gpus() == found


def plan(monkeypatch, jobs="auto", gpus=("0", "1"), cores=16, gib=100, images=None):
    monkeypatch.setattr(loky, "cpu_count", lambda: cores)
    monkeypatch.setattr("maskmill.run.resources.find_available_memory", lambda: RESERVE + gib * (BASE + GIB))
    return plan_resources(jobs, "auto", GIB, images=images, gpus=gpus)


@pytest.mark.parametrize(
    ("given", "jobs", "limit"),
    [
        ({}, 4, "2 GPUs"),
        ({"gpus": ("0",)}, 2, "1 GPU"),
        ({"gpus": ()}, 16, "cores"),
        ({"cores": 3}, 3, "cores"),
        ({"gib": 1}, 1, "memory"),
        ({"images": 2}, 2, "images"),
    ],
    ids=["two each", "one GPU", "no GPU", "few cores", "little memory", "few images"],
)
def test_jobs_auto_starts_two_workers_for_each_gpu(monkeypatch, given, jobs, limit):
    chosen = plan(monkeypatch, **given)
    assert chosen.jobs == jobs
    assert chosen.why.endswith(f"limited by {limit}")


def test_with_several_gpus_each_worker_sees_one(monkeypatch):
    environment = plan(monkeypatch, jobs=5).environment()
    assert [each["CUDA_VISIBLE_DEVICES"] for each in share_gpus(environment, 5)] == ["0", "1", "0", "1", "0"]
    without = plan(monkeypatch, gpus=()).environment()
    assert share_gpus(without, 2) == [without, without]
    assert "CUDA_VISIBLE_DEVICES" not in without


@POSIX
def test_a_worker_that_replaces_a_dead_one_sees_the_same_gpu_and_no_other_image_is_blamed(tool, tmp_path, monkeypatch):
    tool(LISTED)
    testing.write_pictures(tmp_path / "photos")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/gpu.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    run = {
        "dataset": "photos",
        "prompts": [{"use": "everything"}],
        "backend": {"use": "gpu", "dies": "dot.png"},
        "writers": [{"use": "png"}],
        "output": "out",
        "run": {"jobs": 2},
    }
    report = Pipeline.from_dict(run, base=tmp_path).run()
    assert report.counts["done"] == 6
    found = {result.key: result.notes["gpu"]["gpu"] for result in read_run(report.output)}
    assert set(found.values()) == {"GPU-a", "GPU-b"}
    assert (tmp_path / "plugins/died").exists()


@pytest.mark.torch
@pytest.mark.parametrize("name", ["sam", "hf", "detect"])
def test_models_use_a_gpu_if_pytorch_was_built_for_it(name):
    torch = pytest.importorskip("torch")
    from maskmill_plugins.backends.hf import Hf
    from maskmill_plugins.backends.sam import Sam
    from maskmill_plugins.prompts.detect.source import Detect

    stage, options = {"sam": (Sam, {}), "hf": (Hf, {"model": "a/b"}), "detect": (Detect, {"find": ["cat"]})}[name]
    assert stage(**options).uses_gpu() is (torch.version.cuda is not None)
    assert stage(**options, device="cpu").uses_gpu() is False


def test_without_pytorch_nothing_uses_a_gpu(monkeypatch):
    from maskmill_plugins._shared.sam.device import may_use_cuda

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert may_use_cuda("auto") is False
