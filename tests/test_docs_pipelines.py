"""docs/pipelines.md is correct: its tables match the code, its examples load."""

import contextlib
import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest

from maskmill import PipelineError, testing
from maskmill.api import Pipeline
from maskmill.cli import cli
from maskmill.cli.run import command as run_command
from maskmill.config.load import load_config
from maskmill.dataset.dataset import Dataset
from maskmill.plugins.registry import BUILT_IN, Registry
from maskmill_plugins.backends.sam.weights.published import MODELS
from maskmill_plugins.prompts.file import File

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/pipelines.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
#: Required keys that an example leaves out.
REST = {
    "dataset": "dataset: photos",
    "prompts": "prompts: [{use: manual, box: [1, 1, 9, 9]}]",
    "backend": "backend: grabcut",
    "output": "output: out",
}
SLIPS = re.findall(r"^\| `(.+?)` \| (.+?) \| `(.+?)` \|$", PAGE.split("## YAML")[1].split("\n## ")[0], re.MULTILINE)


def blocks(language):
    return [text for name, text in BLOCKS if name == language]


def examples():
    """The YAML examples; those with the default backend need torch and weights."""
    for number, text in enumerate(blocks("yaml")):
        marks = [pytest.mark.torch] if "sam" in text or "extends:" in text else []
        name = text.splitlines()[1 if text.startswith("#") else 0].split("#")[0].strip()
        yield pytest.param(text, marks=marks, id=f"{number}-{name}")


def completed(text):
    keys = re.findall(r"^(\w+)", text, re.MULTILINE)
    return "\n".join([text, *(line for key, line in REST.items() if key not in keys)])


def make_tables():
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs/make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the examples refer to; files shown on the page are taken from it."""
    for name in ("photos/a.jpg", "photos/sub/b.png", "more photos/c.png", "root/street/d.jpg"):
        testing.write_picture(tmp_path / name)
    listed = next(text for text in blocks("csv") if "x1" not in text)
    (tmp_path / "list.csv").write_text(listed, encoding="utf-8")
    (tmp_path / "prompts.jsonl").write_text(blocks("jsonl")[0], encoding="utf-8")
    base = next(text for text in blocks("yaml") if text.startswith("# base.yaml"))
    (tmp_path / "base.yaml").write_text(base, encoding="utf-8")
    (tmp_path / "weights").mkdir()
    for model in MODELS.values():
        (tmp_path / "weights" / model.file).touch()
    monkeypatch.setenv("PHOTO_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv("WEIGHTS", str(tmp_path / "weights" / MODELS["vit_b"].file))
    return tmp_path


def test_the_tables_are_those_of_the_code():
    assert make_tables().update_tables(PAGE) == PAGE, "run: python docs/make_tables.py"


def test_a_changed_table_is_noticed():
    assert make_tables().update_tables(PAGE.replace("| `0.75` |", "| `0.5` |")) == PAGE
    assert "| `0.75` |" in PAGE


def test_every_built_in_plugin_is_described():
    entries = [entry for entry in Registry.load().entries.values() if entry.origin == BUILT_IN]
    shown = re.findall(r"<!-- table: (.+?) -->", PAGE)
    described = {entry.cls for entry in entries if f"{entry.role} {entry.name}" in shown}
    for entry in entries:
        assert entry.cls in described or not entry.cls.model_fields, f"a table for the {entry.role} {entry.name}"
        assert f"`{entry.name}`" in PAGE or f"### {entry.name}\n" in PAGE


@pytest.mark.parametrize("text", list(examples()))
def test_every_example_loads_and_passes_the_check(folder, text):
    file = folder / "p.yaml"
    file.write_text(completed(text), encoding="utf-8")
    problems = Pipeline(load_config(file)).check()
    assert [str(problem) for problem in problems if "will be downloaded" not in problem.message] == []


@pytest.mark.parametrize(("slip", "happens", "instead"), SLIPS, ids=[slip for slip, _, _ in SLIPS])
def test_what_the_page_says_of_yaml(tmp_path, monkeypatch, slip, happens, instead):
    monkeypatch.setenv("X", "photos")

    def load(line):
        (tmp_path / "p.yaml").write_text(completed(line), encoding="utf-8")
        return load_config(tmp_path / "p.yaml")

    meant = load(instead)
    if happens.startswith("refused"):
        with pytest.raises(PipelineError):
            load(slip)
    elif slip == instead:
        assert meant
    else:
        assert load(slip) != meant


@pytest.mark.parametrize("first", "*&!@%")
def test_a_text_cannot_begin_with_a_sign(tmp_path, first):
    (tmp_path / "p.yaml").write_text(completed(f"name: {first}cup"), encoding="utf-8")
    with pytest.raises(PipelineError):
        load_config(tmp_path / "p.yaml")


def test_yaml_values_are_what_the_page_says(tmp_path):
    text = "name: no\nrun: {timeout: 1e3, jobs: 010}"
    (tmp_path / "p.yaml").write_text(completed(text), encoding="utf-8")
    config = load_config(tmp_path / "p.yaml")
    assert (config.name, config.run.timeout, config.run.jobs) == ("no", 1000, 10)
    (tmp_path / "p.yaml").write_text(completed("name: 2024-05-01"), encoding="utf-8")
    assert load_config(tmp_path / "p.yaml").name == "2024-05-01"
    (tmp_path / "p.yaml").write_text(completed("name: cup #2"), encoding="utf-8")
    assert load_config(tmp_path / "p.yaml").name == "cup"


@pytest.mark.parametrize(
    ("name", "text"),
    [("prompts.jsonl", text) for text in blocks("jsonl")]
    + [("prompts.csv", text) for text in blocks("csv") if "x1" in text],
    ids=lambda value: value if "\n" not in value else "",
)
def test_the_prompts_files_are_right(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    source = File.from_options({"path": name}, tmp_path)
    assert source.check() == []
    assert source.prompts(testing.image(key="sub/b.png")) == []
    assert source.prompts(testing.image(key="elsewhere.png")) is None
    cars, person = source.prompts(testing.image(240, 320, key="a.jpg"))
    assert (cars.label, cars.box.xyxy, person.label) == ("车辆", (20, 30, 200, 180), "person")


@pytest.mark.parametrize(
    ("name", "text", "keys"),
    [
        ("list.txt", next(text for text in blocks("text") if "photos/" in text), ["photos/a.jpg", "photos/sub/b.png"]),
        ("list.csv", next(text for text in blocks("csv") if "x1" not in text), ["first/a.jpg", "photos/sub/b.png"]),
        ("list.jsonl", blocks("json")[0], ["first/a.jpg", "photos/sub/b.png"]),
    ],
    ids=["txt", "csv", "jsonl"],
)
def test_the_lists_are_right(folder, name, text, keys):
    (folder / name).write_text(text, encoding="utf-8")
    dataset = Dataset((name,), folder)
    assert dataset.check() == []
    assert [ref.key for ref in dataset] == keys
    assert all(ref.path.is_file() for ref in dataset)


@pytest.mark.parametrize("page", ["docs/pipelines.md", "README.md", "README.zh-CN.md"])
def test_the_commands_shown_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = re.findall(r"^```(?:bash|console|powershell)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line.removeprefix("$ ") for block in shown for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))
    commands = [part.strip() for line in lines for part in line.split("&&")]
    ours = [line for line in commands if re.match(r"(run-pipeline|maskmill) ", line)]
    assert len(ours) > 5
    for line in ours:
        parsed(shlex.split(line, comments=True))


def parsed(words):
    """Parse a command line without running it; click raises for what does not exist, not for what is left out."""
    name, *words = words
    command = run_command if name == "run-pipeline" else cli
    while isinstance(command, click.Group) and not words[0].startswith("-"):
        name, *words = words
        command = command.get_command(click.Context(command), name)
        assert command is not None, f"there is no command {name}"
    with click.Context(command) as context, contextlib.suppress(click.MissingParameter):
        if not isinstance(command, click.Group):
            command.parse_args(context, words)


def test_the_options_named_exist():
    commands = [run_command, *(cli.get_command(click.Context(cli), name) for name in cli.list_commands(None))]
    known = {name for command in commands for option in command.params for name in option.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= known


def test_links_within_the_page_lead_somewhere():
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#(.+?)\)", PAGE)) <= anchors
