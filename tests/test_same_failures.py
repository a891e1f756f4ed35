"""A run in which every image fails for the same reason stops early; others do not."""

import json

import pytest

from maskmill import ImageRef, Pipeline
from maskmill.cli import main
from maskmill.results import Failure
from maskmill.run.same_failures import SameFailures, generalize

BROKEN = """
from maskmill import Backend, ImageError, hookimpl
from maskmill.testing import FillPrompt


class Broken(FillPrompt):
    message: str = "x"
    fixed_from: int = 1000

    def masks(self, image, prompts, embedding=None):
        if int(image.ref.key[:3]) < self.fixed_from:
            raise ImageError(self.message.format(key=image.ref.key, uri=image.ref.uri, number=int(image.ref.key[:3])))
        return super().masks(image, prompts, embedding)


@hookimpl
def register_backends(register):
    register("broken", Broken)
"""


@pytest.fixture
def broken(project):
    (project.folder / "plugins" / "broken.py").write_text(BROKEN, "utf-8")

    def write(message="{uri}: weights 0x{number}1 do not fit", fixed_from=1000, run=""):
        backend = json.dumps({"use": "broken", "message": message, "fixed_from": fixed_from})
        project.write(backend=backend, run=f"{{engine: inline{run}}}")

    project.rewrite = write
    write()
    return project


def run(project, **request):
    return Pipeline.load(project.file).run(quiet=True, **request)


@pytest.mark.parametrize(
    "message",
    [
        "out of memory",
        "{uri}: weights 0x{number}1 do not fit",
        "{key}: {number} of {number}00 rows",
        "cannot read /data/{number}/cache.bin",
    ],
    ids=["the same", "path", "key and numbers", "another path"],
)
def test_a_run_stops_where_every_image_fails_alike(broken, message):
    broken.rewrite(message)
    broken.many(30)
    report = run(broken)
    assert (report.ran, report.outcome, report.exit_code) == (10, "stopped", 1)
    assert report.message.startswith("the first 10 images all failed alike, at backend broken: ")
    assert "(first: 000.png;" in report.message


def test_the_cause_is_shown_once_and_the_run_can_go_on(broken, capsys):
    broken.many(15)
    with pytest.raises(SystemExit, match="1"):
        main(["run", str(broken.file)])
    shown = capsys.readouterr().err
    assert shown.count("000.png: failed at backend broken: ") == 1
    assert "009.png: failed for the same reason" in shown
    assert "Stopped: the first 10 images all failed alike, at backend broken: " in shown
    assert "\n5 images remain\nAfter fixing this, continue with: " in shown
    assert shown.count("do not fit") == 2  # at the first image and in the summary
    broken.rewrite(fixed_from=0)
    report = run(broken, retry_failed=True)
    assert (report.ran, report.exit_code, report.counts["done"]) == (15, 0, 15)


@pytest.mark.parametrize(
    ("options", "fixed_from", "ran"),
    [(", same_failures: 3", 1000, 3), (", same_failures: null", 1000, 15), ("", 9, 15), ("", 10, 10)],
    ids=["three", "never", "the tenth works", "the eleventh works"],
)
def test_how_many_are_enough(broken, options, fixed_from, ran):
    broken.rewrite(fixed_from=fixed_from, run=options)
    broken.many(15)
    assert run(broken).ran == ran


def test_different_reasons_do_not_stop_a_run(broken):
    broken.many(15)
    (broken.folder / "photos" / "004.png").write_bytes(b"no image")
    assert run(broken).ran == 15


def test_a_run_that_worked_before_is_not_stopped(broken):
    broken.rewrite(fixed_from=0)
    broken.photos("100.png")
    assert run(broken).counts["done"] == 1
    for name in broken.many(12):
        (broken.folder / "photos" / name).write_bytes(b"no image")
    assert run(broken).ran == 12


REF = ImageRef("/photos/a/b 1.png", "a/b 1.png")


@pytest.mark.parametrize(
    ("message", "general"),
    [
        ("/photos/a/b 1.png: truncated", "…: truncated"),
        ("no label for b 1.png", "no label for …"),
        ("HTTP 503 after 2.5 s", "HTTP # after # s"),
        (r"C:\cache\x.bin is locked", "… is locked"),
        ("object 0x7f3a of 12", "object #x# of #"),
        ("no number here", "no number here"),
    ],
    ids=["uri", "name", "numbers", "windows", "hexadecimal", "none"],
)
def test_what_is_of_one_image_is_left_out(message, general):
    assert generalize(message, REF) == general


def test_another_stage_or_plugin_is_another_reason():
    same = SameFailures(2)
    assert not same.add(REF, Failure("backend", "sam", "ValueError", "x"))
    assert not same.add(REF, Failure("writers", "png", "ValueError", "x"))
    assert (same.reason, same.first) == ("", None)


def test_worker_processes_are_stopped_alike(broken):
    broken.rewrite(run=", same_failures: 4")
    text = broken.file.read_text(encoding="utf-8").replace("engine: inline", "engine: joblib, jobs: 2")
    broken.file.write_text(text, encoding="utf-8")
    broken.many(40)
    report = run(broken)
    assert report.outcome == "stopped"
    assert 4 <= report.ran <= 8  # those under way are finished
    assert report.message.startswith("the first 4 images all failed alike, at backend broken: ")
