"""`maskmill plugins new` and `show`: what is generated works as it is, and nothing of the user's is touched."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from maskmill import testing
from maskmill.cli import main
from maskmill.cli.plugins_new import DROP_IN_ROLES, LONGEST, ROLES
from maskmill.config.load import load_config
from maskmill.plugins.find import find_drop_ins
from maskmill.plugins.registry import Registry
from maskmill.testing.templates import YAML_LINES

ROOT = Path(__file__).parent.parent


def plugins(*arguments):
    with pytest.raises(SystemExit) as raised:
        main(["plugins", *map(str, arguments)])
    return raised.value.code or 0


def python(*arguments, cwd):
    paths = os.pathsep.join(str(ROOT / part) for part in ("framework", "plugins"))
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), paths]))
    environ = {**os.environ, "PYTHONPATH": paths, "MYPYPATH": paths, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A project of a user with one new plugin of each role."""
    home = tmp_path_factory.mktemp("a 项目")
    for role in DROP_IN_ROLES:
        assert plugins("new", role, f"my_{role}", "--folder", home / "plugins") == 0
    for role in ROLES:
        assert plugins("new", role, f"own_{role}", "--package", "--folder", home / "packages") == 0
    return home


@pytest.fixture(scope="module")
def long_names(tmp_path_factory):
    """The same with the longest names there may be."""
    folder = tmp_path_factory.mktemp("long")
    for role in DROP_IN_ROLES:
        assert plugins("new", role, f"{role}_".ljust(LONGEST, "x"), "--folder", folder) == 0
    return folder


def test_every_role_has_a_template():
    assert set(ROLES) == set(YAML_LINES)


def test_the_generated_tests_pass(generated):
    done = python(
        "pytest",
        "-q",
        "-W",
        "error",
        "-W",
        "ignore::EncodingWarning",
        "-p",
        "no:cacheprovider",
        "plugins",
        cwd=generated,
    )
    assert done.returncode == 0, done.stdout
    assert "11 passed" in done.stdout


def test_the_generated_test_finds_a_mistake(tmp_path):
    assert plugins("new", "filter", "big", "--folder", tmp_path) == 0
    file = tmp_path / "big.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("part < self.part", "part > self.part"), encoding="utf-8")
    done = python("pytest", "-q", "-p", "no:cacheprovider", "_big_test.py", cwd=tmp_path)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout


def test_the_generated_files_are_clean(generated, long_names):
    rules = "E,F,W,I,N,UP,B,A,C4,SIM,RET,PTH,RUF,PL,D,TID"
    ignored = "D203,D213,D400,D401,D415,PLR2004"
    lint = python(
        *(
            "ruff",
            "check",
            "--no-cache",
            "--isolated",
            "--select",
            rules,
            "--ignore",
            ignored,
            "--per-file-ignores",
            "**/tests/*:D103",
            ".",
            long_names,
        ),
        cwd=generated,
    )
    assert lint.returncode == 0, lint.stdout
    layout = python("ruff", "format", "--no-cache", "--isolated", "--check", "--diff", ".", long_names, cwd=generated)
    assert layout.returncode == 0, layout.stdout
    files = sorted((generated / "plugins").glob("*.py"))
    assert len(files) == 2 * len(DROP_IN_ROLES)
    typed = python("mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports", *files, cwd=generated)
    assert typed.returncode == 0, typed.stdout


@pytest.mark.parametrize("role", [role for role in DROP_IN_ROLES if role != "observer"])
def test_a_run_loads_the_plugin_and_not_its_test(generated, role):
    folder = generated / "plugins"
    found = find_drop_ins(generated / "p.yaml")
    assert sorted(path.name for path in found) == sorted(f"my_{each}.py" for each in DROP_IN_ROLES)
    assert found == find_drop_ins(None, [folder])
    names = {entry.name for entry in Registry.load(found).entries.values()}
    assert f"my_{role}" in names


def test_new_packages_can_be_installed_and_pass_their_tests(generated, tmp_path, monkeypatch):
    folders = [generated / "packages" / f"maskmill-own-{role}" for role in ("command", "writer")]
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", tmp_path / "site")
    installed = python("pip", "install", *options, *folders, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    tests = [folder / "tests" for folder in folders]
    done = python("pytest", "-q", "-p", "no:cacheprovider", "-W", "error::UserWarning", *tests, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


def test_a_command_is_always_a_package(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert plugins("new", "command", "count") == 0
    shown = capsys.readouterr().out
    assert "pip install -e" in shown
    assert "maskmill count --help" in shown
    project = tomllib.loads(Path("maskmill-count/pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["maskmill"] == {"count": "maskmill_count"}
    assert project["dependencies"] == ["maskmill"]


def test_a_new_command_must_have_a_new_name(tmp_path, capsys):
    assert plugins("new", "command", "status", "--folder", tmp_path) == 2
    assert "there is already a command 'status'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_line_that_it_prints_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = []
    for role in DROP_IN_ROLES:
        assert plugins("new", role, f"a_{role}") == 0
        shown = capsys.readouterr().out
        assert f"maskmill plugins check {Path('plugins', f'a_{role}.py')}" in shown
        assert f"pytest {Path('plugins', f'_a_{role}_test.py')}" in shown
        lines += re.findall(r"^  (\w+: .*\{use: .*)$", shown, re.MULTILINE)
    assert len(lines) == len(DROP_IN_ROLES) - 1
    testing.write_picture(Path("photos/猫.png"))
    Path("p.yaml").write_text("\n".join(["dataset: photos", "output: out", *lines]), encoding="utf-8")
    assert [use.name for use in load_config(Path("p.yaml")).uses()] == [
        "a_source",
        "a_backend",
        "a_filter",
        "a_writer",
        "joblib",
    ]
    with pytest.raises(SystemExit) as ended:
        main(["run", "p.yaml", "--set", "run.engine=inline"])
    assert not ended.value.code
    assert (tmp_path / "out/a_writer/猫.png.json").exists()
    assert "p: images: 1" in capsys.readouterr().err


@pytest.mark.parametrize("role", ["filter", "observer"])
def test_the_lines_for_another_folder_work(tmp_path, monkeypatch, capsys, role):
    monkeypatch.chdir(tmp_path)
    assert plugins("new", role, "mine", "--folder", "鎏 tools") == 0
    shown = capsys.readouterr().out.partition("next to the folder '鎏 tools':\n")[2].splitlines()
    lines = ["prompts: [fake-source]", "dataset: x", *(line.strip() for line in shown)]
    (tmp_path / "fakes.py").write_text(testing.DROP_IN, encoding="utf-8")
    Path("p.yaml").write_text("\n".join(lines), encoding="utf-8")
    config = load_config(Path("p.yaml"), plugins=[tmp_path / "fakes.py"], complete=False)
    assert [path.name for path in config.drop_ins] == ["mine.py", "fakes.py"]
    assert [use.name for use in config.filters] == ["mine"] * (role == "filter")


@pytest.mark.parametrize("folder", ["file", "file/inside"])
def test_a_folder_that_cannot_be_is_refused(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert plugins("new", "filter", "mine", "--folder", folder) == 2
    assert capsys.readouterr().err.startswith(f"cannot write '{Path(folder, 'mine.py')}': ")


def test_the_printed_check_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plugins("new", "writer", "表")
    assert plugins("check", "plugins/表.py", "--inline") == 0
    assert "runs through inline" in capsys.readouterr().out


def test_nothing_is_overwritten(tmp_path, capsys):
    assert plugins("new", "filter", "big", "--folder", tmp_path) == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert plugins("new", "writer", "big", "--folder", tmp_path) == 2
    assert "big.py' already exists" in capsys.readouterr().err
    (tmp_path / "big.py").unlink()
    assert plugins("new", "writer", "big", "--folder", tmp_path) == 2
    assert "_big_test.py' already exists" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"_big_test.py": before["_big_test.py"]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-filter", "use letters, digits and _"),
        ("3d", "use letters, digits and _"),
        ("class", "cannot be a plugin's name"),
        ("_hidden", "beginning with a letter"),
        ("con", "cannot be a plugin's name"),
        ("../up", "cannot be a plugin's name"),
        ("MyFilter", "use lower case: myfilter"),
        ("mask", "the class Mask would hide the one that the plugin imports; try my_mask"),
        ("numpy", "the file numpy.py would hide the installed module 'numpy'; try my_numpy"),
        ("a" * 31, "at most 30 characters, this one has 31"),
        ("nms", "there is already a plugin 'nms': the filter of built-in"),
        ("manual", "there is already a plugin 'manual': the prompt source"),
        ("mine", "there is already a plugin 'mine': the filter of"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path, capsys, name, message):
    folder = tmp_path / "plugins"
    folder.mkdir()
    text = "from maskmill import Filter, hookimpl\n@hookimpl\ndef register_filters(register):\n    "
    (folder / "other.py").write_text(f"{text}register('mine', Filter)\n", encoding="utf-8")
    assert plugins("new", "filter", name, "--folder", folder) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in folder.glob("*.py")] == ["other.py"]


def test_a_broken_neighbour_does_not_keep_one_from_beginning(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "broken.py").write_text("import maskmill\n1 / 0\n", encoding="utf-8")
    assert plugins("new", "filter", "big", "--folder", folder) == 0


DROP_IN = '''
from typing import ClassVar, Literal
from pydantic import Field, SecretStr
from maskmill import NO_EFFECT, Filter, PromptSource, Writer, hookimpl


class Both(Filter):
    """Does one thing.

    And says more about it.
    """

    requires: ClassVar = ("numpy", "nosuchpackage")
    extra: ClassVar = "sam"
    version: ClassVar = 3
    network: ClassVar = "lan"

    limit: float = Field(ge=0, le=1, description="how much")
    mode: Literal["fast", "slow"] = Field("fast", description="how", json_schema_extra=NO_EFFECT)
    key: SecretStr | None = Field(None, description="what lets one in")


class Same(Writer):
    """Does another."""


@hookimpl
def register_filters(register):
    register("both", Both)


@hookimpl
def register_writers(register):
    register("both", Same)
'''


def test_show_tells_all_about_a_plugin_of_two_roles(tmp_path, capsys):
    file = tmp_path / "both.py"
    file.write_text(DROP_IN, encoding="utf-8")
    assert plugins("show", "both", "--plugins", file) == 0
    assert capsys.readouterr().out.splitlines() == [
        "both: filter",
        "",
        "Does one thing.",
        "",
        "And says more about it.",
        "",
        f"from     {file}",
        "version  3",
        "network  lan",
        'needs    numpy, nosuchpackage (not installed)  pip install "maskmill[sam]"',
        "",
        "option  value           default  meaning",
        "limit   number, 0 to 1  needed   how much",
        "mode    fast or slow    fast     how; no effect on results",
        "key     text            –        what lets one in",
        "",
        "both: writer",
        "",
        "Does another.",
        "",
        f"from     {file}",
        "version  1",
        "network  none",
        "needs    nothing",
        "",
        "It has no options.",
    ]


@pytest.mark.parametrize("name", sorted({entry.name for entry in Registry.load().entries.values()}))
def test_show_knows_every_option_of_every_plugin(name, capsys):
    assert plugins("show", name) == 0
    shown = capsys.readouterr().out
    for entry in Registry.load().entries.values():
        for option, field in entry.cls.model_fields.items():
            if entry.name == name:
                assert re.search(rf"^{field.alias or option} +\S", shown, re.MULTILINE), option


def test_show_suggests_the_nearest_name(capsys):
    assert plugins("show", "grabcat") == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["there is no plugin 'grabcat'", "  did you mean 'grabcut'?"]
    assert plugins("show", "zzzzzz") == 2
    assert "available: class_map, cleanup, " in capsys.readouterr().err
