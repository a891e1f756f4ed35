"""The pipeline file as a whole: defaults, overrides, places of errors, secrets, and the way into a worker."""

import json
import os
import pickle
import textwrap
from pathlib import Path

import pytest

from maskmill import PipelineError, PluginError
from maskmill.config.config import Config, build_stages
from maskmill.config.load import load_config
from maskmill.plugins import registry as plugins
from maskmill.plugins.messages import ModelIds, WorkerSetup

#: Plugins with options of every kind, under the names that a pipeline file has by default.
PLUGINS = '''
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from maskmill import Backend, Filter, PromptSource, Writer, hookimpl
from maskmill.plugins.engine import Engine
from maskmill.plugins.messages import ModelIds, WorkerSetup


class Size(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: int = Field(ge=1)
    height: int = Field(4, ge=1)


class Circle(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["circle"]
    radius: float


class Square(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["square"]
    side: float


class Everything(PromptSource):
    """No options."""


class Points(PromptSource):
    points: list[tuple[float, float, int]] = Field(description="each [x, y, label]")
    units: Literal["pixels", "relative"] = "pixels"
    size: Size | None = None
    shape: Size | list[int] | None = None
    form: Annotated[Circle | Square, Field(discriminator="kind")] | None = None
    labels: dict[str, int] = {}
    text: str | None = Field(None, min_length=1)
    path: Path | None = None
    paths: tuple[Path, ...] = ()
    flag: bool = False
    secret: SecretStr | None = None
    secrets: list[SecretStr] = []
    low: float = Field(0.0, ge=0)
    high: float = Field(1.0, gt=0, le=1)

    @field_validator("secret")
    @classmethod
    def _long(cls, value):
        if value is not None and len(value.get_secret_value()) < 8:
            raise ValueError(f"{value.get_secret_value()} is too short for a key")
        return value

    @model_validator(mode="after")
    def _ordered(self):
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


class Fragile(PromptSource):
    text: str = ""

    @field_validator("text")
    @classmethod
    def _broken(cls, value):
        raise KeyError(value)


class Sam(Backend):
    model: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"
    tiles: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    checkpoint: Literal["auto"] | Path = "auto"
    threshold: float = Field(0.5, ge=0, lt=1)

    def accepts(self):
        return frozenset({"points"})


class Score(Filter):
    least: float = 0.0


class Png(Writer):
    format: Literal["masks", "polygons"] = "masks"


class Joblib(Engine):
    method: str = "loky"


@hookimpl
def register_prompt_sources(register):
    register("everything", Everything)
    register("points", Points)
    register("fragile", Fragile)


@hookimpl
def register_backends(register):
    register("sam", Sam)


@hookimpl
def register_filters(register):
    register("score", Score)
    register("bare", Filter)


@hookimpl
def register_writers(register):
    register("png", Png)
    register("results", Png)


@hookimpl
def register_engines(register):
    register("joblib", Joblib)
'''

SMALL = """
dataset: photos
prompts: [everything]
output: out
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the fakes in `plugins/` and nothing installed beside them."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "fakes.py").write_text(PLUGINS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "list_entry_points", list)
    return tmp_path


def load(text: str = SMALL, name: str = "p.yaml", **overrides) -> Config:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(textwrap.dedent(text), encoding="utf-8")
    return load_config(Path(name), **overrides)


def refusal(text: str = SMALL, name: str = "p.yaml", **overrides) -> str:
    with pytest.raises(PipelineError) as caught:
        load(text, name, **overrides)
    return str(caught.value)


def source(options: str, **overrides) -> str:
    """What is said about a `points` source with these options; they begin in line 5."""
    lines = textwrap.indent(textwrap.dedent(options).strip("\n"), "    ")
    return refusal(f"dataset: photos\noutput: out\nprompts:\n  - use: points\n{lines}\n", **overrides)


# ---- what a good file gives


def test_defaults(folder: Path) -> None:
    config = load()
    assert (config.name, config.file, config.base) == ("p", Path("p.yaml"), folder)
    assert (config.dataset, config.dataset_base) == (("photos",), folder)
    assert [use.name for use in config.uses()] == ["everything", "sam", "joblib"]
    assert (config.combine, config.backend.options) == ("first", {"model": "vit_b"})
    assert (config.filters, config.writers) == ((), ())
    assert config.output == folder / "out"
    assert config.drop_ins == (folder / "plugins" / "fakes.py",)
    run = config.run
    assert (run.jobs, run.threads, run.timeout, run.max_failures) == ("auto", "auto", 1800, None)


def test_everything_written_out(folder: Path) -> None:
    config = load(
        """
        name: 车辆
        dataset: [../photos, "package:skimage/data/coins.png"]
        prompts:
          - use: points
            points: [[1, 2, 1], [3.5, 4, 0]]
            size: {width: 3}
            path: a.jsonl
            paths: [b, /c]
            flag: true
          - everything
        combine: all
        backend: {use: sam, model: vit_h, checkpoint: weights/h.pth}
        filters: [{use: score, least: 1}]
        writers: [png, {use: png, format: polygons}]
        output: ../out
        run: {jobs: -1, threads: 2, timeout: 5, max_failures: 2.5%, engine: {use: joblib, method: fork}}
        """,
        "deep/pipe.yaml",
    )
    deep = folder / "deep"
    assert config.name == "车辆"
    assert config.dataset == ("../photos", "package:skimage/data/coins.png")
    assert config.output == folder / "out"
    points = config.prompts[0].stage
    assert points.points == [(1.0, 2.0, 1), (3.5, 4.0, 0)]
    assert (points.size.width, points.size.height, points.flag) == (3, 4, True)
    assert (points.path, points.paths) == (deep / "a.jsonl", (deep / "b", Path("/c")))
    assert [use.name for use in config.prompts] == ["points", "everything"]
    assert config.combine == "all"
    assert config.backend.stage.checkpoint == deep / "weights/h.pth"
    assert config.filters[0].stage.least == 1.0
    assert config.writers[1].stage.format == "polygons"
    assert (config.run.jobs, config.run.timeout, config.run.max_failures) == (-1, 5.0, "2.5%")
    assert config.engine.stage.method == "fork"


@pytest.mark.parametrize("key", ["name", "combine", "backend", "filters", "writers", "run", "plugins"])
def test_a_key_without_a_value_is_left_out(key: str) -> None:
    assert load(SMALL + f"{key}:\n").resolved() == load().resolved()


def test_writers_get_folders_of_their_own() -> None:
    config = load(SMALL + "writers: [png, png, results, png]\n")
    assert [use.folder for use in config.writers] == ["png", "png-2", "results-2", "png-3"]
    assert [name for name, _ in config.stages().writers] == ["png", "png-2", "results-2", "png-3"]


def test_environment_variables_reach_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMILL_TEST", "a long secret")
    config = load("dataset: d\noutput: o\nprompts: [{use: points, points: [], secret: '${MASKMILL_TEST}'}]\n")
    assert config.prompts[0].stage.secret.get_secret_value() == "a long secret"


def test_a_pipeline_that_is_only_opened_needs_neither_dataset_nor_output(folder: Path) -> None:
    config = load("name: a/b\nprompts: [everything]\n", complete=False)
    assert config.dataset == ()
    assert config.output.parent == folder / "outputs"


# ---- places of errors


def test_all_errors_of_a_file_come_at_once_by_line() -> None:
    said = refusal(
        """\
        nam: x
        dataset: 3
        prompts:
          - use: pionts
          - use: points
            points: [[1, 2]]
            units: pixel
        combine: frist
        backend: {use: sam, tiles: many, threshold: ${THRESHOLD}}
        writers:
          - use: png
            format: polygon
        run: {jobs: 0, engine: jobib}
        """.replace("${THRESHOLD}", "'${MASKMILL_NOPE}'")
    )
    assert said == textwrap.dedent(
        """\
        p.yaml:1:1: unknown key 'nam'
          did you mean 'name'?
        p.yaml:1:1: the key 'output' is missing
          write `output: FOLDER` in the file, or: run-pipeline FILE.yaml -o FOLDER
        p.yaml:2:10: dataset: expected a text or a list, not 3
          put quotes around it: "3"
        p.yaml:4:10: there is no prompt source 'pionts'
          did you mean 'points'?
        p.yaml:6:14: points.0: expected a list of 3 values, not 2
        p.yaml:7:12: units: expected 'pixels' or 'relative', not 'pixel'
          did you mean 'pixels'?
        p.yaml:8:10: combine: expected 'first' or 'all', not 'frist'
          did you mean 'first'?
        p.yaml:9:28: tiles: expected a whole number of 1 or more or 'auto', not 'many'
        p.yaml:9:45: the environment variable MASKMILL_NOPE is not set
          set it first: export MASKMILL_NOPE=...   (in PowerShell: $env:MASKMILL_NOPE = '...')
        p.yaml:12:13: format: expected 'masks' or 'polygons', not 'polygon'
          did you mean 'polygons'?
        p.yaml:13:13: jobs: expected 'auto' or a whole number other than 0, such as 2, or -1 for one worker per core
        p.yaml:13:24: there is no engine 'jobib'
          did you mean 'joblib'?"""
    )


def test_the_file_is_named_as_the_user_wrote_it() -> None:
    assert refusal(SMALL + "nam: 1\n", "sub/../q.yaml").startswith(f"{Path('sub/../q.yaml')}:5:1: unknown key 'nam'")


TOP = {
    "a text": ("hello\n", "p.yaml:1:1: expected `key: value` lines, found 'hello'\n  for example: `dataset: photos`"),
    "a list": (
        "- use: points\n",
        "p.yaml:1:1: expected `key: value` lines, found a list\n  for example: `dataset: photos`",
    ),
    "no prompts": (
        "dataset: d\noutput: o\n",
        "p.yaml:1:1: the key 'prompts' is missing\n"
        "  list what to segment, for example `- use: manual` with its options",
    ),
    "prompts without a value": (
        "dataset: d\nprompts:\noutput: o\n",
        "p.yaml:2:1: the key 'prompts' has no value\n"
        "  list what to segment, for example `- use: manual` with its options",
    ),
    "empty prompts": (
        "dataset: d\nprompts: []\noutput: o\n",
        "p.yaml:2:10: prompts: expected at least 1 entry, not 0",
    ),
    "prompts that are no list": (
        "dataset: d\nprompts:\n  use: points\noutput: o\n",
        "p.yaml:3:3: prompts: expected a list, not a mapping\n  start each entry with '- '",
    ),
    "no dataset": (
        "prompts: [everything]\noutput: o\n",
        "p.yaml:1:1: the key 'dataset' is missing\n"
        "  write `dataset: FOLDER` in the file, or: run-pipeline FILE.yaml FOLDER",
    ),
    "a misspelt key is not also missing": (
        "datset: d\nprompts: [everything]\noutput: o\n",
        "p.yaml:1:1: unknown key 'datset'\n  did you mean 'dataset'?",
    ),
    "a key that belongs below run": (
        SMALL + "jobs: 3\n",
        "p.yaml:5:1: unknown key 'jobs'\n  write it under `run:`, as `run: {jobs: ...}`",
    ),
    "a key like no other": (
        SMALL + "zzz: 3\n",
        "p.yaml:5:1: unknown key 'zzz'\n"
        "  available: name, extends, plugins, dataset, prompts, corrections, combine, backend, filters, writers,"
        " output, images, storage, run",
    ),
    "a number for a name": (
        SMALL + "name: 2024\n",
        'p.yaml:5:7: name: expected a text, not 2024\n  put quotes around it: "2024"',
    ),
    "an empty text": (SMALL + "name: ''\n", "p.yaml:5:7: name: expected a text that is not empty, not ''"),
    "an unknown plugin": (
        SMALL + "backend: samm\n",
        "p.yaml:5:10: there is no backend 'samm'\n  did you mean 'sam'?",
    ),
    "a plugin of another role": (
        SMALL + "filters: [png]\n",
        "p.yaml:5:11: there is no filter 'png'\n  'png' is a writer; the filters are: bare, score",
    ),
    "no space after use": (
        SMALL + "backend: use:sam\n",
        "p.yaml:5:10: there is no backend 'use:sam'\n  put a space after the ':', as in `use: sam`",
    ),
    "no use": (
        SMALL + "backend: {model: vit_h}\n",
        "p.yaml:5:10: backend: `use: NAME` is missing; it selects the backend\n  the backends are: sam",
    ),
    "use misspelt": (
        SMALL + "backend: {uses: sam}\n",
        "p.yaml:5:10: backend: `use: NAME` is missing; it selects the backend\n  did you mean 'use' instead of 'uses'?",
    ),
    "the name as a key": (
        SMALL + "writers:\n  - png:\n      format: masks\n",
        "p.yaml:6:5: writers.0: `use: NAME` is missing; it selects the writer\n"
        "  write `use: png`, with its options as keys next to it",
    ),
    "use is no text": (
        SMALL + "backend: {use: [sam]}\n",
        "p.yaml:5:16: backend.use: expected the name of a backend, not a list",
    ),
    "a plugin that is a number": (
        SMALL + "writers: [7]\n",
        "p.yaml:5:11: writers.0: expected a writer, such as `use: NAME`, not 7",
    ),
    "an option where there are none": (
        SMALL + "filters: [{use: bare, least: 1}]\n",
        "p.yaml:5:23: the filter 'bare' has no option 'least'\n  it takes no options",
    ),
    "a path with backslashes": (
        SMALL + "combine: D:\\new\n",
        "p.yaml:5:10: combine: expected 'first' or 'all', not 'D:\\new'",
    ),
    "an unknown option of run": (
        SMALL + "run: {job: 3}\n",
        "p.yaml:5:7: run has no option 'job'\n  did you mean 'jobs'?",
    ),
    "run is no mapping": (SMALL + "run: fast\n", "p.yaml:5:6: run: expected a mapping, not 'fast'"),
    "run values": (
        SMALL + "run:\n  threads: 1.0\n  timeout: 0\n  max_failures: lots\n  max_pixels: '3'\n  jobs: all\n",
        "p.yaml:6:12: threads: expected a whole number of 1 or more or 'auto', not 1.0\n  write 1\n"
        "p.yaml:7:12: timeout: expected a number above 0, not 0\n"
        "p.yaml:8:17: max_failures: expected a whole number of 0 or more or a text such as '5%', not 'lots'\n"
        "p.yaml:9:15: max_pixels: expected a whole number of 1 or more, not '3'\n  write 3 without quotes\n"
        "p.yaml:10:9: jobs: expected a whole number or 'auto', not 'all'",
    ),
    "a plugin folder that is not there": (
        SMALL + "plugins: [mine]\n",
        "p.yaml:5:11: the plugin path '{folder}/mine' does not exist",
    ),
}


@pytest.mark.parametrize(("text", "said"), TOP.values(), ids=TOP.keys())
def test_errors_of_the_file(text: str, said: str, folder: Path) -> None:
    assert refusal(text) == said.replace("{folder}/", str(folder) + os.sep)


OPTIONS = {
    "missing": (
        "units: pixels",
        "p.yaml:4:5: the prompt source 'points' needs the option 'points'\n  points: each [x, y, label]",
    ),
    "unknown": (
        "points: []\nunit: px",
        "p.yaml:6:5: the prompt source 'points' has no option 'unit'\n  did you mean 'units'?",
    ),
    "unknown and missing are one mistake": (
        "pionts: []",
        "p.yaml:5:5: the prompt source 'points' has no option 'pionts'\n  did you mean 'points'?",
    ),
    "unknown in a nested model": (
        "points: []\nsize: {width: 1, depth: 2}",
        "p.yaml:6:22: 'size' of the prompt source 'points' has no option 'depth'\n  available: width, height",
    ),
    "missing in a nested model": (
        "points: []\nsize: {height: 1}",
        "p.yaml:6:11: 'size' of the prompt source 'points' needs the option 'width'",
    ),
    "scalar for a model": ("points: []\nsize: 3", "p.yaml:6:11: size: expected a mapping, not 3"),
    "no branch fits": (
        "points: []\nshape: big",
        "p.yaml:6:12: shape: expected a mapping or a list, not 'big'",
    ),
    "the model branch fits best": (
        "points: []\nshape: {width: x}",
        "p.yaml:6:20: shape.width: expected a whole number of 1 or more, not 'x'",
    ),
    "the list branch fits best": (
        "points: []\nshape: [1, x]",
        "p.yaml:6:16: shape.1: expected a whole number, not 'x'",
    ),
    "inside a discriminated union": (
        "points: []\nform: {kind: circle, radius: wide}",
        "p.yaml:6:34: form.radius: expected a number, not 'wide'",
    ),
    "inside lists": (
        "points: [[1, 2, 1], [1, x, 1], [1, 2, 0.5], 3]",
        "p.yaml:5:29: points.1.1: expected a number, not 'x'\n"
        "p.yaml:5:43: points.2.2: expected a whole number, not 0.5\n"
        "p.yaml:5:49: points.3: expected a list of 3 values, not the single value 3\n  put it in brackets: [3]",
    ),
    "inside a dict": ("points: []\nlabels: {车: x}", "p.yaml:6:17: labels.车: expected a whole number, not 'x'"),
    "text for a list": (
        "points: many",
        "p.yaml:5:13: points: expected a list, not the single value 'many'\n  put it in brackets: ['many']",
    ),
    "no value": ("points:", "p.yaml:5:12: points: expected a list, but there is no value"),
    "yes for a bool": (
        "points: []\nflag: yes",
        "p.yaml:6:11: flag: expected true or false, not 'yes'\n  write true",
    ),
    "number for a path": (
        "points: []\npath: 3",
        'p.yaml:6:11: path: expected a path, not 3\n  put quotes around it: "3"',
    ),
    "out of range": ("points: []\nhigh: 2", "p.yaml:6:11: high: expected a number above 0 and of 1 or less, not 2"),
    "a plugin's own words": (
        "points: []\nlow: 1\nhigh: 0.5",
        "p.yaml:4:5: low must not be above high",
    ),
    "long values are cut": (
        "points: []\nflag: " + "x" * 200,
        "p.yaml:6:11: flag: expected true or false, not '" + "x" * 55 + "...'",
    ),
}


@pytest.mark.parametrize(("options", "said"), OPTIONS.values(), ids=OPTIONS.keys())
def test_errors_of_options(options: str, said: str) -> None:
    assert source(options) == said


def test_a_range_with_both_ends() -> None:
    said = refusal(SMALL + "backend: {use: sam, threshold: 2}\n")
    assert said.endswith("threshold: expected a number of 0 or more and below 1, not 2")


def test_a_plugin_that_fails_on_its_options_is_blamed_without_their_content() -> None:
    said = refusal("dataset: d\noutput: o\nprompts: [{use: fragile, text: private}]\n")
    assert said == (
        "p.yaml:3:11: the prompt source 'fragile' failed while reading its options: KeyError\n"
        "  this is a bug in the plugin; please report it to its author"
    )


def test_a_problem_of_a_check_gets_the_place_of_its_use() -> None:
    config = load(SMALL + "backend: {use: sam}\n")
    assert str(config.problem(config.backend.loc, "no weights")) == "p.yaml:5:10: no weights"
    assert str(config.problem(config.prompts[0].loc, "odd", warning=True)) == "warning: p.yaml:3:11: odd"
    assert str(config.problem(config.engine.loc, "odd")) == "p.yaml:2:1: odd"


# ---- secrets


@pytest.mark.parametrize(
    "options",
    [
        "points: []\nsecret: hunter2",
        "points: []\nsecret: [hunter2]",
        "points: []\nsecrets: hunter2",
        "points: []\nsecrets: [hunter2, {a: hunter2}]",
        "points: []\nsecret: hunter2\nlow: hunter3",
        "points: []\nsecret: '${MASKMILL_TEST}'",
    ],
)
def test_no_message_repeats_a_secret(options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMILL_TEST", "hunter2")
    assert "hunter2" not in source(options)


def test_a_plugins_own_words_about_a_secret_are_masked() -> None:
    assert source("points: []\nsecret: hunter2") == "p.yaml:6:13: secret: ********** is too short for a key"


def test_values_of_environment_variables_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMILL_TEST", "hunter2")
    said = source("points: []\nhigh: ${MASKMILL_TEST}")
    assert said.endswith("high: expected a number above 0 and of 1 or less, not the text of an environment variable")


def test_resolved_and_repr_mask_secrets_and_chain_spec_does_not() -> None:
    config = load("dataset: d\noutput: o\nprompts: [{use: points, points: [], secret: correct horse}]\n")
    assert "correct horse" not in repr(config) + json.dumps(config.resolved())
    assert config.resolved()["prompts"][0]["secret"] == "**********"
    assert config.chain_spec().prompts[0].options["secret"] == "correct horse"


def test_a_secret_on_the_command_line_is_not_repeated() -> None:
    good = "dataset: d\noutput: o\nprompts: [{use: points, points: []}]\n"
    assert "hunter2" not in refusal(good, sets=["prompts.0.secret=hunter2"])
    for value in ("hunter2", "[hunter2", "'hunter2", "{hunter2: &a 1}", "*hunter2", "@hunter2", '"D:\\hunter2"'):
        assert "hunter2" not in refusal(good, sets=[f"prompts.0.secrets={value}"])
        if len(value) >= 8:  # the same text is a secret where a text is expected
            stage = load(good, sets=[f"prompts.0.secret={value}"]).prompts[0].stage
            assert stage.secret.get_secret_value() == value
    assert "hunter2" not in refusal(good, sets=["prompts.0.secret:hunter2"])


# ---- the command line


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        ("backend.model=vit_h", lambda c: c.backend.stage.model == "vit_h"),
        ("backend=sam", lambda c: c.backend.options == {}),
        ("backend={use: sam, tiles: 3}", lambda c: c.backend.stage.tiles == 3),
        ("run.jobs=2", lambda c: c.run.jobs == 2),
        ("run.engine.method=fork", lambda c: c.engine.stage.method == "fork"),
        ("writers.0.format=polygons", lambda c: c.writers[0].stage.format == "polygons"),
        ("writers.1.use=png", lambda c: len(c.writers) == 2),
        ("writers=[]", lambda c: c.writers == ()),
        ("filters.0.use=score", lambda c: c.filters[0].name == "score"),
        ("name=no", lambda c: c.name == "no"),
        ("name=a=b", lambda c: c.name == "a=b"),
        ("name=", lambda c: c.name == "p"),
        ("dataset=[a, b]", lambda c: c.dataset == ("a", "b")),
    ],
)
def test_set(setting: str, seen) -> None:
    assert seen(load(SMALL + "writers: [png]\n", sets=[setting]))


def test_later_settings_win_and_go_into_earlier_ones() -> None:
    config = load(sets=["backend={use: sam, tiles: 3}", "backend.tiles=4", "backend.model=vit_l"])
    assert (config.backend.stage.tiles, config.backend.stage.model) == (4, "vit_l")


WRONG_SETS = {
    "wrong value": ("backend.model=vit_z", "--set backend.model: expected 'vit_b', 'vit_l' or 'vit_h', not 'vit_z'"),
    "wrong value inside": (
        "backend={use: sam, tiles: x}",
        "--set backend: tiles: expected a whole number of 1 or more or 'auto', not 'x'",
    ),
    "unknown option": (
        "backend.modle=vit_h",
        "--set backend.modle: the backend 'sam' has no option 'modle'\n  did you mean 'model'?",
    ),
    "unknown key": ("nam=x", "--set nam: unknown key 'nam'\n  did you mean 'name'?"),
    "unknown plugin": ("backend.use=samm", "--set backend.use: there is no backend 'samm'\n  did you mean 'sam'?"),
    "too far in a list": (
        "writers.3.use=png",
        "--set writers.3.use: 'writers' has 1 entry, numbered from 0; there is no entry 3",
    ),
    "no number for a list": (
        "writers.png=1",
        "--set writers.png: 'writers' is a list; expected the number of an entry, not 'png'\n"
        "  for example: --set writers.0.png=...",
    ),
    "inside a text": ("output.x=1", "--set output.x: 'output' is a single value; it has no keys to set"),
    "made for it": ("name.x=1", "--set name.x: name: expected a text, not a mapping"),
    "not yaml": ("writers=[", "--set writers: a value is missing here\n  is a '[' or '{' left open?"),
    "unset variable": (
        "name=${MASKMILL_NOPE}",
        "--set name: the environment variable MASKMILL_NOPE is not set\n"
        "  set it first: export MASKMILL_NOPE=...   (in PowerShell: $env:MASKMILL_NOPE = '...')",
    ),
    "no equals sign": (
        "backend.model",
        "--set: expected KEY=VALUE, got 'backend.model...'\n  for example: --set backend.model=vit_h",
    ),
    "no key": ("=3", "--set: expected KEY=VALUE, got '...'\n  for example: --set backend.model=vit_h"),
    "taken away": (
        "dataset=",
        "--set dataset: the key 'dataset' has no value\n"
        "  write `dataset: FOLDER` in the file, or: run-pipeline FILE.yaml FOLDER",
    ),
}


@pytest.mark.parametrize(("setting", "said"), WRONG_SETS.values(), ids=WRONG_SETS.keys())
def test_wrong_settings(setting: str, said: str) -> None:
    assert refusal(SMALL + "writers: [png]\n", sets=[setting]) == said


def test_problems_of_the_file_come_before_those_of_settings() -> None:
    said = refusal(SMALL + "nam: x\n", sets=["foo", "run.jobs=x"])
    assert [line.split(":")[0] for line in said.splitlines() if not line.startswith("  ")] == [
        "p.yaml",
        "--set",
        "--set run.jobs",
    ]


def test_a_setting_mends_a_wrong_value_of_the_file() -> None:
    assert load(SMALL + "name: ${MASKMILL_NOPE}\nrun: {jobs: x}\n", sets=["name=y", "run.jobs=1"]).name == "y"


def test_dataset_and_output_of_the_caller_are_relative_to_the_working_directory(folder: Path) -> None:
    config = load(name="deep/p.yaml", dataset=["mine", "package:a/b.png"], output=Path("there"))
    assert config.dataset == ("mine", "package:a/b.png")
    assert config.dataset_base == folder
    assert config.output == folder / "there"
    assert config.resolved()["dataset"] == [str(folder / "mine"), "package:a/b.png"]


def test_the_caller_may_give_what_the_file_lacks() -> None:
    config = load("prompts: [everything]\n", dataset=["d"], output=Path("o"))
    assert config.dataset == ("d",)


@pytest.mark.parametrize(("jobs", "kept"), [(3, 3), ("auto", "auto"), ("-1", -1)])
def test_jobs_of_the_caller(jobs: int | str, kept: int | str) -> None:
    assert load(SMALL + "run: {jobs: 7}\n", jobs=jobs).run.jobs == kept


def test_wrong_jobs_of_the_caller() -> None:
    assert refusal(jobs="many") == "--jobs: expected a whole number or 'auto', not 'many'"


# ---- the file itself


def test_a_missing_file_suggests_the_nearest() -> None:
    for name in ("quickstart.yaml", "scenes.yml", "notes.txt"):
        Path(name).write_text(SMALL, encoding="utf-8")
    for asked, meant in (
        ("quikstart.yaml", "quickstart.yaml"),
        ("scenes", "scenes.yml"),
        ("Scenes.yaml", "scenes.yml"),
    ):
        with pytest.raises(PipelineError) as caught:
            load_config(Path(asked))
        assert str(caught.value) == f"there is no pipeline file '{asked}'\n  did you mean '{meant}'?"
    with pytest.raises(PipelineError) as caught:
        load_config(Path("zzz.yaml"))
    assert str(caught.value).endswith("\n  the pipeline files in '.' are: quickstart.yaml, scenes.yml")
    with pytest.raises(PipelineError) as caught:
        load_config(Path("nowhere/p.yaml"))
    assert str(caught.value).endswith("\n  the folder 'nowhere' does not exist")


def test_a_folder_is_no_pipeline_file() -> None:
    with pytest.raises(PipelineError) as caught:
        load_config(Path("plugins"))
    assert str(caught.value) == (
        "'plugins' is a folder; expected a pipeline file\n  there is no .yaml file in 'plugins'"
    )


@pytest.mark.parametrize(("name", "reason"), [("x" * 300, "File name too long"), ("a\0b", "embedded null byte")])
def test_a_file_that_cannot_be_read(name: str, reason: str) -> None:
    with pytest.raises(PipelineError) as caught:
        load_config(Path(name))
    assert str(caught.value) == f"cannot read the pipeline file '{name}': {reason}"


# ---- drop-ins


def test_plugins_are_found_by_the_file_by_the_caller_and_beside_the_file(folder: Path) -> None:
    def plugin(path: Path, name: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        body = f"@hookimpl\ndef register_filters(register):\n    register('{name}', type('F', (Filter,), {{}}))\n"
        path.write_text("from maskmill import Filter, hookimpl\n" + body, encoding="utf-8")
        return path

    named = plugin(folder / "deep" / "mine" / "one.py", "one")
    given = plugin(folder / "two.py", "two")
    text = SMALL + "plugins: mine\nfilters: [one, two, score]\n"
    config = load(text, "deep/p.yaml", plugins=[given])
    assert config.drop_ins == (named, given, folder / "plugins" / "fakes.py")
    assert [use.entry.origin for use in config.filters] == [str(path) for path in config.drop_ins]

    said = refusal(text, "deep/p.yaml", drop_ins=False)
    assert "there is no prompt source 'everything'" in said
    assert "there is no filter 'two'" in said and "there is no filter 'one'" not in said


def test_a_broken_plugin_is_reported_with_the_errors_of_the_file(folder: Path) -> None:
    (folder / "plugins" / "bad.py").write_text("import maskmill\n1 / 0\n", encoding="utf-8")
    with pytest.raises(PipelineError) as caught:
        load(SMALL + "nam: x\n")
    first, second = caught.value.problems
    assert str(first) == "p.yaml:5:1: unknown key 'nam'\n  did you mean 'name'?"
    assert (second.file, second.line) == (str(folder / "plugins" / "bad.py"), 2)


# ---- into another process


def test_stages_are_rebuilt_from_plain_data(folder: Path) -> None:
    config = load(
        """
        dataset: d
        prompts: [{use: points, points: [[1, 2, 1]], path: x.jsonl, secret: correct horse}, everything]
        combine: all
        backend: {use: sam, checkpoint: w.pth}
        filters: [score]
        writers: [png, {use: png, format: polygons}]
        output: out
        """
    )
    data = config.chain_spec()
    setup = WorkerSetup(
        data, "out", 100, ("conflict",), ModelIds("model", ("", "m")), "digest", hashes=(("w.pth", 3, 4, "ab"),)
    )
    assert pickle.loads(pickle.dumps(setup)) == WorkerSetup.from_json(json.loads(json.dumps(setup.to_json()))) == setup
    stages = build_stages(data)
    # the drop-in's classes are new ones, as they are in another process
    for role, name, stage in stages.all():
        assert [(role, name)] == [(r, n) for r, n, s in config.stages().all() if s.model_dump() == stage.model_dump()]
    assert stages.combine == "all"
    assert [name for name, _ in stages.writers] == ["png", "png-2"]
    assert stages.prompts[0][1].path == folder / "x.jsonl"
    assert stages.prompts[0][1].secret.get_secret_value() == "correct horse"


def test_a_plugin_that_changed_meanwhile_is_refused(folder: Path) -> None:
    data = load().chain_spec()
    with (folder / "plugins" / "fakes.py").open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")
    with pytest.raises(PluginError, match="the plugin file changed during the run"):
        build_stages(data)


def test_resolved_is_a_pipeline_file_that_gives_the_same() -> None:
    config = load(
        """
        dataset: [d, package:a/b.png]
        prompts: [{use: points, points: [[1, 2, 1]], size: {width: 2}, path: x.jsonl}]
        filters: [score]
        writers: [png]
        output: out
        run: {jobs: 2}
        """
    )
    again = load(json.dumps(config.resolved(), ensure_ascii=False), "elsewhere/q.yaml")
    assert again.resolved() == config.resolved()
    assert config.resolved()["backend"] == {
        "use": "sam",
        "model": "vit_b",
        "tiles": "auto",
        "checkpoint": "auto",
        "threshold": 0.5,
    }


def test_fingerprints_follow_the_options_and_the_drop_ins(folder: Path) -> None:
    def masks(text: str = SMALL) -> str:
        config = load(text)
        return config.fingerprints(config.stages().model_ids()).masks

    before = masks()
    assert masks() == before
    assert masks(SMALL + "backend: {use: sam, tiles: 2}\n") != before
    (folder / "plugins" / "fakes.py").write_text(PLUGINS + "\n# changed\n", encoding="utf-8")
    assert masks() != before
