"""`extends: base.yaml`: what is taken over, where relative paths start, where mistakes are, what stays the same."""

import os

import pytest
from stored_runs import told

from maskmill import Pipeline, PipelineError, testing
from maskmill.config.config import build_stages
from maskmill.config.load import load_config

BASE = """
dataset: photos
prompts: [{use: file, path: prompts.csv}]
backend: {use: grabcut, iterations: 7}
filters: [cleanup, {use: score, min_area: 4}]
writers: [png]
run: {jobs: 2, timeout: 60}
images: {page: 1}
output: out
"""


@pytest.fixture
def write(tmp_path):
    """Writes files in a folder with an odd name; returns the last."""

    def write(**files):
        for name, text in files.items():
            file = tmp_path / "项目 [1]" / (name.replace("__", "/") + ".yaml")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        return file

    return write


def refusal(file, **load):
    with pytest.raises(PipelineError) as raised:
        load_config(file, **load)
    return str(raised.value).replace(str(file.parent) + os.sep, "").replace(os.sep, "/")


def test_mappings_merge_and_everything_else_replaces(write):
    child = "extends: base.yaml\nfilters: [{use: score, min_area: 9}]\nrun: {jobs: 1}\noutput: mine\nname: b\n"
    config = load_config(write(base=BASE, p=child))
    assert (config.run.jobs, config.run.timeout, config.images.page) == (1, 60, 1)
    assert [use.name for use in config.filters] == ["score"]
    assert config.backend.stage.iterations == 7
    assert [use.name for use in config.writers] == ["png"]
    assert (config.name, config.output) == ("b", config.base / "mine")


def test_a_plugin_replaces_a_plugin_with_its_options(write):
    config = load_config(write(base=BASE, p="extends: base.yaml\nbackend: {use: grabcut, margin: 0.3}\n"))
    assert (config.backend.stage.iterations, config.backend.stage.margin) == (3, 0.3)
    said = refusal(write(p="extends: base.yaml\nbackend: {margin: 0.3}\n"))
    assert said.startswith("p.yaml:2:10: backend: `use: NAME` is missing")
    assert "it takes the place of the backend in base.yaml, whose options are not merged" in said


def test_a_key_without_a_value_is_taken_over(write):
    assert load_config(write(base=BASE, p="extends: base.yaml\nwriters:\nrun:\n")).run.jobs == 2
    assert load_config(write(p="extends: base.yaml\nwriters: []\n")).writers == ()


def test_relative_paths_start_from_the_file_in_which_they_stand(write):
    file = write(common__base=BASE, middle="extends: common/base.yaml\ndataset: mine\n", p="extends: middle.yaml\n")
    config, folder = load_config(file), file.parent
    assert config.dataset_base / config.dataset[0] == folder / "mine"
    assert config.prompts[0].stage.path == folder / "common" / "prompts.csv"
    assert config.output == folder / "common" / "out"
    [(_, source)] = build_stages(config.chain_spec()).prompts
    assert source.path == config.prompts[0].stage.path, "also in a worker"
    assert load_config(file, sets=["prompts=[{use: file, path: x.csv}]"]).prompts[0].stage.path == folder / "x.csv"
    assert load_config(file, sets=["prompts.0.path=x.csv"]).prompts[0].stage.path == folder / "common" / "x.csv"


def test_plugins_beside_the_base_are_loaded(write, capsys):
    file = write(common__base=BASE + "combine: all\n", p="extends: common/base.yaml\nbackend: filling\n")
    plugin = file.parent / "common" / "plugins" / "filling.py"
    plugin.parent.mkdir()
    plugin.write_text(
        "from maskmill import hookimpl\nfrom maskmill.testing import FillPrompt\n\n\n"
        "@hookimpl\ndef register_backends(register):\n    register('filling', FillPrompt)\n",
        encoding="utf-8",
    )
    assert load_config(file).backend.name == "filling"
    assert "filling" in told(capsys, "plugins", "list", "--for", file)[1]


MISTAKES = {
    "in the base": ({"base": BASE.replace("7", "many")}, "base.yaml:4:37: iterations: expected a whole number"),
    "in the base's base": (
        {"root": "run: {jobs: many}\n", "base": "extends: root.yaml\n" + BASE.replace("jobs: 2, ", "")},
        "root.yaml:1:13: jobs: expected a whole number or 'auto', not 'many'",
    ),
    "a key of the base": ({"base": BASE + "nam: x\n"}, "base.yaml:10:1: unknown key 'nam'"),
    "YAML of the base": ({"base": "a: [\n"}, "base.yaml:"),
    "no mapping": ({"base": "- a\n"}, "base.yaml:1:1: expected `key: value` lines, found a list"),
    "anchors": ({"base": BASE + "name: &x y\n"}, "base.yaml:10:7: the anchor '&x' is not allowed"),
    "variables": ({"base": BASE + "name: ${NO_SUCH}\n"}, "base.yaml:10:7: the environment variable NO_SUCH is not set"),
    "itself": ({"base": "extends: base.yaml\n"}, "base.yaml:1:10: extends: these files extend each other: "),
    "each other": ({"base": "extends: p.yaml\n"}, "base.yaml:1:10: extends: these files extend each other: "),
    "a list": ({"p": "extends: [a]\n"}, "p.yaml:1:10: extends: expected the path of a pipeline file, not a list"),
    "none": ({"p": "extends: bas.yaml\n"}, "p.yaml:1:10: extends: there is no pipeline file 'bas.yaml'"),
    "incomplete": ({"base": "backend: grabcut\n"}, "p.yaml:1:1: the key 'prompts' is missing"),
}


@pytest.mark.parametrize(("files", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_reported_where_it_stands(write, files, said):
    write(base=BASE, p="extends: base.yaml\n")
    file = write(**files)
    assert refusal(file.parent / "p.yaml").startswith(said)


def test_mistakes_of_all_files_are_reported_at_once(write):
    write(base=BASE.replace("iterations", "iteration"))
    lines = refusal(write(p="extends: base.yaml\nfilters: [scor]\n"), sets=["run.jobs=x"]).splitlines()
    assert [line.split(": ")[0] for line in lines if not line.startswith(" ")] == [
        "p.yaml:2:11",
        "base.yaml:4:25",
        "--set run.jobs",
    ]


def test_what_is_replaced_needs_no_variables(write):
    write(base=BASE.replace("photos", "${NO_SUCH}/a").replace("jobs: 2", "jobs: '${NO_SUCH}'"))
    assert load_config(write(p="extends: base.yaml\ndataset: mine\nrun: {jobs: 1}\n")).run.jobs == 1


def test_extends_cannot_be_set_on_the_command_line(write):
    assert refusal(write(base=BASE), sets=["extends=x.yaml"]) == "--set extends: it is read from the file only"


def test_results_stay_valid_when_values_move_into_a_base(project):
    project.photos("a.png")
    assert Pipeline.load(project.file).run(quiet=True).ran == 1
    lines = project.file.read_text(encoding="utf-8").splitlines(keepends=True)
    (project.folder / "base.yaml").write_text("".join(lines[1:5]), encoding="utf-8")
    project.file.write_text("extends: base.yaml\n" + "".join(lines[5:]), encoding="utf-8")
    assert Pipeline.load(project.file).run(quiet=True).ran == 0


def test_a_run_in_workers_finds_the_files_of_the_base(write):
    file = write(
        common__base="prompts: [{use: file, path: p.jsonl}]\nbackend: grabcut\n",
        p="extends: common/base.yaml\ndataset: photos\noutput: out\nwriters: [png]\nrun: {jobs: 1}\n",
    )
    testing.write_picture(file.parent / "photos" / "a.png")
    line = '{"image": "a.png", "prompts": [{"box": [4, 4, 30, 30]}]}\n'
    (file.parent / "common" / "p.jsonl").write_text(line, encoding="utf-8")
    report = Pipeline.load(file).run(quiet=True)
    assert (report.ran, report.exit_code) == (1, 0)
