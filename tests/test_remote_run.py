"""Whole runs with masks from `maskmill serve`: same results as without it, also if the server fails."""

import hashlib
import os
import shutil
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from serve_kit import free_port
from served import Served

from maskmill import OutputError, Pipeline, PipelineError, read_run, testing
from maskmill.cli.run import main as run_main

for package in ("httpx", "fastapi", "uvicorn"):
    pytest.importorskip(package)
ROOT = Path(__file__).parent.parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
WORKERS = "{engine: joblib, jobs: 2, threads: 1}"
ALONE = "{engine: inline, threads: 1}"
#: The metric that counts images sent to a server.
UPLOADS = 'maskmill_requests_total{method="POST",route="/v1/images"'
#: Points, boxes, both, and everything mode, for pictures of any size.
ALL_KINDS = """
  - use: manual
    units: relative
    objects:
      - {points: [[0.5, 0.5], [0.1, 0.1, 0]]}
      - {box: [0.1, 0.2, 0.7, 0.9], points: [[0.3333333, 0.4]], label: 猫}
      - {points: [[0.7, 0.2]]}
  - {use: everything, points_per_side: 3, pred_iou_thresh: 0, stability_score_thresh: 0}
combine: all
"""
#: Backends for both sides: one that takes a while and fails as the picture says, and a small SAM with random weights.
PLUGIN = f"""
import sys, time
sys.path.append({str(ROOT / "tests")!r})
from maskmill import Backend, ImageError, hookimpl
from maskmill.testing import FillPrompt
from maskmill_plugins.backends.sam import Sam


class Lazy(FillPrompt):
    seconds: float = 0.0
    refused: str = ""

    def masks(self, image, prompts, embedding=None):
        time.sleep(self.seconds)
        if image.sha256 == self.refused:
            raise ImageError("this one is not to be segmented")
        return super().masks(image, prompts)


class Small(Sam):
    def open(self):
        import segment_anything, small_sam
        models = segment_anything.sam_model_registry
        before = models["vit_b"]
        models["vit_b"] = small_sam.build
        try:
            super().open()
        finally:
            models["vit_b"] = before


@hookimpl
def register_backends(register):
    register("lazy", Lazy)
    register("small", Small)
"""


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch):
    monkeypatch.delenv("MASKMILL_TOKEN", raising=False)
    monkeypatch.setenv("MASKMILL_THREADS", "1")


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "both.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def lazy_server(tmp_path_factory):
    """A server for tests that neither kill nor count."""
    path = tmp_path_factory.mktemp("lazy") / "both.py"
    path.write_text(PLUGIN, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MASKMILL_TOKEN", raising=False)
        with served(path, "lazy") as server:
            yield server


def served(plugin, backend, *options, **given):
    sets = [part for option in options for part in ("--set", option)]
    return Served("--backend", backend, "--plugins", plugin, "--threads", 1, *sets, **given)


def remote(*servers, **options):
    urls = ", ".join(f"'{server if isinstance(server, str) else server.url}'" for server in servers)
    more = "".join(f", {name}: {value}" for name, value in options.items())
    return f"{{use: remote, url: [{urls}]{more}}}"


def run(project, backend, output="out", workers=ALONE, prompts="[{use: middle}]", **options):
    project.write(backend, workers)
    text = project.file.read_text(encoding="utf-8")
    project.file.write_text(text.replace("[{use: middle}]", prompts), encoding="utf-8")
    project.output = project.folder / output
    return Pipeline.load(project.file, output=project.output).run(quiet=True, **options)


def found(project):
    """What a run found, by image, without who computed it."""
    return {
        result.key: (
            result.status,
            result.sha256,
            result.prompts,
            [replace(mask, dropped_by=mask.dropped_by and mask.reason) for mask in result.masks],
        )
        for result in read_run(project.output)
    }


def of_any_kind(project):
    """Pictures of every format, of odd shapes and depths, with Chinese names."""
    folder = project.folder / "photos"
    testing.write_pictures(folder)
    for name in ("猫.jpg", "unten/深.webp", "b.bmp", "c.tif", "d.gif"):
        testing.write_picture(folder / name, seed=len(name))


def test_masks_from_a_server_are_those_of_this_machine(project, plugin):
    of_any_kind(project)
    report = run(project, "{use: grabcut}", "local")
    expected, files = found(project), project.files()
    with Served("--backend", "grabcut", "--threads", 1) as server:
        there = run(project, remote(server), "remote", WORKERS)
    assert report.exit_code == there.exit_code == 0
    assert found(project) == expected
    outputs = {name: data for name, data in files.items() if not name.startswith("results")}
    assert outputs == {name: data for name, data in project.files().items() if not name.startswith("results")}
    assert len(expected) > 9


@pytest.mark.slow
@pytest.mark.torch
def test_sams_masks_from_a_server_are_those_of_this_machine(project, plugin):
    import small_sam

    weights = small_sam.save(small_sam.seeded(), project.folder / "small.pth")
    of_any_kind(project)
    options = "device: cpu, multimask: all"
    (project.folder / "plugins" / "both.py").write_text(PLUGIN, encoding="utf-8")
    run(project, f"{{use: small, checkpoint: '{weights.as_posix()}', {options}}}", "local", prompts=ALL_KINDS)
    expected = found(project)
    sets = [f"checkpoint={weights}", "device=cpu"]
    with served(plugin, "small", *sets) as server:
        report = run(project, remote(server, multimask="all"), "remote", WORKERS, ALL_KINDS)
    assert report.exit_code == 0
    assert sum(mask.prompt.grid is not None for _, _, _, masks in expected.values() for mask in masks) > 20
    assert found(project) == expected
    provenance = [result.provenance for result in read_run(project.output)]
    assert {each["model"] for each in provenance} == {hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert {each["backend"] for each in provenance} == {"remote"}


def test_a_second_run_does_nothing_unless_the_server_computes_otherwise(project, plugin):
    project.many(4)
    with served(plugin, "lazy") as server:
        run(project, remote(server))
        assert run(project, remote(server)).exit_code == 0
        assert server.metric(UPLOADS) == 4
    with served(plugin, "lazy", "refused=nothing") as server:
        with pytest.raises(OutputError, match="another backend, model or backend option"):
            run(project, remote(server))
        assert run(project, remote(server), fresh=True).exit_code == 0
        assert server.metric(UPLOADS) == 4


def test_what_the_server_cannot_segment_is_failed_and_never_empty(project, plugin):
    project.photos("bad.png", "good.png")
    bad = hashlib.sha256((project.folder / "photos" / "bad.png").read_bytes()).hexdigest()
    with served(plugin, "lazy", f"refused={bad}") as server:
        report = run(project, remote(server))
        url = server.url
    assert report.exit_code == 1
    assert project.statuses() == {"bad.png": "failed", "good.png": "done"}
    message = project.failures()["bad.png"]["message"]
    assert url in message
    assert "this one is not to be segmented" in message


class Killer(threading.Thread):
    """Kills a server once it has been sent so many images; starts it anew on its port after so many seconds.

    Attributes:
        again: the new server.
    """

    def __init__(self, server, uploads, plugin=None, after=None):
        super().__init__()
        self.server, self.uploads, self.plugin, self.after = server, uploads, plugin, after
        self.again = None
        self.start()

    def run(self):
        ends = time.monotonic() + 60
        while self.server.metric(UPLOADS) < self.uploads and time.monotonic() < ends:
            time.sleep(0.02)
        self.server.kill()
        if self.after is not None:
            time.sleep(self.after)
            self.again = served(self.plugin, "lazy", "seconds=0.05", port=self.server.port)


@POSIX
@pytest.mark.slow
def test_a_server_killed_and_restarted_in_a_batch_loses_nothing(project, plugin):
    names = project.many(40)
    run(project, "{use: slow}", "local")
    expected = found(project)
    server = served(plugin, "lazy", "seconds=0.05")
    killer = Killer(server, 10, plugin, after=1)
    report = run(project, remote(server, patience=60), "remote", WORKERS)
    killer.join()
    with killer.again as again:
        assert again.metric(UPLOADS) > 10
    assert report.exit_code == 0
    assert project.statuses() == dict.fromkeys(names, "done")
    assert found(project) == expected


@POSIX
def test_of_two_servers_one_may_die(project, plugin):
    names = project.many(40)
    with served(plugin, "lazy", "seconds=0.02") as stays:
        dies = served(plugin, "lazy", "seconds=0.02")
        killer = Killer(dies, 5)
        report = run(project, remote(stays, dies))
        killer.join()
        assert stays.metric(UPLOADS) > 20
    assert report.exit_code == 0
    assert project.statuses() == dict.fromkeys(names, "done")


@POSIX
def test_a_run_that_waits_in_vain_stops_and_is_taken_up_again(project, plugin):
    names = project.many(30)
    server = served(plugin, "lazy", "seconds=0.05")
    backend = remote(server, patience=1)
    killer = Killer(server, 8)
    report = run(project, backend)
    killer.join()
    assert report.exit_code == 1
    assert "no SAM server was available for 1 s" in report.message
    before = project.statuses()
    assert 5 <= list(before.values()).count("done") < 30
    assert set(before.values()) <= {"done", "pending"}
    with served(plugin, "lazy", "seconds=0.05", port=server.port):
        assert run(project, backend).exit_code == 0
    assert project.statuses() == dict.fromkeys(names, "done")


def test_no_server_is_said_before_the_first_image(project, capfd):
    project.many(3)
    url = f"http://127.0.0.1:{free_port()}"
    project.write(remote(url))
    with pytest.raises(SystemExit) as ended:
        run_main([str(project.file)])
    said = capfd.readouterr().err
    assert ended.value.code == 2
    assert url in said
    assert "maskmill serve" in said
    assert str(project.file) in said
    assert not project.output.exists()


def test_the_token_is_written_nowhere(project, plugin, monkeypatch, capfd):
    token = "Zx81-very-secret-token"
    monkeypatch.setenv("SAM_TOKEN", token)
    project.many(3)
    with served(plugin, "lazy", environment={"MASKMILL_TOKEN": token}) as server:
        with pytest.raises(PipelineError, match="MASKMILL_TOKEN"):
            run(project, remote(server))
        with pytest.raises(PipelineError, match="MASKMILL_TOKEN"):
            run(project, remote(server, token="wrong-one"))
        report = run(project, remote(server, token="'${SAM_TOKEN}'"), workers=WORKERS, verbose=True)
    assert report.exit_code == 0
    out, err = capfd.readouterr()
    written = b"".join(path.read_bytes() for path in project.output.rglob("*") if path.is_file())
    assert token not in out + err + "".join(server.said)
    assert token.encode() not in written


def test_prompts_that_the_server_does_not_take_are_found_before_the_run(project, lazy_server):
    project.many(1)
    text = project.write(remote(lazy_server)).read_text(encoding="utf-8")
    project.file.write_text(text.replace("[{use: middle}]", "[{use: everything}]"), encoding="utf-8")
    problems = Pipeline.load(project.file).check()
    assert "'remote' takes box, points, and 'everything' gives everything" in str(problems[0])


def test_offline_refuses_servers_elsewhere_only(project, lazy_server):
    project.many(1)
    project.write(remote(lazy_server))
    assert Pipeline.load(project.file).check(offline=False) == []
    assert Pipeline.load(project.file).check(offline=True) == []


def test_the_pipeline_of_the_documentation_runs(tmp_path, capfd):
    pytest.importorskip("skimage")
    with Served("--backend", "grabcut") as server:
        options = [
            "--quiet",
            "-o",
            tmp_path / "out",
            "--set",
            f"backend.url={server.url}",
            "--set",
            "run.engine=inline",
        ]
        with pytest.raises(SystemExit) as ended:
            run_main([str(option) for option in (ROOT / "pipelines" / "remote.yaml", *options)])
    assert not ended.value.code, capfd.readouterr().err
    results = list(read_run(tmp_path / "out"))
    assert results
    assert all(result.status == "done" for result in results)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_masks_come_over_tls_from_a_server_whose_certificate_is_given(project, plugin):
    project.many(2)
    key, certificate = project.folder / "sam.key", project.folder / "sam.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    subprocess.run([*make.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    lines = ["--tls-cert", certificate, "--tls-key", key, "--token", "abc"]
    with Served("--backend", "lazy", "--plugins", plugin, *lines, ready=False) as server:
        assert server.url.startswith("https://")
        with pytest.raises(PipelineError, match="certificate"):
            run(project, remote(server, token="abc", patience=1))
        report = run(project, remote(server, token="abc", ca="sam.pem"), workers=WORKERS)
    assert report.exit_code == 0


@pytest.mark.slow
def test_the_whole_chain_on_two_machines(tmp_path, monkeypatch):
    """A Qwen model's boxes, masks of another machine."""
    pytest.importorskip("openai")
    pytest.importorskip("skimage")
    from qwen_wire import KEY, Wire

    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    with Wire() as wire, Served("--backend", "grabcut") as server:
        sets = [
            f"backend.url={server.url}",
            "prompts.0.provider=openai",
            f"prompts.0.base_url={wire.openai}",
            f"prompts.0.api_key={KEY}",
            "run.jobs=1",
        ]
        pipeline = Pipeline.load(ROOT / "pipelines/qwen_remote.yaml", sets=sets, output=tmp_path / "out")
        assert pipeline.run(quiet=True).exit_code == 0
    results = list(read_run(tmp_path / "out"))
    assert [result.status for result in results] == ["done", "done"]
    assert {mask.label for result in results for mask in result.kept} >= {"vehicle"}
    assert {mask.prompt.source for result in results for mask in result.kept} == {"qwen"}
