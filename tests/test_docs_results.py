"""docs/results.md is correct: its commands and options exist, its code runs."""

import re
import shlex
from pathlib import Path

import click
import pytest
from stored_runs import project, run

from maskmill.cli import cli
from maskmill.cli.run import command as run_command
from maskmill.results import DOUBTS

PAGE = (Path(__file__).parent.parent / "docs/results.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.+)$", PAGE, re.MULTILINE)
OPTIONS = ("export", "merge", "evaluate", "compare", "explain")


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one(line):
    name, *words = shlex.split(line, comments=True)
    command = run_command
    if name == "maskmill":
        command = cli.get_command(click.Context(cli), words.pop(0))
    assert command is not None
    command.make_context(name, words, resilient_parsing=False).close()


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_the_page_names_exist(name):
    command = cli.get_command(click.Context(cli), name)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    section = re.search(rf"^## .*{name}\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)[1]
    prose = re.sub(r"^```.*?^```$", "", section, flags=re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"`(--?[a-z-]+)", prose)) - {"--set"}
    assert named
    assert named <= known


def test_the_table_of_doubts_is_that_of_the_code():
    section = re.search(r"^## Doubts\n(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)[1]
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+) \|$", section, re.MULTILINE)
    assert {code: meaning for code, meaning, _ in rows} == dict(DOUBTS)
    assert all(re.match(r"(no|yes)[,:] ", fails) for *_, fails in rows)


def test_the_code_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(project(tmp_path, ["street/a.jpg"], writers="[]"), "outputs/mine")
    exec(re.search(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1], {})
    assert "street/a.jpg thing 1.0" in capsys.readouterr().out
