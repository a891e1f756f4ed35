"""`maskmill schema`: what editors complete and check is what the loader takes and refuses."""

import json
import re
import textwrap
from functools import reduce
from operator import getitem
from pathlib import Path
from random import Random

import jsonschema
import pytest

from maskmill import PipelineError
from maskmill.cli import main
from maskmill.config.json_schema import build_schema
from maskmill.config.load import load_config
from maskmill.config.yaml_reader import load_yaml
from maskmill.plugins.registry import Registry

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Plugins with options of the kinds that the built-ins lack.
PLUGINS = '''
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from maskmill import Filter, Writer, hookimpl


class Size(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = Field(ge=1)
    height: int = Field(4, ge=1)


class Kinds(Filter):
    """Has one of each."""

    mode: Literal["fast", "slow"] = "fast"
    size: Size | None = None
    sizes: list[Size] = []
    weights: tuple[float, float] = (0.5, 0.5)
    code: str = Field("AB", pattern="^[A-Z]+$")
    file: Path | None = None
    key: SecretStr | None = None
    by_label: dict[str, float] = {}
    flag: bool = False
    colour: str = Field("red", alias="color")


class Odd:
    def __get_pydantic_core_schema__(source, handler):
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(lambda value: value)


class Exotic(Filter):
    """Has an option that no JSON Schema describes."""

    odd: Odd = Field(None)


class Titled(Writer):
    """Cannot do without an option."""

    title: str


@hookimpl
def register_filters(register):
    register("kinds", Kinds)
    register("exo/tic", Exotic)
    register("exo-tic", Kinds)


@hookimpl
def register_writers(register):
    register("titled", Titled)
'''


@pytest.fixture(scope="module")
def drop_in(tmp_path_factory):
    file = tmp_path_factory.mktemp("plugins") / "kinds.py"
    file.write_text(PLUGINS, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def validator(drop_in):
    schema = build_schema(Registry.load([drop_in]))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def tree(text, **environ):
    return load_yaml(text.encode("utf-8"), "p.yaml", environ).tree


def complaints(validator, text, **environ):
    return [error.message for error in validator.iter_errors(tree(text, **environ))]


def loads(tmp_path, text, drop_in):
    file = tmp_path / "p.yaml"
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    (tmp_path / "base.yaml").write_text("prompts: [everything]\nrun: {jobs: 2}\n", encoding="utf-8")
    try:
        load_config(file, plugins=[drop_in], complete=False)
    except PipelineError as error:
        return [problem.message for problem in error.problems]
    return []


@pytest.mark.parametrize("file", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda file: file.name)
def test_the_ready_pipelines_are_good(validator, file):
    assert complaints(validator, file.read_text(encoding="utf-8")) == []


def examples():
    for page in PAGES:
        for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)):
            if page.name != "plugins.md":  # its examples use its own plugins; its own test looks at them
                yield pytest.param(text, id=f"{page.name}-{number}")


@pytest.mark.parametrize("text", list(examples()))
def test_the_examples_of_the_documentation_are_good(validator, text):
    if not re.search("^prompts:", text, re.MULTILINE):
        text += "\nprompts: [everything]\n"
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "value")
    assert complaints(validator, text, **variables) == []
    written = text.replace("$${", "").replace("${", "$${")  # an editor sees the variables themselves
    assert complaints(validator, written) == []


GOOD = {
    "short names": "prompts: [everything]\nbackend: grabcut\nwriters: [png]\nrun: {engine: inline}",
    "keys without a value": "prompts: [everything]\nname:\ndataset:\nbackend:\nfilters:\nwriters:\nrun:\ncombine:",
    "one image or a list": "prompts: [everything]\ndataset: [a, b]\nplugins: []",
    "variable in a text": "prompts: [everything]\ndataset: '$${FOLDER}/photos'\nname: $${NAME}",
    "variable for a choice": "prompts: [everything]\nfilters: [{use: kinds, mode: '$${MODE}'}]\ncombine: '$${HOW}'",
    "variable for a pattern": "prompts: [everything]\nfilters: [{use: kinds, code: '$${CODE}', key: '$${KEY}'}]",
    "variable for a plugin": "prompts: [everything]\nbackend: '$${BACKEND}'\nfilters: [{use: '$${F}', any: 1}]",
    "whole numbers as floats": "prompts: [everything]\nfilters: [{use: kinds, weights: [1, 0]}]\nrun: {timeout: 60}",
    "null where it may be": "prompts: [everything]\nfilters: [{use: kinds, size: null}]\nrun: {max_failures: null}",
    "nested models": "prompts: [everything]\nfilters: [{use: kinds, size: {width: 3}, sizes: [{width: 1, height: 2}]}]",
    "a mapping of one's own": "prompts: [everything]\nfilters: [{use: kinds, by_label: {猫: 0.5}}]",
    "another name for an option": "prompts: [everything]\nfilters: [{use: kinds, color: blue}]",
    "an exotic type": "prompts: [everything]\nfilters: [{use: exo/tic, odd: [1, {a: b}]}, exo-tic]",
    "failures in percent": "prompts: [everything]\nrun: {max_failures: 5%, jobs: -1, threads: 2}",
    "extending another file": "extends: base.yaml\nprompts:\nwriters: [png]\nrun: {timeout: 9}",
    "an engine as a mapping": "prompts: [everything]\nrun: {engine: {use: joblib}, jobs: auto}",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_the_loader_takes_is_good(validator, tmp_path, drop_in, text, monkeypatch):
    values = {"FOLDER": "here", "NAME": "it", "MODE": "fast", "HOW": "all", "CODE": "X", "KEY": "k", "F": "score"}
    for name, value in {**values, "BACKEND": "grabcut"}.items():
        monkeypatch.setenv(name, value)
    assert complaints(validator, text) == []
    loaded = loads(tmp_path, text.replace("$${", "${").replace("any: 1", ""), drop_in)
    assert loaded == []


BROKEN = {
    "typo in a key": "prompts: [everything]\nbackends: grabcut",
    "typo in a key without a value": "prompts: [everything]\nbackends:",
    "no prompts": "dataset: photos",
    "prompts without a value": "prompts:",
    "extending nothing": "extends:\nbackend: grabcut",
    "extending two files": "extends: [base.yaml, base.yaml]",
    "prompts as text": "prompts: everything",
    "prompts as a mapping": "prompts: {use: everything}",
    "no prompt source": "prompts: []",
    "unknown source": "prompts: [everythin]",
    "unknown source in a mapping": "prompts: [{use: everythin}]",
    "no use": "prompts: [{box: [1, 2, 3, 4]}]",
    "use is a number": "prompts: [{use: 3}]",
    "use has no value": "prompts: [{use: }]",
    "a backend as a source": "prompts: [sam]",
    "unknown backend": "prompts: [everything]\nbackend: {use: same}",
    "backend as a list": "prompts: [everything]\nbackend: [sam]",
    "backend as a number": "prompts: [everything]\nbackend: 3",
    "unknown option": "prompts: [everything]\nbackend: {use: grabcut, iteration: 3}",
    "option of another plugin": "prompts: [everything]\nbackend: {use: grabcut, model: vit_b}",
    "unknown choice": "prompts: [everything]\nbackend: {use: sam, model: vit_x}",
    "text for a number": "prompts: [everything]\nfilters: [{use: score, at_least: much}]",
    "quoted number": "prompts: [everything]\nfilters: [{use: nms, iou: '0.5'}]",
    "number out of range": "prompts: [everything]\nfilters: [{use: nms, iou: 5}]",
    "text for a switch": "prompts: [everything]\nfilters: [{use: kinds, flag: yes}]",
    "too few values": "prompts: [everything]\nfilters: [{use: kinds, weights: [1]}]",
    "too many values": "prompts: [everything]\nfilters: [{use: kinds, weights: [1, 2, 3]}]",
    "box of three": "prompts: [{use: manual, box: [1, 2, 3]}]",
    "box of texts": "prompts: [{use: manual, box: [a, b, c, d]}]",
    "nested model without a value": "prompts: [everything]\nfilters: [{use: kinds, size: {height: 3}}]",
    "nested typo": "prompts: [everything]\nfilters: [{use: kinds, size: {width: 3, hight: 3}}]",
    "nested out of range": "prompts: [everything]\nfilters: [{use: kinds, sizes: [{width: 0}]}]",
    "number for a text": "prompts: [everything]\nname: 3",
    "text of another form": "prompts: [everything]\nfilters: [{use: kinds, code: ab}]",
    "number for a file": "prompts: [everything]\nfilters: [{use: kinds, file: 3}]",
    "secret as a number": "prompts: [everything]\nfilters: [{use: kinds, key: 123}]",
    "empty name": "prompts: [everything]\nname: ''",
    "empty plugins": "prompts: [everything]\nplugins: ''",
    "empty dataset": "prompts: [everything]\ndataset: []",
    "dataset as a mapping": "prompts: [everything]\ndataset: {folder: photos}",
    "unknown combine": "prompts: [everything]\ncombine: any",
    "filters as a mapping": "prompts: [everything]\nfilters: {use: score}",
    "a filter as a list": "prompts: [everything]\nfilters: [[score]]",
    "writers as text": "prompts: [everything]\nwriters: png",
    "writers as a number": "prompts: [everything]\nwriters: 3.5",
    "a writer without its option": "prompts: [everything]\nwriters: [titled]",
    "the same in a mapping": "prompts: [everything]\nwriters: [{use: titled}]",
    "run as text": "prompts: [everything]\nrun: fast",
    "unknown key of run": "prompts: [everything]\nrun: {job: 2}",
    "jobs outside of run": "prompts: [everything]\njobs: 2",
    "no jobs at all": "prompts: [everything]\nrun: {jobs: 0}",
    "half a job": "prompts: [everything]\nrun: {jobs: 1.5}",
    "no time": "prompts: [everything]\nrun: {timeout: 0}",
    "unknown engine": "prompts: [everything]\nrun: {engine: jobslib}",
    "engine without a value": "prompts: [everything]\nrun: {engine: }",
    "failures of 101 percent": "prompts: [everything]\nrun: {max_failures: 101%}",
    "variable for a number": "prompts: [everything]\nfilters: [{use: nms, iou: '$${IOU}'}]",
    "a list": "- prompts: [everything]",
    "a text": "prompts",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_the_loader_refuses_is_refused(validator, tmp_path, drop_in, text):
    assert loads(tmp_path, text, drop_in)
    assert complaints(validator, text)


#: What may be put anywhere into a good file.
ODD = (None, True, 0, 2, 0.5, "", "x", "auto", "sam", [], [1, 2], ["a"], {}, {"use": "manual", "box": [1, 2, 3, 4]})


def places(part, loc=()):
    """Each place of a tree but its root."""
    for key, inner in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield (*loc, key)
        yield from places(inner, (*loc, key))


def test_no_file_is_refused_that_the_loader_takes(validator, tmp_path, drop_in):
    random = Random(0)
    trees = [tree(text) for text in GOOD.values() if "$" not in text]
    refused = 0
    for number in range(120):
        changed = json.loads(json.dumps(trees[number % len(trees)]))
        *parents, last = random.choice(list(places(changed)))
        holder = reduce(getitem, parents, changed)
        holder[last] = random.choice(ODD)
        if loads(tmp_path, json.dumps(changed), drop_in):
            refused += 1
        else:
            assert [error.message for error in validator.iter_errors(changed)] == []
    assert 30 < refused < 117


def test_every_plugin_and_option_is_there_with_its_words(validator):
    registry = Registry.load()
    for entry in registry.entries.values():
        about = validator.schema["$defs"][f"{entry.role.replace(' ', '-')}-{entry.name}"]
        assert about["description"] == entry.cls.__doc__.strip().splitlines()[0]
        for name, field in entry.cls.model_fields.items():
            described = about["properties"][field.alias or name]
            assert described["description"] == field.description, f"{entry.name}.{name}"


def test_it_goes_to_the_console_or_into_a_file(tmp_path, capsys, monkeypatch, drop_in):
    def exit_code(*arguments):
        with pytest.raises(SystemExit) as raised:
            main(["schema", *map(str, arguments)])
        return raised.value.code or 0

    monkeypatch.chdir(tmp_path)
    assert exit_code("--plugins", drop_in) == 0
    shown = json.loads(capsys.readouterr().out)
    assert "filter-kinds" in shown["$defs"]
    assert exit_code("-o", tmp_path) == 2
    assert capsys.readouterr().err.startswith(f"cannot write '{tmp_path}': ")
    assert exit_code("-o", "架构.json") == 0
    assert "$schema=架构.json" in capsys.readouterr().out
    written = json.loads(Path("架构.json").read_text(encoding="utf-8"))
    assert set(shown["$defs"]) - set(written["$defs"]) == {
        "filter-kinds",
        "filter-exo-tic",
        "filter-exo-tic-",
        "writer-titled",
    }


def test_drop_ins_beside_a_pipeline_file_are_found(tmp_path, capsys, drop_in):
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "kinds.py").write_bytes(drop_in.read_bytes())
    with pytest.raises(SystemExit):
        main(["schema", "--for", str(tmp_path / "p.yaml")])
    assert "filter-kinds" in json.loads(capsys.readouterr().out)["$defs"]


def test_the_line_for_the_editor_is_relative_to_the_file(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["schema", "--for", str(tmp_path / "mine/p.yaml"), "-o", str(tmp_path / "s.json")])
    assert "# yaml-language-server: $schema=../s.json\n" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["schema", "-o", str(tmp_path / "s.json")])
    assert "in the same folder:\n# yaml-language-server: $schema=s.json\n" in capsys.readouterr().out
