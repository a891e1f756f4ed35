"""`--log-json`: whatever happens, every line of the standard error is an event. `--json` of check and status."""

import json
import os
import signal
import subprocess
import sys

import pytest

from maskmill.cli import main as maskmill_main
from maskmill.cli.json_stderr import to_event, wants_json
from maskmill.cli.run import main as run_main
from maskmill.output.folder import claim
from maskmill.run import driver

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
#: A plugin that prints, and a library that writes to the descriptor itself.
NOISE = '        print("无 JSON", file=__import__("sys").stderr); os.write(2, b"raw\\n")\n'


def start(project, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "maskmill", "run", str(project.file), "--log-json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},
    )


def parse(stderr):
    events = [json.loads(line) for line in stderr.splitlines()]
    assert all(event["time"] > 1e9 for event in events)
    return events


def run_here(capsys, main, *arguments):
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return raised.value.code or 0, said.out, parse(said.err.lstrip("\n"))  # click ends the line of a ^C


def test_a_run_is_told_from_start_to_end(project):
    path = project.folder / "plugins" / "fakes.py"
    source = path.read_text(encoding="utf-8")
    opened = "    def open(self):\n"
    path.write_text(source.replace(opened, opened + NOISE), encoding="utf-8")
    project.write(run="{engine: joblib, jobs: 1}")
    project.photos("图.png", "raise.png")
    process = start(project)
    out, err = process.communicate(timeout=120)
    events = parse(err)
    assert process.returncode == 1
    assert out.startswith("2 images: 1 done, 1 failed"), "the summary in words is on standard output"
    assert {event["key"]: event["status"] for event in events if event["event"] == "image"} == {
        "图.png": "done",
        "raise.png": "failed",
    }
    (begun,) = [event for event in events if event["event"] == "start"]
    assert (begun["images"], begun["jobs"], begun["name"]) == (2, 1, "p")
    assert {"无 JSON", "raw"} <= {event.get("text") for event in events}
    end = events[-1]
    assert (end["event"], end["exit_code"], end["outcome"]) == ("end", 1, "finished")
    assert (end["counts"]["failed"], end["work"], end["remaining"]) == (1, {"new": 2}, 0)


@POSIX
def test_an_interrupted_run_ends_with_an_event(project):
    project.write("{use: slow, seconds: 0.3}", run="{engine: joblib, jobs: 1}")
    project.many(30)
    process = start(project)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if json.loads(line)["event"] == "image":
            process.send_signal(signal.SIGINT)
            break
    lines += process.stderr.readlines()
    process.communicate(timeout=120)
    events = parse("".join(lines))
    assert process.returncode == 130
    assert any("press Ctrl-C again" in event.get("text", "") for event in events)
    end = events[-1]
    assert (end["event"], end["outcome"], end["exit_code"]) == ("end", "interrupted", 130)
    assert end["remaining"] == 30 - end["ran"] > 0


def test_success_has_no_other_lines(project, capsys):
    project.photos("a.png")
    code, _, events = run_here(capsys, run_main, project.file, "--log-json")
    assert (code, events[-1]["event"], events[-1]["exit_code"]) == (0, "end", 0)


@pytest.mark.parametrize(
    ("arguments", "text"),
    {
        "a wrong pipeline": (["--set", "backend.sed=1"], "sed"),
        "an unknown option": (["--nope"], "No such option '--nope'"),
        "another backend": (["--set", "backend.model=b"], "made with another backend"),
        "the dry run": (["--set", "backend.model=b", "--dry-run"], "made with another backend"),
    }.values(),
    ids=str,
)
def test_an_error_before_the_start_is_an_event(project, capsys, arguments, text):
    project.photos("a.png")
    if "backend.model=b" in arguments:
        run_here(capsys, run_main, project.file, "--log-json")
    code, out, events = run_here(capsys, run_main, project.file, "--log-json", *arguments)
    assert (code, out, events[-1]["event"], events[-1]["exit_code"]) == (2, "", "error", 2)
    assert text in events[-1]["text"]


def test_an_output_in_use_has_its_own_exit_code(project, capsys):
    project.photos("a.png")
    with claim(project.output):
        code, _, events = run_here(capsys, run_main, project.file, "--log-json")
    assert (code, events[-1]["exit_code"]) == (75, 75)
    assert events[-1]["problems"][0]["message"].startswith("another run is using")


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt(), 130), (RuntimeError("a bug"), 1)], ids=repr)
def test_what_nobody_expects_is_an_event_too(project, capsys, monkeypatch, raised, code):
    project.photos("a.png")

    def fail(*arguments):
        raise raised

    monkeypatch.setattr(driver, "count_first_images", fail)
    got, _, events = run_here(capsys, run_main, project.file, "--log-json")
    assert (got, events[-1]["event"], events[-1]["exit_code"]) == (code, "error", code)


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b'{"time": 1.5, "event": "end"}\r\n', {"time": 1.5, "event": "end"}),
        (b'{"time": 1.5, "ev', {"event": "message", "text": '{"time": 1.5, "ev'}),
        (b"100%\xff|##|\r\n", {"event": "message", "text": "100%\ufffd|##|"}),
    ],
)
def test_every_line_becomes_an_event(line, event):
    found = json.loads(to_event(line))
    assert {**found, **event} == found


def test_the_option_counts_wherever_it_stands():
    assert wants_json(["run", "p.yaml", "--log-json"])
    assert not wants_json(["run", "--", "--log-json"])


def test_status_as_json(project, capsys):
    project.photos("a.png", "raise-1.png", "raise-2.png")
    run_here(capsys, run_main, project.file, "--log-json")
    code, out, _ = run_here(capsys, maskmill_main, "status", project.output, "--json")
    state = json.loads(out)
    assert (code, state["outcome"], state["running"], state["counts"]["failed"]) == (0, "finished", False, 2)
    (failed,) = state["failures"]
    assert failed == {
        "status": "failed",
        "stage": "filters",
        "plugin": "chaos",
        "message": "RuntimeError: as told",
        "count": 2,
        "keys": ["raise-1.png", "raise-2.png"],
        "hosts": {},
    }
    assert state["continue"] is None and state["retry"].endswith("--retry-failed")


def test_status_shows_what_a_run_will_make_of_a_damaged_ledger(project, capsys):
    project.photos("a.png", "raise.png")
    run_here(capsys, run_main, project.file, "--log-json")
    (project.output / "ledger.sqlite").write_bytes(b"no ledger")
    code, out, _ = run_here(capsys, maskmill_main, "status", project.output)
    assert code == 0
    assert "was damaged (file is not a database); a run makes it anew from 2 stored results" in out
    assert "\n1 done, 1 failed\n" in out
    assert (project.output / "ledger.sqlite").read_bytes() == b"no ledger"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [([], 0, None), (["--set", "backend.sed=1"], 2, "'sed'"), (["-o", "photos/out"], 2, "lies inside the dataset")],
    ids=["valid", "an unknown option", "a problem of the check"],
)
def test_check_as_json(project, capsys, monkeypatch, arguments, code, message):
    project.photos("a.png")
    monkeypatch.chdir(project.folder)
    got, out, _ = run_here(capsys, maskmill_main, "check", "p.yaml", "--json", *arguments)
    content = json.loads(out)
    assert (got, content["valid"]) == (code, code == 0)
    if message is None:
        assert content["problems"] == [] and content["pipeline"]["backend"]["use"] == "slow"
    else:
        assert message in content["problems"][0]["message"]
        assert content["problems"][0].keys() == {"message", "file", "line", "column", "hint", "warning"}
