"""`maskmill annotate`: the images, the prompts file, the backend, and errors."""

import json
import socket
from pathlib import Path

import pytest
from annotate_kit import folder_of
from click.testing import CliRunner

from maskmill import Backend, DatasetError, MaskmillError, PipelineError, Problem, UsageError
from maskmill_plugins.annotate import command
from maskmill_plugins.annotate.command import annotate, find_task, list_images
from maskmill_plugins.server.command import find_free_port


def pipeline(folder: Path, *sources: dict) -> Path:
    file = folder / "p.yaml"
    content = {"dataset": "photos", "prompts": list(sources), "backend": "grabcut", "output": "out"}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_the_prompts_of_a_folder_are_saved_in_it(tmp_path):
    folder = folder_of(tmp_path / "照片", 2)
    work = find_task(folder, None, ())
    assert (work.name, work.prompts) == ("照片", folder / "prompts.jsonl")
    assert [ref.key for ref in list_images(work)] == ["000.png", "001.png"]
    assert find_task(folder, tmp_path / "x.jsonl", ()).prompts == tmp_path / "x.jsonl"


def test_the_prompts_of_a_pipeline_are_saved_where_it_reads_them(tmp_path):
    folder_of(tmp_path / "photos", 1)
    file = pipeline(tmp_path, {"use": "manual", "box": [1, 1, 2, 2]}, {"use": "file", "path": "mine/p.jsonl"})
    work = find_task(file, None, ())
    assert work.prompts == tmp_path / "mine" / "p.jsonl" and len(list_images(work)) == 1


def test_without_a_prompts_file_in_the_pipeline_they_are_saved_beside_it(tmp_path):
    folder_of(tmp_path / "photos", 1)
    file = pipeline(tmp_path, {"use": "manual", "box": [1, 1, 2, 2]})
    assert find_task(file, None, ()).prompts == tmp_path / "prompts.jsonl"


@pytest.mark.parametrize(
    "options", [{"path": "p.csv"}, {"path": "p.jsonl", "units": "relative"}, {"path": "p", "format": "csv"}]
)
def test_a_prompts_file_that_cannot_be_written_to_is_refused(tmp_path, options):
    folder_of(tmp_path / "photos", 1)
    with pytest.raises(UsageError, match="saved as jsonl in pixels"):
        find_task(pipeline(tmp_path, {"use": "file", **options}), None, ())


def test_a_prompts_file_that_a_batch_run_would_read_as_another_format_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not as csv"):
        find_task(tmp_path, tmp_path / "boxes.csv", ())


def test_a_missing_folder_and_a_folder_without_images_are_reported(tmp_path):
    with pytest.raises(UsageError, match="neither a folder nor a pipeline file"):
        find_task(tmp_path / "nothing", None, ())
    with pytest.raises(DatasetError, match="no image"):
        list_images(find_task(tmp_path, None, ()))


def test_for_an_unavailable_backend_grabcut_is_suggested(tmp_path, monkeypatch):
    def missing(self):
        return [Problem("needs the package 'torch'", hint='pip install "maskmill[sam]"')]

    monkeypatch.setattr(Backend, "missing", missing)
    folder = folder_of(tmp_path / "p", 1)
    outcome = CliRunner().invoke(annotate, [str(folder), "--no-browser"])
    assert isinstance(outcome.exception, PipelineError)
    assert "maskmill[sam]" in str(outcome.exception) and "--backend grabcut" in str(outcome.exception)
    assert not (folder / "prompts.jsonl").exists()


def test_beyond_loopback_a_token_is_generated_and_put_into_the_address(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(command, "_serve", lambda session, chosen: seen.update(token=session.service.settings.token))
    monkeypatch.delenv("MASKMILL_TOKEN", raising=False)
    folder = str(folder_of(tmp_path / "p", 1))
    for host, made in (("127.0.0.1", False), ("0.0.0.0", True)):
        outcome = CliRunner().invoke(annotate, [folder, "--backend", "grabcut", "--host", host])
        assert outcome.exception is None or not isinstance(outcome.exception, MaskmillError), outcome.exception
        assert bool(seen["token"]) == made


def test_the_port_is_the_same_at_every_start_unless_it_is_in_use():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert find_free_port("127.0.0.1", port) == 0
    assert find_free_port("127.0.0.1", port) == port
