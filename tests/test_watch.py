"""`run-pipeline --watch`: images that come, grow, change and go, until a signal ends it."""

import json
import os
import signal
import threading
import time

import pytest

from maskmill import Pipeline, UsageError, testing
from maskmill.cli import run as cli_run
from maskmill.output.folder import is_claimed
from maskmill.output.ledger import Ledger
from maskmill.output.records import read_about
from maskmill.output.run import read_run
from maskmill.output.store import load_result
from maskmill.run import watch
from maskmill.run.plan import RunRequest

PLUGIN = '''
from maskmill import hookimpl, testing


class Counted(testing.FillAnything):
    """Counts how often it is opened."""

    def open(self):
        with open("opened.txt", "a", encoding="utf-8") as file:
            file.write("x")


@hookimpl
def register_backends(register):
    register("counted", Counted)


@hookimpl
def run_started():
    with open("observed.txt", "a", encoding="utf-8") as file:
        file.write("started ")


@hookimpl
def run_finished(report):
    with open("observed.txt", "a", encoding="utf-8") as file:
        file.write(f"finished:{report.ran}")
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch, "PAUSE", 0.05)
    monkeypatch.setattr(watch, "REST", 0.3)
    monkeypatch.setattr(watch, "LAZINESS", 0)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "counted.py").write_text(PLUGIN, encoding="utf-8")
    (tmp_path / "plugins" / "fakes.py").write_text(testing.DROP_IN, encoding="utf-8")
    (tmp_path / "photos").mkdir()
    text = "dataset: photos\nprompts: [fake-source]\nbackend: counted\nwriters: [coco]\noutput: out\n"
    (tmp_path / "p.yaml").write_text(text + "run: {engine: inline}\n", encoding="utf-8")
    return tmp_path


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(condition)
        time.sleep(0.02)


def images_in_coco(folder):
    try:
        content = json.loads((folder / "out/coco/instances.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return sorted(image["file_name"] for image in content["images"])


def run_with(folder, visitor, **options):
    """Run `--watch` while `visitor` works in another thread; it ends with Ctrl-C."""
    problems = []

    def visit():
        try:
            visitor()
        except BaseException as error:
            problems.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        report = Pipeline.load(folder / "p.yaml").run(watch=True, **options)
    finally:
        thread.join()
    assert not problems, problems
    return report


def test_images_are_processed_as_they_come_change_and_go(folder, capsys):
    photos = folder / "photos"

    def visitor():
        testing.write_picture(photos / "a.png", 40, 60, 1)
        wait_until(lambda: images_in_coco(folder) == ["a.png"])
        assert is_claimed(folder / "out")
        testing.write_picture(photos / "b.png", 200, 300, 2)
        wait_until(lambda: images_in_coco(folder) == ["a.png", "b.png"])
        (photos / "a.png").unlink()
        wait_until(lambda: images_in_coco(folder) == ["b.png"])
        before = load_result(folder / "out", "b.png").sha256
        testing.write_picture(photos / "b.png", 50, 70, 3)
        wait_until(lambda: load_result(folder / "out", "b.png").sha256 != before)

    report = run_with(folder, visitor)
    assert (report.outcome, report.exit_code, report.ran, report.counts["done"]) == ("finished", 0, 3, 1)
    assert [result.key for result in read_run(folder / "out")] == ["b.png"]
    assert (folder / "opened.txt").read_text(encoding="utf-8") == "x", "the backend stays open between rounds"
    assert (folder / "observed.txt").read_text(encoding="utf-8") == "started finished:3"
    assert read_about(folder / "out")["outcome"] == "finished"
    assert not is_claimed(folder / "out")
    shown = capsys.readouterr().err
    assert "failed" not in shown
    assert "1 done; waiting for new images, Ctrl-C ends" in shown


def test_an_image_is_ready_once_it_was_the_same_in_two_looks(folder):
    photo = folder / "photos" / "a.png"
    testing.write_picture(photo, 40, 60)
    data = photo.read_bytes()
    config = Pipeline.load(folder / "p.yaml").config
    with Ledger.create(config.output) as ledger:
        watched = watch.Watch(config, RunRequest(watch=True), ledger, [])
        for end in (0, 0, 50, 100, len(data)):  # an empty file is one that somebody is about to write
            photo.write_bytes(data[:end])
            ready, look = watched.look()
            assert not ready
            assert list(look.due) == ["a.png"]
        assert watched.look()[0] == {"a.png"}
        os.utime(photo, ns=(1, 1))
        assert not watched.look()[0]


def test_a_picture_that_failed_is_tried_again_once_its_file_is_whole(folder):
    testing.write_picture(folder / "whole.png", 40, 60)
    data = (folder / "whole.png").read_bytes()
    (folder / "photos" / "a.png").write_bytes(data[:100])

    def visitor():
        wait_until(lambda: (folder / "out/failures.jsonl").exists() and "a.png" in failures(folder))
        (folder / "photos" / "a.png").write_bytes(data)
        wait_until(lambda: images_in_coco(folder) == ["a.png"])

    report = run_with(folder, visitor, quiet=True)
    assert (report.exit_code, report.counts["done"], report.ran) == (0, 1, 2)


def failures(folder):
    return (folder / "out/failures.jsonl").read_text(encoding="utf-8")


def test_a_dataset_that_is_gone_is_waited_for_and_loses_nothing(folder, capsys):
    testing.write_picture(folder / "photos" / "a.png", 40, 60)

    def visitor():
        wait_until(lambda: images_in_coco(folder) == ["a.png"])
        (folder / "photos").rename(folder / "away")
        wait_until(lambda: "waiting until this is over" in seen())
        (folder / "photos").mkdir()  # as a drive that is not mounted
        wait_until(lambda: "there are no images in photos" in seen())
        assert images_in_coco(folder) == ["a.png"]
        (folder / "photos").rmdir()
        (folder / "away").rename(folder / "photos")
        testing.write_picture(folder / "photos" / "b.png", 40, 60)
        wait_until(lambda: images_in_coco(folder) == ["a.png", "b.png"])

    said = []

    def seen():
        said.append(capsys.readouterr().err)
        return "".join(said)

    report = run_with(folder, visitor)
    assert (report.exit_code, report.counts["done"]) == (0, 2)


def test_an_empty_folder_is_waited_for(folder):
    report = run_with(folder, lambda: time.sleep(0.5), quiet=True)
    assert (report.outcome, report.exit_code, report.ran) == ("finished", 0, 0)


@pytest.mark.parametrize("more", ["--limit=3", "--dry-run"])
def test_options_that_contradict_it_are_refused(folder, capsys, more):
    with pytest.raises(SystemExit) as raised:
        cli_run.main(["p.yaml", "--watch", more])
    assert raised.value.code == 2
    assert "--watch" in capsys.readouterr().err


def test_without_it_an_empty_folder_is_an_error(folder):
    with pytest.raises(UsageError, match="there is no image in"):
        Pipeline.load(folder / "p.yaml").run(quiet=True)
