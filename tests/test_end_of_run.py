"""The end of a run: what images add to the files about the dataset is made once, kept, and put together."""

import os
import shutil
from pathlib import Path

import pytest

import maskmill.files
from maskmill import Pipeline, Run
from maskmill.output.entry_store import NAME, EntryStore, Origin
from maskmill.output.ledger import Ledger
from maskmill.plugins.optional import make_entry
from maskmill.run import execution, tracker as tracker_module
from maskmill.run.tracker import Tracker
from maskmill.testing import DROP_IN, write_picture

LABELS = {"a.png": "dog", "b.png": "cat", "sub/a b.png": "dog", "照.png": "fox"}
PLUGIN = """
import json
import os
import signal

from maskmill import Writer, hookimpl, save


class Odd(Writer):
    fails_on: str = ""
    stops: bool = False

    def make_entry(self, result):
        if self.fails_on in [mask.label for mask in result.kept]:
            raise ValueError("an odd label")
        return result.key.encode()

    def finish_entries(self, entries, folder):
        keys = []
        for entry in entries.read("keys"):
            keys.append(entry.data.decode())
            if self.stops:
                os.kill(os.getpid(), signal.SIGINT)
        return [save(folder, "keys.txt", "\\n".join(keys).encode())]


@hookimpl
def register_writers(register):
    register("odd", Odd)
"""
PIPELINE = """
dataset: photos
prompts: [{use: file, path: boxes.csv}]
backend: {use: fake-backend}
writers: [WRITERS]
output: out
run: {engine: inline}
"""
BOTH = "{use: coco}, {use: yolo, images: none, val: 0.5}"


def write(folder: Path, labels=LABELS, writers: str = BOTH) -> None:
    """The pipeline file and the prompts."""
    rows = [f"{key},2,3,12,14,{label}" for key, label in labels.items()]
    (folder / "boxes.csv").write_text("\n".join(["image,x1,y1,x2,y2,label", *rows, ""]), encoding="utf-8")
    (folder / "p.yaml").write_text(PIPELINE.replace("WRITERS", writers), encoding="utf-8")


def work(folder: Path, output: str = "out", **values):
    return Pipeline.load(folder / "p.yaml", output=folder / output).run(quiet=True, **values)


def tree(output: Path) -> dict[str, bytes]:
    """The files of the writers."""
    files = (path for path in output.glob("*/**/*") if path.is_file())
    found = {path.relative_to(output).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if not name.startswith("results/")}


def times(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (output / "yolo" / "labels").rglob("*.txt")}


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A folder with a pipeline that ran once."""
    folder = tmp_path_factory.mktemp("first")
    for number, key in enumerate(LABELS):
        write_picture(folder / "photos" / key, 32, 32, number)
    (folder / "plugins").mkdir()
    (folder / "plugins" / "fakes.py").write_text(f"import maskmill\n{DROP_IN}", encoding="utf-8")
    (folder / "plugins" / "odd.py").write_text(PLUGIN, encoding="utf-8")
    write(folder)
    assert work(folder).exit_code == 0
    return folder


@pytest.fixture
def folder(first, tmp_path) -> Path:
    return shutil.copytree(first, tmp_path / "copy")


@pytest.fixture
def read_keys(monkeypatch) -> list[str]:
    """The images whose stored results are read for the files about the dataset."""
    monkeypatch.setattr(execution, "update_prompts_csv", lambda *given: "")  # it reads them, too
    keys, read = [], Ledger.result
    monkeypatch.setattr(Ledger, "result", lambda ledger, row: keys.append(row.key) or read(ledger, row))
    return keys


def assert_like_fresh(folder: Path) -> None:
    work(folder, "fresh")
    assert tree(folder / "out") == tree(folder / "fresh")
    shutil.rmtree(folder / "fresh")


@pytest.mark.parametrize(
    "writer",
    ["coco", "coco, format: polygons, images: copy", "yolo", "voc", "labelme", "labelstudio", "png", "cutout"],
)
def test_a_worker_makes_what_the_stored_result_gives(folder, writer):
    write(folder, writers=f"{{use: {writer}}}")
    assert work(folder).exit_code == 0
    name = writer.partition(",")[0]
    stage = Pipeline.load(folder / "p.yaml").config.stages().writers[0][1]
    stage.open()
    with Run(folder / "out") as run, EntryStore(folder / "out" / NAME) as entries:
        found = {entry.key: entry.data for entry in entries.read(name)}
        assert found == {result.key: make_entry(stage, result) for result in run.results()}
    assert list(found) == sorted(LABELS)


def test_the_end_reads_no_result_that_did_not_change(folder, read_keys):
    write(folder, {**LABELS, "b.png": "fox"})
    assert work(folder).ran == 1
    assert read_keys == []
    assert_like_fresh(folder)


@pytest.mark.parametrize("damage", ["gone", "no database", "a page", "of another result", "of other options"])
def test_entries_that_are_lost_or_do_not_fit_are_made_from_results_read_once(folder, read_keys, damage):
    path = folder / "out" / NAME
    if damage == "gone":
        path.unlink()
    elif damage == "no database":
        path.write_bytes(b"garbage" * 1000)
    elif damage == "a page":
        data = path.read_bytes()
        path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    else:
        with EntryStore(path) as entries:
            for writer in ("coco", "yolo"):
                for key, origin in entries.find_origins(writer, sorted(LABELS)).items():
                    made_from = (1, 1) if damage == "of another result" else origin.result
                    made_with = origin.made_with if damage == "of another result" else ""
                    entries.put(writer, key, Origin(made_from, made_with), b"stale")
    write(folder, {**LABELS, "b.png": "ape"})
    assert work(folder).exit_code == 0
    assert read_keys == sorted(LABELS.keys() - {"b.png"})
    assert_like_fresh(folder)


def test_label_files_whose_content_stays_are_not_written_again(folder):
    before = times(folder / "out")
    write(folder, {**LABELS, "a.png": "fox"})
    work(folder)
    after = times(folder / "out")
    assert {name for name in after if after[name] != before[name]} == {"a.txt"}
    (lost,) = (folder / "out" / "yolo" / "labels").rglob("照.txt")
    lost.unlink()
    write(folder)
    work(folder)
    assert lost.exists()
    write_picture(folder / "photos" / "new.png", 32, 32, 9)
    write(folder, {**LABELS, "new.png": "ape"})  # the first class: all numbers change
    work(folder)
    assert_like_fresh(folder)


def test_verify_compares_the_label_files(folder):
    path = next((folder / "out" / "yolo" / "labels").rglob("b.txt"))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("0", "1", 1), encoding="utf-8")
    assert work(folder, verify=True).exit_code == 0
    assert path.read_text(encoding="utf-8") == text


def test_images_that_left_are_in_no_file_and_can_come_back(folder):
    (folder / "photos" / "照.png").rename(folder / "照.png")
    work(folder)
    with EntryStore(folder / "out" / NAME) as entries:
        assert [entry.key for entry in entries.read("coco")] == ["a.png", "b.png", "sub/a b.png"]
    assert_like_fresh(folder)
    (folder / "照.png").rename(folder / "photos" / "照.png")
    work(folder)
    assert_like_fresh(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_any_moment_of_the_end_changes_no_byte(first, tmp_path):
    labels = {**LABELS, "b.png": "ape"}  # all class numbers change
    shutil.copytree(first, tmp_path / "whole")
    write(tmp_path / "whole", labels)
    work(tmp_path / "whole")
    whole, moment, died = tree(tmp_path / "whole" / "out"), 0, True
    while died:
        folder = shutil.copytree(first, tmp_path / "cut")
        write(folder, labels)
        if (pid := os.fork()) == 0:
            _work_and_die(folder, moment)
        died = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        assert work(folder).exit_code == 0
        assert tree(folder / "out") == whole, f"after a kill at moment {moment}"
        shutil.rmtree(folder)
        moment += 1
    assert moment > 15


def _work_and_die(folder: Path, moment: int) -> None:
    """In a child: end without any cleaning up at the file or commit of this number after the last image."""
    count, ending = 0, False

    def dying(function):
        def call(*given, **named):
            nonlocal count
            count += ending
            if count > moment:
                os._exit(9)
            return function(*given, **named)

        return call

    def begin(tracker, folder):
        nonlocal ending
        ending = True

    Tracker.begin = begin
    maskmill.files.replace = dying(maskmill.files.replace)
    Ledger.commit, EntryStore.commit = dying(Ledger.commit), dying(EntryStore.commit)
    try:
        work(folder)
    finally:
        os._exit(0)


def test_a_writer_that_cannot_make_an_entry_fails_that_image_alone(folder):
    write(folder, writers=f"{BOTH}, {{use: odd, fails_on: fox}}")
    report = work(folder)
    assert report.counts == {"done": 3, "empty": 0, "rejected": 0, "failed": 1, "quarantined": 0}
    with Run(folder / "out") as run:
        failure = run.result(run.find("照.png")).failure
    assert (failure.plugin, failure.message) == ("odd", "an odd label")
    assert tree(folder / "out")["odd/keys.txt"].decode() == "a.png\nb.png\nsub/a b.png"


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_is_answered_at_the_end_and_the_next_run_goes_on(folder):
    write(folder, writers=f"{{use: odd, stops: true}}, {BOTH}")
    report = work(folder)
    assert (report.outcome, report.ran, dict(report.files)) == ("interrupted", 4, {})
    write(folder, writers=f"{{use: odd}}, {BOTH}")
    work(folder)
    assert_like_fresh(folder)


def test_the_progress_names_the_file_the_images_and_a_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(tracker_module.time, "monotonic", lambda: now[0])
    tracker = Tracker(lambda: None)
    assert tracker.describe() == "writing the files about the dataset"
    tracker.begin("coco")
    items = tracker.track(range(100), "instances.json", 100)
    for _ in range(26):
        next(items)
        now[0] += 1
    assert tracker.describe() == "writing coco/instances.json: 25 of 100, 01:18 left"
    assert list(tracker.track("ab", "", None)) == ["a", "b"]
    assert tracker.describe() == "writing coco: 2"
