"""Doubts: results that are kept although something about them may be wrong."""

import json

import pytest

from maskmill import Pipeline, PipelineError, read_run
from maskmill.cli import main
from maskmill.stored.merge import merge

SOURCE = '''
from pathlib import Path
from maskmill import Box, Prompt, PromptSource, hookimpl


class Unsure(PromptSource):
    """One box; doubts the images whose name says so, and counts its calls in a file."""

    waits: bool = False
    log: str = ""

    def prompts(self, image):
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{image.ref.key}\\n")
        for code in ("truncated", "conflict"):
            if code in image.ref.key:
                self.doubt(code, f"{code}, for a test")
        return [Prompt(box=Box(5, 5, 20, 20), label="thing")]


class Waiting(Unsure):
    """The same in the prompt lane."""


Waiting.waits = True


@hookimpl
def register_prompt_sources(register):
    register("unsure", Unsure)
    register("waiting", Waiting)
'''


@pytest.fixture(params=["unsure", "waiting"])
def unsure(request, project):
    """A project whose source doubts images by their names, in the worker or in the prompt lane."""
    (project.folder / "plugins" / "unsure.py").write_text(SOURCE.replace("    waits: bool = False\n", ""), "utf-8")
    engine = "inline" if request.param == "unsure" else "joblib"

    def write(run="", extra=""):
        project.write(run=f"{{engine: {engine}, jobs: 1{run}}}", extra=extra)
        text = project.file.read_text(encoding="utf-8")
        log = (project.folder / "log").as_posix()
        text = text.replace("[{use: middle}]", f"[{{use: {request.param}, log: '{log}'}}]")
        project.file.write_text(text, encoding="utf-8")

    project.rewrite = write
    write()
    project.photos("a.png", "b-truncated.png", "c-conflict-truncated.png")
    return project


def run(project, **request):
    return Pipeline.load(project.file).run(quiet=True, **request)


def asked(project):
    return (project.folder / "log").read_text(encoding="utf-8").split()


def test_doubts_are_counted_alike_everywhere(unsure, capsys):
    report = run(unsure)
    assert (report.doubtful, report.doubts, report.exit_code) == (2, {"truncated": 2, "conflict": 1}, 0)
    about = json.loads((unsure.output / "run.json").read_text(encoding="utf-8"))
    assert (about["doubtful"], about["doubts"]) == (2, {"truncated": 2, "conflict": 1})
    with pytest.raises(SystemExit, match="0"):
        main(["status", str(unsure.output)])
    shown = capsys.readouterr().out
    assert "2 doubtful (truncated)" in shown
    assert "b-truncated.png, c-conflict-truncated.png" in shown
    found = {result.key: [doubt.code for doubt in result.doubts] for result in read_run(unsure.output)}
    assert found == {
        "a.png": [],
        "b-truncated.png": ["truncated"],
        "c-conflict-truncated.png": ["truncated", "conflict"],
    }


def test_doubts_stay_when_stored_masks_are_reused(unsure):
    run(unsure)
    text = unsure.file.read_text(encoding="utf-8")
    unsure.file.write_text(text.replace("writers: [", "writers: [{use: areas}, "), encoding="utf-8")
    report = run(unsure)
    assert len(asked(unsure)) == 3
    assert report.doubts == {"truncated": 2, "conflict": 1}


def test_fail_on_fails_images_and_taking_it_back_makes_them_again(unsure):
    run(unsure)
    unsure.rewrite(run=", fail_on: [conflict]")
    report = run(unsure)
    assert unsure.statuses() == {"a.png": "done", "b-truncated.png": "done", "c-conflict-truncated.png": "failed"}
    assert (report.exit_code, report.doubts) == (1, {"truncated": 1})
    assert unsure.failures()["c-conflict-truncated.png"]["message"] == "conflict: conflict, for a test"
    assert run(unsure).ran == 0
    unsure.rewrite()
    report = run(unsure)
    assert (report.ran, report.exit_code, report.doubts) == (1, 0, {"truncated": 2, "conflict": 1})


def test_doubtful_images_are_made_again_from_the_start(unsure):
    run(unsure)
    report = run(unsure, retry_doubtful=("conflict",))
    assert report.ran == 1
    assert asked(unsure)[3:] == ["c-conflict-truncated.png"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--fail-on", "truncatd"], "unknown doubt code 'truncatd'; did you mean 'truncated'?"),
        (["--retry-doubtful", "x"], "unknown doubt code 'x'"),
    ],
    ids=["fail_on", "retry"],
)
def test_an_unknown_code_on_the_command_line(project, capsys, arguments, text):
    project.photos("a.png")
    with pytest.raises(SystemExit, match="2"):
        main(["run", str(project.file), *arguments])
    assert text in capsys.readouterr().err


def test_an_unknown_code_in_the_pipeline_file(project):
    project.write(run="{engine: inline, fail_on: [truncatd]}")
    with pytest.raises(PipelineError) as caught:
        Pipeline.load(project.file)
    assert "p.yaml:8:33: fail_on.0: unknown doubt code 'truncatd'; did you mean 'truncated'?" in str(caught.value)


def told(capsys, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code, capsys.readouterr()


def test_explain_shows_the_doubts_of_an_image(unsure, capsys):
    run(unsure)
    _, shown = told(capsys, "explain", unsure.output, "c-conflict-truncated.png")
    assert "  doubtful (conflict, prompts " in shown.out
    _, shown = told(capsys, "explain", unsure.output, "c-conflict-truncated.png", "--json")
    doubts = json.loads(shown.out)["doubts"]
    assert [(doubt["code"], doubt["message"]) for doubt in doubts] == [
        ("truncated", "truncated, for a test"),
        ("conflict", "conflict, for a test"),
    ]
    _, shown = told(capsys, "explain", unsure.output, "a.png", "--json")
    assert json.loads(shown.out)["doubts"] == []


def test_failures_name_the_doubts_that_made_them(unsure):
    unsure.rewrite(run=", fail_on: [conflict]")
    run(unsure)
    failure = unsure.failures()["c-conflict-truncated.png"]
    assert [doubt["code"] for doubt in failure["doubts"]] == ["truncated", "conflict"]


def test_the_log_names_the_doubts_of_each_image(unsure, capsys):
    Pipeline.load(unsure.file).run(log_json=True)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert {event["key"]: event["doubts"] for event in events if event["event"] == "image"} == {
        "a.png": [],
        "b-truncated.png": ["truncated"],
        "c-conflict-truncated.png": ["conflict", "truncated"],
    }


def test_doubts_survive_a_merge_and_an_export(unsure, tmp_path, capsys):
    outputs = [tmp_path / "one", tmp_path / "two"]
    for output, only in zip(outputs, ("[ab]*", "c*"), strict=True):
        Pipeline.load(unsure.file, output=output).run(quiet=True, only=only)
    code, shown = told(capsys, "merge", *outputs, "-o", tmp_path / "merged")
    assert code == 0
    assert "doubtful: 2 truncated, 1 conflict" in shown.out
    found = {result.key: {doubt.code for doubt in result.doubts} for result in read_run(tmp_path / "merged")}
    assert found["c-conflict-truncated.png"] == {"truncated", "conflict"}
    about = json.loads((tmp_path / "merged" / "run.json").read_text(encoding="utf-8"))
    assert (about["doubtful"], about["doubts"]) == (2, {"truncated": 2, "conflict": 1})
    _, shown = told(capsys, "status", tmp_path / "merged")
    assert "2 doubtful (truncated)" in shown.out
    code, shown = told(capsys, "export", tmp_path / "merged", "--to", "png")
    assert code == 0
    assert "doubtful among them: 2 truncated, 1 conflict" in shown.out


def test_a_merge_does_not_drop_the_doubt_of_one_run(unsure, tmp_path, capsys):
    outputs = [tmp_path / "one", tmp_path / "two"]
    for output in outputs:
        Pipeline.load(unsure.file, output=output).run(quiet=True, only="b*")
    assert merge(outputs, tmp_path / "same").doubts == {"truncated": 1}
    stored = outputs[0] / "results" / "b-truncated.png.json"
    data = json.loads(stored.read_bytes())
    del data["doubts"]
    stored.write_text(json.dumps(data), encoding="utf-8")
    code, shown = told(capsys, "merge", *outputs, "-o", tmp_path / "merged")
    assert code == 2
    assert "the runs have different results for 1 image" in shown.err
