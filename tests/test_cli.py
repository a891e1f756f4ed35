"""The command line: what it imports, what it prints, how it exits."""

import os
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest

import maskmill
from maskmill import testing
from maskmill.cli import cli, main as maskmill_main
from maskmill.cli.run import main as run_main
from maskmill.plugins.registry import Registry


def python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, encoding="utf-8", check=False
    )


def exit_code(main, *arguments):
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    return raised.value.code or 0


@pytest.mark.parametrize("arguments", [["run", "--help"], ["check", "--help"], ["--version"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; sys.argv = ['maskmill', *sys.argv[1:]]\n"
        "from maskmill.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'pydantic', 'numpy', 'yaml', 'pluggy', 'maskmill_plugins', 'PIL', 'cv2'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = python(code, *arguments)
    assert done.returncode == 0, done.stderr
    assert "maskmill" in done.stdout.lower() or "pipeline" in done.stdout


def test_help_shows_the_commands_of_plugins(capsys):
    assert exit_code(maskmill_main, "--help") == 0
    shown = capsys.readouterr().out
    assert "selftest" in shown
    assert "status" in shown


def test_run_pipeline_is_its_own_command():
    points = {point.name: point.value for point in metadata.entry_points(group="console_scripts")}
    assert points["run-pipeline"] == "maskmill.cli.run:main"
    code = (
        "import sys; sys.argv = ['run-pipeline', '--help']\n"
        "from maskmill.cli.run import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'pydantic', 'numpy', 'pluggy'} & set(sys.modules)"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "--retry-failed" in done.stdout


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_pipeline_exits_with_2_and_one_clean_message(project, capsys, command):
    project.file.write_text(project.file.read_text(encoding="utf-8").replace("counter:", "conter:"), encoding="utf-8")
    assert exit_code(maskmill_main, command, project.file) == 2
    errors = capsys.readouterr().err
    assert "p.yaml:5:24:" in errors
    assert "counter" in errors
    assert "Traceback" not in errors


def test_the_same_from_both_commands(project, capsys):
    project.photos("a.png")
    assert exit_code(run_main, project.file) == 0
    assert "1 image: 1 done" in capsys.readouterr().out
    assert exit_code(maskmill_main, "run", project.file) == 0
    assert "1 was there already" in capsys.readouterr().out


def test_dataset_output_and_values_can_be_given(project, capsys):
    testing.write_picture(project.folder / "other" / "x.png")
    out = project.folder / "elsewhere"
    code = exit_code(
        run_main, project.file, project.folder / "other", "-o", out, "--set", "writers=[]", "-j", "1", "-q"
    )
    assert code == 0
    assert capsys.readouterr().out == ""
    assert (out / "results" / "x.png.json").exists()
    assert not (out / "areas").exists()


def test_check_prints_the_resolved_pipeline(project, capsys):
    project.photos("a.png")
    assert exit_code(maskmill_main, "check", project.file) == 0
    shown = capsys.readouterr().out
    assert "use: slow" in shown
    assert "seconds: 0.0" in shown, "defaults are filled in"
    assert not project.output.exists()


def test_check_finds_an_output_inside_the_dataset(project, capsys):
    project.photos("a.png")
    assert exit_code(maskmill_main, "check", project.file, "-o", project.folder / "photos" / "out") == 2
    assert "lies inside the dataset" in capsys.readouterr().err


def test_check_finds_prompts_that_the_backend_does_not_take(project, capsys):
    project.photos("a.png")
    path = project.folder / "plugins" / "fakes.py"
    source = path.read_text(encoding="utf-8").replace(
        "    def prompts(self, image):",
        "    def kinds(self):\n        return frozenset({'text'})\n\n    def prompts(self, image):",
    )
    path.write_text(source, encoding="utf-8")
    assert exit_code(maskmill_main, "check", project.file) == 2
    assert "the backend 'slow' takes box, points, and 'middle' gives text" in capsys.readouterr().err


def test_plugins_list_shows_name_role_and_origin(project, capsys):
    assert exit_code(maskmill_main, "plugins", "list", "--for", project.file) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("grabcut") and "backend" in line and "built-in" in line for line in lines)
    assert any(line.startswith("middle") and "fakes.py" in line for line in lines)


def test_an_unknown_command_is_named(capsys):
    assert exit_code(maskmill_main, "segmentate") == 2
    assert "No such command 'segmentate'" in capsys.readouterr().err
    assert "run" in cli.list_commands(None)


def test_a_name_the_console_cannot_show_does_not_end_the_run(project):
    project.photos("猫.png", "raise-车.png")
    done = subprocess.run(
        [sys.executable, "-m", "maskmill", "run", str(project.file)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 1
    assert rb"raise-\u8f66.png: failed at filters" in done.stderr


@pytest.mark.parametrize("as_array", [True, False], ids=["array", "file"])
def test_segment_in_python(tmp_path, as_array):
    ref = testing.write_picture(tmp_path / "a.png", 60, 80)
    picture = testing.pixels(60, 80) if as_array else ref.path
    box, points = maskmill.segment(picture, boxes=[[10, 5, 70, 55]], points=[[40, 30], [2, 2, 0]], backend="grabcut")
    assert box.array.shape == (60, 80)
    assert box.array.dtype == np.bool_
    assert box.area > 500
    assert points.prompt.points[1].label == 0


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        ({"boxes": [[500, 500, 600, 600]]}, maskmill.PromptError, "outside"),
        ({"boxes": [[10, 5, 70, 55]], "backend": "textual"}, maskmill.PromptError, "takes text, not box"),
        (
            {"boxes": [[10, 5, 70, 55]], "backend": "forgetful"},
            maskmill.ImageError,
            "the backend returned no mask for the prompt",
        ),
    ],
    ids=["outside the image", "a kind it does not take", "a mask is missing"],
)
def test_segment_keeps_the_contract_of_a_run(tmp_path, monkeypatch, asked, error, text):
    class Textual(testing.FillPrompt):
        def accepts(self):
            return frozenset({"text"})

    class Forgetful(testing.FillPrompt):
        def masks(self, image, prompts, embedding=None):
            return []

    class Plugin:
        @maskmill.hookimpl
        def register_backends(self, register):
            register("textual", Textual)
            register("forgetful", Forgetful)
            register("filling", testing.FillPrompt)

    registry = Registry()
    registry.add(Plugin(), "test")
    monkeypatch.setattr("maskmill.plugins.registry.Registry.load", lambda: registry)
    with pytest.raises(error, match=text):
        maskmill.segment(testing.pixels(60, 80), **{"backend": "filling", **asked})


def test_segment_gives_the_same_bits_every_time():
    boxes = [[10, 5, 70, 55], [20, 10, 60, 50]]
    first, second = (maskmill.segment(testing.pixels(60, 80), boxes=boxes, backend="grabcut") for _ in range(2))
    assert [mask.counts for mask in first] == [mask.counts for mask in second]


def test_every_public_name_is_there_and_listed():
    for name in maskmill.__all__:
        assert getattr(maskmill, name) is not None
    assert dir(maskmill) == sorted(maskmill.__all__)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = maskmill.nothing_like_it
