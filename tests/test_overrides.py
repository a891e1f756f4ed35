"""`--set KEY=VALUE`: what a value means is decided by its option, as the table in docs/pipelines.md says."""

import functools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from maskmill import PipelineError
from maskmill.config.config import RunOptions
from maskmill.config.document import Document
from maskmill.config.load import load_config
from maskmill.config.overrides import _find_types, override, settle_texts
from maskmill.config.pipeline_file import PipelineFile
from maskmill.plugins.options import OptionSchema
from maskmill.plugins.registry import Registry

PAGE = (Path(__file__).parent.parent / "docs/pipelines.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `--set (.+?)` \| (?:`(.+?)`|(refused)).*\|$", PAGE, re.MULTILINE)
SMALL = """
dataset: photos
prompts: [{use: manual, box: [1, 2, 3, 4], label: cup}]
backend: grabcut
writers: [png]
output: out
"""


def load(tmp_path, *sets):
    file = tmp_path / "p.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return load_config(file, sets=sets)


@functools.cache
def text_options():
    """Every option of the pipeline file and of the built-in plugins that takes a text, by its name for people."""
    registry = Registry.load()
    registry.load_all()
    found = {}
    for model in [PipelineFile, RunOptions, *(entry.cls for entry in registry.entries.values())]:
        schema = OptionSchema(model)
        for name in model.model_fields:
            if _find_types(schema.at((name,))) - {"null"} == {"string"}:
                found[f"{model.__name__}.{name}"] = schema, name
    return found


@settings(max_examples=500, deadline=None)
@given(st.data(), st.text(min_size=1).filter(lambda text: "${" not in text))
def test_text_in_equals_text_out(data, text) -> None:
    options = text_options()
    assert {"Manual.label", "PipelineFile.output", "Qwen.model", "Sam.checkpoint"} <= options.keys()
    schema, name = options[data.draw(st.sampled_from(sorted(options)))]
    document = Document("p.yaml")
    document.tree = {}
    assert override(document, f"{name}={text}") == []
    settle_texts(document, schema.at)
    assert (document.tree, document.problems) == ({name: text}, [])


TEXTS = ["a #1", "%x", "'a", '"a"', "[b", "{a: b}", "- a", "a: b", "007", "1e3", "no", "true", "null", "~", "&a", "*a"]
TEXTS += ["!tag", " a ", "@x", "`x`", "|", ">", "D:\\new", "a:", "?", "---", "…", "\ufeffa", "a\tb", "：", "# a", "="]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_of_a_plugin_is_taken_whole(tmp_path, text) -> None:
    config = load(tmp_path, f"prompts.0.label={text}", f"name={text}")
    assert (config.prompts[0].stage.label, config.name) == (text, text)


@pytest.mark.parametrize("text", ["out #2", "%x", "[1]", "007", "true"])
def test_an_output_is_the_folder_of_this_name(tmp_path, text) -> None:
    assert load(tmp_path, f"output={text}").output == tmp_path / text


def test_a_plugin_set_on_the_same_command_line_knows_its_options(tmp_path) -> None:
    config = load(tmp_path, "prompts.1.label=a #1", "prompts.1.box=[1, 2, 3, 4]", "prompts.1.use=manual")
    assert config.prompts[1].stage.label == "a #1"
    assert load(tmp_path, "prompts.0.images={a: {box: [1, 2, 3, 4]}}", "prompts.0.images.a.label=#2").prompts[
        0
    ].stage.images["a"].label == "#2"  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        ("dataset=[a, 'b #1']", lambda c: c.dataset == ("a", "b #1")),
        ("dataset=a #1", lambda c: c.dataset == ("a #1",)),
        ("dataset=ph[1]/*.jpg", lambda c: c.dataset == ("ph[1]/*.jpg",)),
        ("dataset=- a", lambda c: c.dataset == ("- a",)),
        ("dataset.0=a", None),
        ("run.jobs=2", lambda c: c.run.jobs == 2),
        ("run.jobs=auto", lambda c: c.run.jobs == "auto"),
        ("run.max_failures=5%", lambda c: c.run.max_failures == "5%"),
        ("run.max_failures=", lambda c: c.run.max_failures is None),
        ("run.timeout=1e3", lambda c: c.run.timeout == 1000),
        ("run.timeout=7", lambda c: c.run.timeout == 7),
        ("prompts.0.label=", lambda c: c.prompts[0].stage.label is None),
        ("backend={use: grabcut, iterations: 3}", lambda c: c.backend.stage.iterations == 3),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_an_option_takes_decides(tmp_path, setting, seen) -> None:
    if seen is None:
        with pytest.raises(PipelineError, match="is a single value"):
            load(tmp_path, setting)
    else:
        assert seen(load(tmp_path, setting))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("dataset=[a, b", "--set dataset: "),
        ("run.jobs=[", "--set run.jobs: expected a whole number or 'auto', not '['"),
        ("run.jobs=%x", "--set run.jobs: expected a whole number or 'auto', not '%x'"),
        ("run.jobs=true", "--set run.jobs: expected a whole number or 'auto', not 'true'"),
        ("prompts.0.lable=%x", "--set prompts.0.lable: the prompt source 'manual' has no option 'lable'"),
        ("backend=a #1", "--set backend: there is no backend 'a #1'"),
        ("backend.use=%x", "--set backend.use: there is no backend '%x'"),
        ("writers=[", "--set writers: a value is missing here"),
        ("nam=%x", "--set nam: unknown key 'nam'"),
        ("name=\udcff", "--set name: "),
    ],
    ids=ascii,
)
def test_a_wrong_value_is_refused_as_it_was_typed(tmp_path, setting, message) -> None:
    with pytest.raises(PipelineError) as caught:
        load(tmp_path, setting)
    assert str(caught.value).startswith(message)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(("setting", "value", "refused"), ROWS, ids=[row[0] for row in ROWS])
def test_the_table_of_the_docs(tmp_path, monkeypatch, setting, value, refused) -> None:
    monkeypatch.setenv("HOUSE", "7")
    if refused:
        with pytest.raises(PipelineError):
            load(tmp_path, setting)
        return
    tree = load(tmp_path, setting).document.tree
    for step in setting.partition("=")[0].split("."):
        if tree is not None:
            tree = tree[int(step)] if isinstance(tree, list) else tree.get(step)
    assert repr(tree) == value


@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("dataset: ${NO_SUCH}/photos", {"dataset": ("other",)}),
        ("dataset: [a, '${NO_SUCH}', '${']", {"dataset": ("other",)}),
        ("output: ${NO_SUCH}/out", {"output": Path("other")}),
        ("output: ${NO_SUCH}/out", {"complete": False}),
        ("backend: {use: remote, url: 'http://${NO_SUCH}'}", {"sets": ["backend=grabcut"]}),
        ("backend: {use: remote, url: 'http://${NO_SUCH}'}", {"sets": ["backend.url=http://here"]}),
        ("run: {jobs: '${NO_SUCH}'}", {"jobs": 1}),
    ],
    ids=str,
)
def test_a_variable_of_a_replaced_value_need_not_be_set(tmp_path, written, given) -> None:
    key = written.partition(":")[0]
    lines = [line for line in SMALL.splitlines() if not line.startswith(f"{key}:")]
    file = tmp_path / "p.yaml"
    file.write_text("\n".join([*lines, written]), encoding="utf-8")
    with pytest.raises(PipelineError, match="the environment variable NO_SUCH is not set"):
        load_config(file)
    load_config(file, **given)


def test_the_table_has_rows() -> None:
    assert len(ROWS) > 8


def test_export_and_plugins_check_read_texts_alike(tmp_path) -> None:
    from maskmill.cli.options import parse_settings

    registry = Registry.load()
    manual = registry.get("prompt source", "manual").cls
    assert parse_settings(["label=a #1", "box=[1, 2, 3, 4]"], lambda: [manual]) == {
        "label": "a #1",
        "box": [1, 2, 3, 4],
    }
