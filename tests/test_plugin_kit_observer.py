"""The observer hooks, shown by the example in docs/examples."""

import json
import re
from pathlib import Path

import pytest

from maskmill import Pipeline, testing

EXAMPLE = Path(__file__).parent.parent / "docs/examples/diary.py"
PIPELINE = """
dataset: photos
prompts: [fake-source]
backend: fake-backend
writers: [fake-writer]
output: out
run: {jobs: 2}
"""


@pytest.fixture(params=["inline"])
def pipeline(tmp_path, request):
    testing.write_pictures(tmp_path / "photos")
    (tmp_path / "photos" / "坏.png").write_bytes(b"no picture")
    (tmp_path / "fakes.py").write_text(testing.DROP_IN, encoding="utf-8")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/diary.py").write_bytes(EXAMPLE.read_bytes())
    (tmp_path / "p.yaml").write_text(PIPELINE, encoding="utf-8")
    return Pipeline.load(tmp_path / "p.yaml", plugins=[tmp_path / "fakes.py"], sets=[f"run.engine={request.param}"])


def diary(tmp_path):
    return [json.loads(line) for line in (tmp_path / "diary.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("pipeline", ["inline", "joblib"], indirect=True)
def test_the_example_keeps_a_diary_of_runs(tmp_path, pipeline, capsys):
    pipeline.run(quiet=True)
    assert "diary: 坏.png failed: " in capsys.readouterr().err
    pipeline.run(quiet=True)
    first, second = diary(tmp_path)
    assert (first["name"], first["outcome"], first["ran"]) == ("p", "finished", 7)
    assert (first["masks"], first["labels"], first["failed"]) == (12, ["thing", "猫"], ["坏.png"])
    assert first["counts"] == {"done": 6, "failed": 1}
    assert (second["ran"], second["masks"], second["counts"]) == (0, 0, first["counts"])


def test_the_example_keeps_the_contract():
    assert testing.problems(EXAMPLE) == []


def test_every_hook_sees_its_moment(tmp_path, pipeline):
    observer = testing.FakeObserver()
    pipeline.config.registry.add(observer, "test")
    pipeline.run(quiet=True, limit=3)
    (first, *images, last) = observer.seen
    assert first == ("run_started", "p")
    assert last == ("run_finished", "finished")
    assert len(images) == 3
    assert {hook for hook, _ in images} == {"image_finished"}


def test_an_observer_that_raises_is_named_and_the_run_goes_on(tmp_path, pipeline, capsys):
    text = (
        "from maskmill import hookimpl\n@hookimpl\ndef image_finished(result):\n    raise ValueError(result.status)\n"
    )
    (tmp_path / "bad.py").write_text(text, encoding="utf-8")
    plugins = [tmp_path / "fakes.py", tmp_path / "bad.py"]
    report = Pipeline.load(tmp_path / "p.yaml", plugins=plugins, sets=["run.engine=inline"]).run()
    assert report.counts["done"] == 6
    assert re.search(r"^plugin \S+\.py: image_finished raised ValueError: done$", capsys.readouterr().err, re.MULTILINE)
