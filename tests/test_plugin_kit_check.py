"""`maskmill plugins check`: good plugins pass, and each way to break the contract is found and named."""

import os
import textwrap

import pytest

from maskmill import PluginError, testing
from maskmill.cli import main
from maskmill.testing.check import check_file

HEAD = """
import os, threading, time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
import numpy as np
from pydantic import Field
from maskmill import *
from maskmill import NO_EFFECT
"""
#: A good plugin of each role; a broken one has something else in place of one of its lines.
SOURCE = '''
class Source(PromptSource):
    """A box over the left half."""

    label: str = Field("left", description="class name")

    def prompts(self, image):
        return [Prompt(box=Box(0, 0, image.width / 2, image.height), label=self.label)]


@hookimpl
def register_prompt_sources(register):
    register("left", Source)
'''
BACKEND = '''
class Boxes(Backend):
    """Fills boxes."""

    def accepts(self):
        return frozenset({"box"})

    def model_id(self):
        return "boxes-1"

    def masks(self, image, prompts, embedding=None):
        found = []
        for prompt in prompts:
            pixels = np.zeros((image.height, image.width), bool)
            box = prompt.box
            pixels[int(box.y1) : int(box.y2) + 1, int(box.x1) : int(box.x2) + 1] = True
            found.append(Mask.from_array(pixels, prompt=prompt))
        return found


@hookimpl
def register_backends(register):
    register("boxes", Boxes)
'''
FILTER = '''
class Big(Filter):
    """Keeps large masks."""

    pixels: int = Field(100, ge=0, description="the smallest area that is kept")

    def apply(self, image, masks):
        return [mask for mask in masks if mask.area >= self.pixels]


@hookimpl
def register_filters(register):
    register("big", Big)
'''
WRITER = '''
class Areas(Writer):
    """Writes areas into text files."""

    def write(self, image, result, folder):
        return [save(folder, result.key, repr([mask.area for mask in result.kept]).encode(), ".txt")]

    def finish(self, results, folder):
        return [save(folder, "all.txt", "".join(result.key for result in results).encode())]


@hookimpl
def register_writers(register):
    register("areas", Areas)
'''
OBSERVER = """
@hookimpl
def run_started(run):
    run.output.name


@hookimpl
def image_finished(run, result):
    assert result.status == "done"


@hookimpl
def run_finished(report):
    assert report.ran == 6
"""
GOOD = {"source": SOURCE, "backend": BACKEND, "filter": FILTER, "writer": WRITER, "observer": OBSERVER}
KEPT = "return [mask for mask in masks if mask.area >= self.pixels]"
BOX = "return [Prompt(box=Box(0, 0, image.width / 2, image.height), label=self.label)]"
ADDED = "found.append(Mask.from_array(pixels, prompt=prompt))"
SAVED = 'return [save(folder, result.key, repr([mask.area for mask in result.kept]).encode(), ".txt")]'
ALL = 'return [save(folder, "all.txt", "".join(result.key for result in results).encode())]'

#: what is broken -> (a good plugin, its line, the line instead, a part of the problem, a part of its hint)
BROKEN = {
    "no docstring": (FILTER, '"""Keeps large masks."""', "", "has no docstring", "first line"),
    "an option without a description": (
        FILTER,
        ', description="the smallest area that is kept"',
        "",
        "no description: pixels",
        "Field(",
    ),
    "an option without a default": (
        FILTER,
        "Field(100, ge=0, ",
        "Field(ge=0, ",
        "the filter 'big' needs the option 'pixels'",
        "--set pixels=VALUE",
    ),
    "a method missing": (FILTER, "def apply(self", "def filter_masks(self", "the method apply is missing", ""),
    "a method misspelt": (
        BACKEND,
        "def model_id(self)",
        "def modelid(self)",
        "Boxes.modelid is not a method",
        "did you mean 'model_id'?",
    ),
    "arguments missing": (
        WRITER,
        "def write(self, image, result, folder):",
        "def write(self, image, folder):\n        result = None",
        "write(self, image, folder) does not fit",
        "write it as write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]",
    ),
    "nothing registered": (
        FILTER,
        "@hookimpl\ndef register_filters",
        "def offer",
        "registers nothing",
        "register_filters",
    ),
    "a package missing": (
        FILTER,
        '    """Keeps large masks."""',
        '    """Keeps large masks."""\n    requires: ClassVar = ("nosuchpackage",)',
        "needs the package 'nosuchpackage'",
        "pip install",
    ),
    "a check that returns text": (
        FILTER,
        "    def apply",
        "    def check(self):\n        return 'bad'\n\n    def apply",
        "check() returns 'bad'",
        "maskmill.Problem",
    ),
    "a check that finds something": (
        FILTER,
        "    def apply",
        "    def check(self):\n        return [Problem('no file', hint='make one')]\n\n    def apply",
        "no file",
        "make one",
    ),
    "an open that fails": (
        FILTER,
        "    def apply",
        "    def open(self):\n        raise OSError('gone')\n\n    def apply",
        "OSError: gone",
        "",
    ),
    "a note that is no JSON": (FILTER, KEPT, "self.note('x', {1, 2}); return []", "raised TypeError", ""),
    "an undeclared connection": (
        SOURCE,
        BOX,
        "import socket\n"
        "        with socket.socket() as wire:\n"
        "            wire.settimeout(0.01)\n"
        "            try:\n"
        "                wire.connect(('192.0.2.1', 80))\n"
        "            except OSError:\n"
        "                pass\n"
        f"        {BOX}",
        "it connected to 192.0.2.1:80, but declares that it needs no network",
        "network = ",
    ),
    "a source that returns one prompt": (
        SOURCE,
        BOX,
        BOX.replace("[", "(").replace("]", ")"),
        "returns Prompt",
        "list",
    ),
    "a source that returns a tuple of numbers": (
        SOURCE,
        BOX,
        "return [(1, 2, 3, 4)]",
        "returns [(1, 2, 3, 4)]",
        "None",
    ),
    "a label of two lines": (
        SOURCE,
        BOX,
        "return [Prompt(box=[0, 0, 1, 1], label='a\\nb')]",
        "its label has control characters or line breaks: 'a\\nb'",
        "",
    ),
    "a prompt's score in percent": (SOURCE, BOX, "return [Prompt(box=[0, 0, 1, 1], score=95)]", "not 95.0", "by 100"),
    "a prompt outside": (
        SOURCE,
        BOX,
        "return [Prompt(box=Box(70, 0, 90, 5))]",
        "prompts() of wide.png (64×48): the box [70.0, 0.0, 90.0, 5.0] lies outside",
        "pixels of this image",
    ),
    "kinds that it did not announce": (
        SOURCE,
        "    def prompts",
        "    def kinds(self):\n        return frozenset({'points'})\n\n    def prompts",
        "kinds() returns points, but prompts() also gives box",
        "",
    ),
    "prompts of the process": (
        SOURCE,
        BOX,
        f"self._asked = getattr(self, '_asked', 0) + 1\n        {BOX.replace('self.label', 'str(self._asked)')}",
        "prompts() returns something else for",
        "keep no state",
    ),
    "prompts of the thread": (
        SOURCE,
        "    def prompts(self, image):",
        "    waits: ClassVar = True\n\n"
        "    def open(self):\n        self._home = threading.get_ident()\n\n"
        "    def prompts(self, image):\n        if threading.get_ident() != self._home:\n            return []",
        "something else in several threads",
        "lock",
    ),
    "a fingerprint of the moment": (
        SOURCE,
        "    def prompts",
        "    def fingerprint(self, ref):\n        return str(time.time_ns())\n\n    def prompts",
        "fingerprint() of wide.png",
        "the same text",
    ),
    "an answer that it has not": (
        SOURCE,
        "    def prompts",
        "    def has_answer(self, ref):\n        return False\n\n    def prompts",
        "has_answer() of wide.png (64×48) is False, but prompts() returns",
        "",
    ),
    "unknown kinds": (BACKEND, 'frozenset({"box"})', 'frozenset({"boxes"})', "accepts() returns", "everything"),
    "masks of another size": (
        BACKEND,
        "(image.height, image.width)",
        "(image.width, image.height)",
        "its size is (64, 48), the image's is (48, 64)",
        "shape (image.height, image.width)",
    ),
    "masks without their prompt": (BACKEND, ", prompt=prompt)", ")", "does not name its prompt", "prompt=prompt"),
    "masks in another order": (
        BACKEND,
        "return found",
        "return found[::-1]",
        "2 prompts got 2 masks, for the prompts number [1, 0]",
        "in the order of the prompts",
    ),
    "a mask too few": (BACKEND, "return found", "return found[:1]", "2 prompts got 1 mask", "one mask per prompt"),
    "arrays instead of masks": (BACKEND, ADDED, "found.append(pixels)", "masks() of wide.png", "maskmill.Mask"),
    "None instead of masks": (BACKEND, "return found", "return None", "returns None", "a list"),
    "a score that is none": (
        BACKEND,
        ", prompt=prompt)",
        ", prompt=prompt, score=float('nan'))",
        "a mask's score must be a number from 0 to 1, not nan",
        "",
    ),
    "a score of another unit, set later": (
        BACKEND,
        "return found",
        "return [replace(mask, score=95.0) for mask in found]",
        "its score must be a number from 0 to 1, not 95.0",
        "use None if",
    ),
    "probabilities instead of pixels": (
        BACKEND,
        ADDED,
        "found.append(Mask.from_array(pixels * 0.9, prompt=prompt))",
        "a mask array is bool",
        "array > 0.5",
    ),
    "masks of chance": (
        BACKEND,
        ADDED,
        "found.append(Mask.from_array(pixels, prompt=prompt, score=int.from_bytes(os.urandom(4), 'big') / 2**32))",
        "masks() returns something else for",
        "seed what is random",
    ),
    "another result with the embedding": (
        BACKEND,
        "    def masks(self, image, prompts, embedding=None):",
        "    def embed(self, image):\n        return 1\n\n"
        "    def masks(self, image, prompts, embedding=None):\n"
        "        if embedding:\n"
        "            return [Mask.from_array(np.ones(image.size, bool), prompt=each) for each in prompts]",
        "differ with and without the embedding",
        "",
    ),
    "pixels changed": (
        BACKEND,
        "found = []",
        "found = []; image.pixels[0, 0] = 0",
        "read-only",
        "image.pixels.copy()",
    ),
    "an exception": (FILTER, KEPT, "return [][0]", "raised IndexError: list index out of range, in line", "ImageError"),
    "every image refused": (
        FILTER,
        KEPT,
        "raise ImageError('too odd')",
        "it fails every image of the check: too odd",
        "",
    ),
    "a new mask": (
        FILTER,
        KEPT,
        "return [Mask.from_array(np.ones(image.size, bool))]",
        "returns a mask that it was not given",
        "mask.with_array",
    ),
    "None instead of a list": (FILTER, KEPT, "return None", "apply() of wide.png (64×48) returns None", "list of"),
    "a mask twice": (FILTER, KEPT, "return [*masks, *masks]", "returns a mask twice", ""),
    "a mask turned": (
        FILTER,
        KEPT,
        "return [mask.with_array(mask.array.T) for mask in masks]",
        "its size is (64, 48)",
        "",
    ),
    "a drop signed by hand": (
        FILTER,
        KEPT,
        "return [replace(mask, dropped_by='me') for mask in masks]",
        "the framework sets dropped_by",
        "mask.drop",
    ),
    "its argument changed": (
        FILTER,
        KEPT,
        "masks.sort(key=lambda mask: -mask.area); return list(masks)",
        "changes the list",
        "",
    ),
    "no masks not thought of": (
        FILTER,
        KEPT,
        "best = max(mask.area for mask in masks); return list(masks)",
        "raised ValueError: max()",
        "",
    ),
    "a choice by chance": (
        FILTER,
        KEPT,
        "return [mask for mask in masks if os.urandom(1)[0] % 2]",
        "apply() returns something else",
        "",
    ),
    "a file not named": (
        WRITER,
        SAVED,
        f"folder.mkdir(exist_ok=True, parents=True)\n        (folder / 'extra.txt').write_bytes(b'x')\n        {SAVED}",
        "it wrote the file own/extra.txt but does not return it",
        "maskmill.save",
    ),
    "a folder that is not there": (
        WRITER,
        SAVED,
        "(folder / 'new' / 'x.txt').write_bytes(b'')",
        "raised FileNotFoundError",
        "maskmill.save",
    ),
    "a file outside": (
        WRITER,
        SAVED,
        "return [save(folder.parent, result.key, b'', '.txt')]",
        "names a file that does not exist: wide.png.txt",
        "maskmill.save(folder",
    ),
    "a path that leads outside": (
        WRITER,
        SAVED,
        "return [Artifact('../x.txt', '', 0)]",
        "names a file outside its folder: ../x.txt",
        "",
    ),
    "one file for all": (
        WRITER,
        SAVED,
        "return [save(folder, 'masks.txt', b'')]",
        "two images share the file masks.txt",
        "result.key",
    ),
    "one file for two suffixes": (
        WRITER,
        "result.key, repr",
        "str(Path(result.key).with_suffix('')), repr",
        "two images share the file tall.txt",
        "suffix",
    ),
    "paths instead of artifacts": (
        WRITER,
        SAVED,
        "return [folder / 'x.txt']",
        "write() of wide.png",
        "maskmill.Artifact",
    ),
    "another size than said": (
        WRITER,
        SAVED,
        "made = save(folder, result.key, b'x', '.txt'); (folder / made.path).write_bytes(b'yy'); return [made]",
        "does not match its artifact",
        "",
    ),
    "the time in a file": (
        WRITER,
        "repr([mask.area for mask in result.kept]).encode()",
        "str(time.time_ns()).encode()",
        "differs when it is written again",
        "write no times",
    ),
    "files in the order of work": (
        WRITER,
        SAVED,
        "self._count = getattr(self, '_count', 0) + 1; return [save(folder, f'{self._count}.txt', b'')]",
        "differs when it is written again",
        "",
    ),
    "pixels that it says it does not need": (
        WRITER,
        SAVED,
        f"{SAVED.replace('[mask.area for mask in result.kept]', 'image.pixels.mean()')}\n\n    needs_pixels = False",
        "needs_pixels is False, but the file wide.png.txt depends on the pixels",
        "leave needs_pixels out",
    ),
    "a run without images not thought of": (
        WRITER,
        ALL,
        "return [save(folder, 'first.txt', next(results).key.encode())]",
        "StopIteration",
        "",
    ),
    "an observer that raises": (OBSERVER, "report.ran == 6", "report.ran == 7, 'seven'", "AssertionError: seven", ""),
}


def written(tmp_path, text):
    file = tmp_path / "plugin.py"
    file.write_text(textwrap.dedent(HEAD) + text, encoding="utf-8")
    return file


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_good_plugin_has_no_problem(tmp_path, text):
    assert testing.problems(written(tmp_path, text)) == []


@pytest.mark.parametrize(("good", "line", "instead", "problem", "hint"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_found(tmp_path, good, line, instead, problem, hint):
    assert line in good
    found = testing.problems(written(tmp_path, good.replace(line, instead)), engines=())
    assert any(problem in text and hint in text for text in found), "\n".join(found) or "nothing found"


def test_two_plugins_of_one_file_do_not_meet(tmp_path):
    second = WRITER.partition("@hookimpl")[0].replace("Areas", "Sums").replace('".txt"', '".sum"')
    both = second + WRITER.replace("Areas)", 'Areas)\n    register("summa", Sums)')
    assert testing.problems(written(tmp_path, both)) == []


def test_what_differs_between_processes_is_found(tmp_path):
    file = written(tmp_path, FILTER.replace(KEPT, "return [mask.drop(str(os.getpid())) for mask in masks]"))
    (found,) = [verdict for verdict in check_file(file, {}) if verdict.problem]
    assert found.rule == "gives the same results through joblib as through inline"
    assert found.problem.startswith("different: results/")


def test_what_fails_in_another_process_is_found(tmp_path):
    home = (
        f"import os\n        if os.getpid() != {os.getpid()}:\n            raise RuntimeError('not at home')\n        "
    )
    file = written(tmp_path, WRITER.replace(SAVED, home + SAVED))
    found = [verdict for verdict in check_file(file, {}) if verdict.problem]
    assert found[0].rule == "runs through joblib"
    assert "failed at writers: RuntimeError: not at home" in found[0].problem


def exit_code(*arguments):
    with pytest.raises(SystemExit) as raised:
        main(["plugins", "check", *map(str, arguments)])
    return raised.value.code or 0


def test_the_command_says_how_each_check_went(tmp_path, capsys):
    file = written(tmp_path, SOURCE + FILTER + OBSERVER)
    assert exit_code(file, "--set", "pixels=5", "--set", "label=猫") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "no problems"
    assert all(line.startswith("ok       ") for line in lines[:-1])
    for each in ("prompt source 'left'", "filter 'big'"):
        assert f"ok       {each}: runs through inline" in lines
        assert f"ok       {each}: runs through joblib" in lines
    assert "ok       plugin.py: run_started, image_finished, run_finished work in a run" in lines


def test_the_command_fails_when_something_is_wrong(tmp_path, capsys):
    file = written(tmp_path, FILTER.replace("Field(100, ", "Field("))
    assert exit_code(file, "--inline") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 problem"
    assert exit_code(file, "--inline", "--set", "pixels=10") == 0
    assert "joblib" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("import nosuchmodule", (), "plugin.py:10: the plugin cannot be loaded: ModuleNotFoundError"),
        (
            "raise SystemExit(0)",
            (),
            "plugin.py:10: the plugin cannot be loaded: it ends the program",
        ),
        (FILTER.replace("pixels: int", "version: int"), (), "remove its type: version = ..."),
        (FILTER.replace('"big"', '"nms"'), (), "two plugins register the filter 'nms'"),
        (FILTER.replace("register_filters", "register_filter"), (), "there is no hook 'register_filter'"),
        (FILTER, ("--set", "pixel=3"), "no plugin of plugin.py has the option 'pixel'"),
        (FILTER, ("--set", "pixels"), "expected KEY=VALUE"),
        (FILTER, ("--set", "pixels=[1"), "--set pixels"),
    ],
    ids=[
        "broken import",
        "script",
        "hidden attribute",
        "name taken",
        "unknown hook",
        "unknown option",
        "no value",
        "no YAML",
    ],
)
def test_a_file_that_cannot_be_tried_exits_with_2(tmp_path, capsys, text, arguments, message):
    assert exit_code(written(tmp_path, text), *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_python_is_refused(tmp_path, capsys):
    (tmp_path / "plugin.txt").write_text(FILTER, encoding="utf-8")
    assert exit_code(tmp_path / "plugin.txt") == 2
    assert "whose name ends in .py" in capsys.readouterr().err


def test_a_helper_with_a_name_like_a_method_is_no_mistake(tmp_path):
    file = written(tmp_path, BACKEND.replace("    def masks", "    def mask(self):\n        pass\n\n    def masks"))
    assert testing.problems(file, engines=()) == []


def test_an_option_of_another_plugin_is_refused(tmp_path):
    with pytest.raises(PluginError, match="has the option 'label'"):
        list(check_file(written(tmp_path, FILTER), {"label": "x"}))


def test_options_with_paths_and_variables_reach_the_real_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("${HOME}\\n", encoding="utf-8")
    fields = "    file: Path = Field(description='words')\n    text: str = Field(description='the same')\n"
    body = KEPT.replace("self.pixels", "(0 if self.file.read_text('utf-8') == self.text else 1 // 0)")
    file = written(tmp_path, FILTER.replace("    pixels: int", fields + "    pixels: int").replace(KEPT, body))
    assert testing.problems(file, {"file": "words.txt", "text": "${HOME}\\n"}) == []
