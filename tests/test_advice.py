"""What a command says: advice that works when pasted, the command that was meant, streams that are closed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from maskmill import Pipeline, Run
from maskmill.cli import main as maskmill_main
from maskmill.cli.run import _repeat_command, main as run_main
from maskmill.output.records import add_option

POSIX = pytest.mark.skipif(os.name != "posix", reason="descriptors of a POSIX shell")


def exit_code(main, *arguments):
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    return raised.value.code or 0


def advice(said: str, start: str) -> list[str]:
    """The command in the line that begins so, as a shell reads it."""
    (line,) = [line for line in said.splitlines() if start in line]
    return shlex.split(line.partition(": ")[2])


@pytest.fixture
def typed(monkeypatch):
    """Runs a command as if it had been typed."""

    def start(*arguments):
        words = [str(argument) for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["/usr/bin/run-pipeline", *words])
        return exit_code(run_main, *words)

    return start


# ---- the end of a run


def test_the_advice_after_failures_repeats_the_command(project, typed, capsys, tmp_path):
    project.photos("a.png", "sub/raise-1.png", "sub/b c.png")
    output = tmp_path / "an output"
    given = [project.file, "--only", "sub/*", "-o", output, "--fresh", "--limit=5", "--set", "name=a #1"]
    assert typed(*given) == 1
    again = advice(capsys.readouterr().err, "To retry them")
    assert again == ["run-pipeline", *map(str, given[:5]), "--limit=5", "--set", "name=a #1", "--retry-failed"]
    assert typed(*again[1:]) == 1
    assert "2 images" in capsys.readouterr().err


def test_after_a_limit_it_says_how_many_remain(project, typed, capsys):
    project.many(7)
    assert typed(project.file, "--limit", 2) == 0
    said = capsys.readouterr().out
    assert "5 images remain beyond the limit; to process them: run-pipeline" in said
    rest = advice(said, "remain beyond the limit")
    assert rest == ["run-pipeline", str(project.file)]
    assert typed(project.file, "--limit", 6) == 0
    assert "1 image remains beyond the limit" in capsys.readouterr().out
    assert typed(*rest[1:]) == 0
    assert "remain" not in capsys.readouterr().out
    assert typed(project.file, "--limit", 2) == 0
    assert "remain" not in capsys.readouterr().out


def test_after_a_limit_on_chosen_images_these_remain(project, typed, capsys):
    project.photos("a.png", "sub/b.png", "sub/c.png")
    assert typed(project.file, "--limit", 1, "--only", "sub/*") == 0
    said = capsys.readouterr().out
    assert "1 image remains" in said
    assert advice(said, "remains beyond") == ["run-pipeline", str(project.file), "--only", "sub/*"]


COMMANDS = {
    "as typed": (["p.yaml", "my photos"], "run-pipeline p.yaml 'my photos'"),
    "once": (["p.yaml", "--fresh", "--retry-failed", "-q"], "run-pipeline p.yaml -q"),
    "once, with a value": (["--retry-doubtful", "clipped", "p.yaml", "--retry-doubtful=x"], "run-pipeline p.yaml"),
    "after --": (["--", "p.yaml", "--fresh"], "run-pipeline -- p.yaml --fresh"),
}


@pytest.mark.parametrize(("typed", "repeated"), COMMANDS.values(), ids=COMMANDS)
def test_the_command_to_repeat(monkeypatch, typed, repeated):
    monkeypatch.setattr(sys, "argv", ["run-pipeline", *typed])
    assert _repeat_command() == repeated


def test_the_command_to_repeat_of_python_m(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/x/maskmill/__main__.py", "run", "p.yaml"])
    assert _repeat_command() == f"{shlex.quote(sys.executable)} -m maskmill run p.yaml"


def test_an_option_stands_before_the_end_of_the_options():
    assert add_option("run-pipeline p.yaml", "--retry-failed") == "run-pipeline p.yaml --retry-failed"
    assert add_option("run-pipeline -- -p.yaml", "--retry-failed") == "run-pipeline --retry-failed -- -p.yaml"


def test_a_run_from_python_names_the_command_that_goes_on(project, typed, capsys, monkeypatch):
    monkeypatch.chdir(project.folder.parent)
    project.photos("sub/a.png", "sub/raise b.png")
    Pipeline.load(project.file, dataset=(f"{project.folder.name}/photos",)).run(quiet=True, only="sub/*", limit=2)
    with Run(project.output) as run:
        command = shlex.split(run.about["command"])
    photos = Path.cwd() / project.folder.name / "photos"
    assert command[:5] == ["run-pipeline", str(project.file), str(photos), "-o", str(project.output)]
    assert command[5:] == ["--only", "sub/*", "--limit", "2"]
    assert typed(*command[1:], "--retry-failed") == 1
    assert "1 failed" in capsys.readouterr().err


# ---- slips


@pytest.mark.parametrize(("main", "name"), [(run_main, "run-pipeline"), (maskmill_main, "maskmill")])
def test_version(main, name, capsys):
    assert exit_code(main, "--version") == 0
    assert "version" in capsys.readouterr().out


SLIPS = {
    "stauts": "Did you mean '{} status'?",
    "chekc": "Did you mean '{} check'?",
    "exprot": "Did you mean '{} export'?",
    "plugins lsit": "Did you mean '{} plugins list'?",
    "weights pul": "Did you mean '{} weights pull'?",
    "p.yaml": "To run a pipeline file: run-pipeline p.yaml",
    "zzzzzz": "No such command 'zzzzzz'.",
}


@pytest.mark.parametrize(("slip", "said"), SLIPS.items(), ids=SLIPS)
def test_a_slip_in_a_name_offers_the_nearest(slip, said, capsys):
    assert exit_code(maskmill_main, *slip.split(), *(["x"] if slip == "stauts" else [])) == 2
    assert said.partition("{} ")[2] in capsys.readouterr().err


# ---- streams


def shell(line: str, *words: object) -> subprocess.CompletedProcess[str]:
    maskmill = f"{shlex.quote(sys.executable)} -m maskmill"
    text = line.format(maskmill, *(shlex.quote(str(word)) for word in words))
    command = ["bash", "-c", f"set -o pipefail; {text}"]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)


CLOSED = {
    "no standard output": "{} run {} >&-",
    "no standard error": "{} run {} 2>&-",
    "none": "{} run {} <&- >&- 2>&-",
    "a reader that goes": "{} run {} 2>&1 | true",
    "only the errors' reader": "{} run {} 2> >(true)",
}


@POSIX
@pytest.mark.parametrize("line", CLOSED.values(), ids=CLOSED)
def test_a_run_without_streams_does_its_work(project, line):
    project.many(3)
    done = shell(line, project.file)
    assert (done.returncode, "Traceback" in done.stderr, "BrokenPipe" in done.stderr) == (0, False, False)
    assert len(list(project.output.glob("results/*.json"))) == 3


@POSIX
@pytest.mark.parametrize("line", ["{} check {} | true", "{} check {} >&-", "{} plugins list | head -1"])
def test_other_commands_end_quietly_too(project, line):
    project.photos("a.png")
    done = shell(line, project.file)
    assert (done.returncode, done.stderr) == (0, "")
