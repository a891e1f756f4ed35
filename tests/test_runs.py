"""`maskmill.Run`: reading what a run left."""

from __future__ import annotations

import json

import pytest

import maskmill
from maskmill import OutputError, Pipeline, Run
from maskmill.testing import DROP_IN, write_pictures

PIPELINE = """
dataset: photos
prompts: [{use: fake-source}]
backend: {use: fake-backend}
writers: [{use: seer}]
output: out
run: {engine: inline}
"""
SEER = """
from maskmill import Writer, hookimpl, save
from maskmill.plugins.stage import run_folder


class Seer(Writer):
    takes = ("done", "empty", "failed", "quarantined")

    def finish(self, results, folder):
        lines = [f"{result.key} {result.status}" for result in results]
        return [save(folder, "seen.txt", "\\n".join([run_folder().name, *lines]).encode())]


@hookimpl
def register_writers(register):
    register("seer", Seer)
"""


@pytest.fixture
def output(tmp_path):
    write_pictures(tmp_path / "photos")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "fakes.py").write_text(f"import maskmill\n{DROP_IN}", encoding="utf-8")
    (tmp_path / "plugins" / "seer.py").write_text(SEER, encoding="utf-8")
    (tmp_path / "x.yaml").write_text(PIPELINE, encoding="utf-8")
    Pipeline.load(tmp_path / "x.yaml").run(quiet=True)
    return tmp_path / "out"


def test_a_writer_sees_the_statuses_that_it_takes_and_the_output_folder(output):
    name, *lines = (output / "seer" / "seen.txt").read_text(encoding="utf-8").splitlines()
    assert name == "out"
    assert "broken.png failed" in lines
    assert len(lines) == sum(Run(output).counts().values())


def test_a_run_gives_its_counts_rows_results_and_what_its_stages_took(output):
    with Run(output) as run:
        assert run.counts()["failed"] == 1
        assert [result.key for result in run.results()] == [row.key for row in run.rows(("done", "empty"))]
        assert run.row("broken.png").attempts == 1
        assert run.row("nowhere.png") is None
        assert set(run.stage_seconds()) >= {"read", "prompts", "backend", "writers"}
        assert run.about["outcome"] == "finished"


def test_the_seconds_of_the_stages_add_up_over_runs(output):
    with Run(output) as run:
        before = run.stage_seconds()["read"]
    for path in (output.parent / "photos").glob("*.jpg"):
        path.touch()
    Pipeline.load(output.parent / "x.yaml").run(quiet=True, verify=True)
    with Run(output) as run:
        assert run.stage_seconds()["read"] >= before


def test_results_say_which_versions_made_their_masks(output):
    versions = {json.dumps(result.provenance["versions"]) for result in maskmill.read_run(output)}
    assert len(versions) == 1
    assert "numpy" in versions.pop()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(OutputError, match="not the output folder of a run"):
        Run(tmp_path)
