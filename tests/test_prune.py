"""Outdated files: which there are after a change between two runs, and what `prune` removes and keeps."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from stored_runs import told

from maskmill import Pipeline, Run
from maskmill.output.ledger import Ledger
from maskmill.stored.prune import prune
from maskmill.testing import write_picture

KEYS = ("a.png", "b.png", "照.png")
PLUGIN = '''
from pathlib import Path

from maskmill import Writer, hookimpl, save
from maskmill.plugins.stage import NO_EFFECT
from maskmill.testing import FillPrompt
from pydantic import Field


class Counting(FillPrompt):
    """Fills, and notes each image in a file."""

    log: Path = Field(json_schema_extra=NO_EFFECT)

    def masks(self, image, prompts, embedding=None):
        with self.log.open("a", encoding="utf-8") as out:
            out.write(f"{image.ref.key}\\n")
        return super().masks(image, prompts, embedding)


class Sums(Writer):
    """A file about all images, under a name of the user's."""

    name: str = "sums.csv"

    def finish(self, results, folder):
        if self.name == "fail":
            raise ValueError("not today")
        return [save(folder, self.name, "".join(f"{result.key}\\n" for result in results).encode())]


@hookimpl
def register_backends(register):
    register("counting", Counting)


@hookimpl
def register_writers(register):
    register("sums", Sums)
'''
PIPELINE = """
dataset: photos
prompts: [{use: manual, box: [4, 4, 20, 20], label: cat}]
backend: {use: counting, log: log.txt}
FILTERS
writers: [WRITERS]
output: out
run: {engine: inline}
"""
COCO, PNG, YOLO = "{use: coco}", "{use: png}", "{use: yolo, val: 0}"
ALL = f"{COCO}, {PNG}, {YOLO}"


def write(folder: Path, writers: str = ALL, filters: str = "") -> Path:
    """The pipeline file, with these writers and filters."""
    file = folder / "p.yaml"
    file.write_text(PIPELINE.replace("WRITERS", writers).replace("FILTERS", filters), encoding="utf-8")
    return file


def work(folder: Path, output: str = "out", **values):
    """Run the pipeline; returns its report and the number of images that the backend got."""
    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    report = Pipeline.load(folder / "p.yaml", output=folder / output).run(quiet=True, **values)
    return report, len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0


def outdated(output: Path) -> set[str]:
    """What `prune --dry-run` lists, paths below the output folder."""
    found: list[str] = []
    prune(output, found.append, found.append)
    assert len(found) == len(set(found))
    return {Path(path).relative_to(output).as_posix() for path in found}


def tree(output: Path) -> set[str]:
    """The files of the writers and the stored results."""
    files = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    return {path for path in files if "/" in path}


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A folder with a pipeline that ran once with the writers of `ALL`."""
    folder = tmp_path_factory.mktemp("first")
    for number, key in enumerate(KEYS):
        write_picture(folder / "photos" / key, 32, 32, number)
    write_picture(folder / "others" / "x.png", 32, 32, 9)
    (folder / "plugins").mkdir()
    (folder / "plugins" / "mine.py").write_text(PLUGIN, encoding="utf-8")
    write(folder)
    assert work(folder)[1] == 3
    return folder


@pytest.fixture
def folder(first, tmp_path) -> Path:
    """A copy of it; file times are kept."""
    return shutil.copytree(first, tmp_path / "copy")


def remove(folder: Path) -> None:
    (folder / "photos" / "b.png").unlink()


OF_B = {"results/b.png.json", "png/b_png/000_cat.png"}
#: name: (change, values of the run, images done again, of these segmented, outdated files)
CHANGES = {
    "nothing": (lambda folder: None, {}, 0, 0, set()),
    "writer of images removed": (lambda folder: write(folder, f"{COCO}, {YOLO}"), {}, 3, 0, {"png/masks.csv"}),
    "writer of the dataset removed": (
        lambda folder: write(folder, f"{PNG}, {YOLO}"),
        {},
        3,
        0,
        {"coco/instances.json"},
    ),
    "writer removed and added back": (
        lambda folder: (write(folder, f"{PNG}, {YOLO}"), work(folder), write(folder)),
        {},
        3,
        0,
        set(),
    ),
    "writer renamed": (
        lambda folder: (write(folder, f"{COCO}, {ALL}"), work(folder), write(folder)),
        {},
        3,
        0,
        {"coco-2/instances.json"},
    ),
    "file about the dataset renamed": (
        lambda folder: (write(folder, "{use: sums}"), work(folder), write(folder, "{use: sums, name: new.csv}")),
        {},
        3,
        0,
        {"coco/instances.json", "png/masks.csv", "sums/sums.csv"}
        | {f"yolo/{name}" for name in ("data.yaml", "images.csv")}
        | {f"yolo/labels/train/{key[:-4]}.txt" for key in KEYS},
    ),
    "files of images renamed": (
        lambda folder: write(folder, f"{COCO}, {{use: png, layout: indexed}}, {{use: yolo, val: 0, names: full}}"),
        {},
        3,
        0,
        set(),
    ),
    "label files by the workers": (
        lambda folder: write(folder, f"{COCO}, {PNG}, {{use: yolo, val: 0, classes: [cat]}}"),
        {},
        3,
        0,
        set(),
    ),
    "photo removed": (remove, {}, 0, 0, OF_B),
    "photo renamed": (lambda folder: (folder / "photos/b.png").rename(folder / "photos/z.png"), {}, 1, 1, OF_B),
    "photo with another ending": (  # its label file is the same one, and the writer removed the other image
        lambda folder: (folder / "photos/b.png").rename(folder / "photos/b.bmp"),
        {},
        1,
        1,
        OF_B,
    ),
    "photo back again": (  # the writer `yolo` removed its copy
        lambda folder: (
            (folder / "photos/b.png").rename(folder / "b.png"),
            work(folder),
            (folder / "b.png").rename(folder / "photos/b.png"),
        ),
        {},
        1,
        0,
        set(),
    ),
    "photo changed": (lambda folder: write_picture(folder / "photos/b.png", 32, 32, 5), {}, 1, 1, set()),
    "label renamed": (
        lambda folder: write(folder, filters="filters: [{use: class_map, map: {cat: dog}}]"),
        {},
        3,
        0,
        set(),
    ),
    "filter that leaves nothing": (
        lambda folder: write(folder, filters="filters: [{use: score, min_area: 9999}]"),
        {},
        3,
        0,
        set(),
    ),
    "split changed": (lambda folder: write(folder, ALL.replace("val: 0", "val: 0.9")), {}, 3, 0, set()),
    "dataset swapped": (
        lambda folder: (folder / "photos").rename(folder / "away") and (folder / "others").rename(folder / "photos"),
        {},
        1,
        1,
        {f"results/{key}.json" for key in KEYS} | {f"png/{key[:-4]}_png/000_cat.png" for key in KEYS},
    ),
    "--only": (
        lambda folder: (remove(folder), write(folder, f"{PNG}, {YOLO}")),
        {"only": "a.png"},
        1,
        0,
        {"coco/instances.json"},
    ),
    "--limit": (remove, {"limit": 1}, 0, 0, set()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_change_redoes_and_leaves_behind(folder, name):
    change, values, done_again, segmented, left = CHANGES[name]
    output = folder / "out"
    change(folder)
    report, calls = work(folder, **values)
    assert (report.exit_code, report.ran, calls) == (0, done_again, segmented)
    assert outdated(output) == left
    assert report.outdated.files == len(left)
    assert report.outdated.images == sum(path.startswith("results/") for path in left)
    before = tree(output)
    assert prune(output, print).files == len(left)
    assert before - tree(output) == left
    with Run(output) as run:
        assert run.outdated().files == 0
    if not {"only", "limit"} & values.keys():
        work(folder, "fresh", **values)
        assert tree(output) == tree(folder / "fresh"), "all that one run makes, and nothing else"
    assert work(folder, **values)[0].ran == 0


def test_what_is_not_ours_stays_and_is_named(folder):
    output = folder / "out"
    for key in KEYS:
        (folder / "photos" / key).unlink()
    write_picture(folder / "photos" / "new.png", 32, 32, 9)
    write(folder, f"{PNG}, {YOLO}")
    (output / "png" / "notes.txt").write_text("mine", encoding="utf-8")
    (output / "coco" / "instances.json").write_text("{}", encoding="utf-8")
    (output / "png" / "a_png" / "000_cat.png").write_bytes(b"painted over")
    kept = {"png/notes.txt", "coco/instances.json", "png/a_png/000_cat.png"}
    if os.name == "posix":
        moved = output.parent / "elsewhere"
        (output / "png" / "b_png").rename(moved)
        (output / "png" / "b_png").symlink_to(moved)
        (moved / "linked.png").write_bytes((output / "png" / "照_png" / "000_cat.png").read_bytes())
        (output / "png" / "照_png" / "000_cat.png").unlink()
        (output / "png" / "照_png" / "000_cat.png").symlink_to(moved / "linked.png")
        kept |= {"png/b_png/000_cat.png", "png/照_png/000_cat.png"}
    work(folder)
    lines: list[str] = []
    report = prune(output, lines.append)
    assert (report.kept, report.failed, report.images) == (len(kept) - 1, 0, 3)
    assert all((output / path).exists() for path in kept)
    assert all(any(str(output / path) in line for line in lines) for path in kept - {"png/notes.txt"})
    assert {path for path in tree(output) if path.startswith("results/")} == {"results/new.png.json"}
    assert prune(output, lines.append).kept == 0, "named once: from now on they are the user's"


def test_a_file_that_another_program_holds_is_tried_again(folder, monkeypatch, capsys):
    remove(folder)
    work(folder)
    unlink = Path.unlink

    def held(path, missing_ok=False):
        if path.name == "000_cat.png":
            raise PermissionError(13, "it is open in another program")
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", held)
        code, out, err = told(capsys, "prune", folder / "out")
    assert (code, "nothing to remove\n1 file kept" in out) == (1, True)
    assert "000_cat.png cannot be removed: it is open in another program" in err
    assert outdated(folder / "out") == OF_B
    assert prune(folder / "out", print).files == 2


def test_a_result_that_another_key_has_now_stays(folder):
    """Where a system ignores case, `B.png` and `b.png` have one result file; a hard link is like that."""
    output = folder / "out"
    with Ledger.create(output) as ledger:
        row = ledger.find_rows(["b.png"])["b.png"]
        ledger.record(row._replace(key="B.png", listing=0))
    os.link(output / "results" / "b.png.json", output / "results" / "B.png.json")
    assert outdated(output) == set()
    assert prune(output, print).files == 0
    assert (output / "results" / "B.png.json").exists()
    assert work(folder)[0].ran == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("returns", [False, True], ids=["stays away", "comes back"])
def test_a_kill_at_any_moment_leaves_a_folder_to_go_on_with(first, tmp_path, returns):
    moments = 0
    while True:
        folder = shutil.copytree(first, tmp_path / str(moments))
        output = folder / "out"
        (folder / "photos" / "b.png").rename(folder / "b.png")
        write(folder, f"{PNG}, {YOLO}")
        work(folder)
        if (pid := os.fork()) == 0:
            _prune_and_die(output, moments)
        died = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        if returns:
            (folder / "b.png").rename(folder / "photos" / "b.png")
        else:
            prune(output, print)
        work(folder, prune=True)
        work(folder, "fresh")
        assert tree(output) == tree(folder / "fresh")
        if not died:
            break
        moments += 1
    assert moments == 3, "three files were removed one after the other"


def _prune_and_die(output: Path, moment: int) -> None:
    """In a child: end without any cleaning up at the removal of this number."""
    unlink, count = Path.unlink, 0

    def dying(path, missing_ok=False):
        nonlocal count
        if "out/" in path.as_posix() and path.name != ".lock":
            if count == moment:
                os._exit(9)
            count += 1
        unlink(path, missing_ok)

    Path.unlink = dying
    try:
        prune(output, print)
    finally:
        os._exit(0)


def test_the_commands_count_list_and_remove(folder, capsys):
    output = folder / "out"
    remove(folder)
    write(folder, f"{PNG}, {YOLO}")
    _, out, _ = told(capsys, "run", folder / "p.yaml")
    line = "3 outdated files ("
    assert line in out
    assert "1 image left the dataset; files in coco/ are no longer made. To remove them: maskmill prune" in out
    assert line in told(capsys, "status", output)[1]
    code, out, _ = told(capsys, "prune", output, "--dry-run")
    assert (code, str(output / "coco" / "instances.json") in out, "3 files" in out) == (0, True, True)
    assert line in told(capsys, "status", output)[1], "nothing was removed"
    assert "3 outdated files of earlier runs removed" in told(capsys, "run", folder / "p.yaml", "--prune")[1]
    assert line not in told(capsys, "status", output)[1]
    assert "nothing to remove" in told(capsys, "prune", output)[1]
    code, _, err = told(capsys, "prune", folder / "photos")
    assert (code, "is not the output folder of a run" in err) == (2, True)
    assert {path.name for path in (folder / "photos").iterdir()} == {"a.png", "照.png"}


def test_a_run_that_does_not_come_to_its_end_removes_nothing(folder):
    remove(folder)
    write(folder, f"{PNG}, {{use: sums, name: fail}}")
    before = tree(folder / "out") & OF_B
    report, _ = work(folder, prune=True)
    assert (report.outcome, report.pruned) == ("stopped", 0)
    assert tree(folder / "out") & OF_B == before == OF_B


def test_lists_of_earlier_versions_are_taken_over(folder):
    """They stood in the ledger's `meta` and in run.json."""
    output = folder / "out"
    with Ledger.open_existing(output) as ledger:
        lists = [{"path": file.path, "sha256": file.sha256, "bytes": file.bytes} for file in ledger.files.current()]
        state = ledger.meta("finished")["state"]
    database = sqlite3.connect(output / "ledger.sqlite")
    database.execute("DROP TABLE files")
    database.execute("DELETE FROM meta WHERE name IN ('writing', 'writing_begun', 'outdated')")
    values = json.dumps({"state": state, "artifacts": lists})
    database.execute("UPDATE meta SET value = ? WHERE name = 'finished'", (values,))
    database.commit()
    database.close()
    about = json.loads((output / "run.json").read_bytes())
    del about["files"], about["outdated"]
    (output / "run.json").write_text(json.dumps({**about, "artifacts": lists}), encoding="utf-8")
    assert outdated(output) == set()
    with Run(output) as run:
        assert (list(run.files()), run.outdated().files) == ([], 0)
    write(folder, f"{PNG}, {YOLO}")
    report, _ = work(folder)
    assert dict(report.files) == {"png": 1, "yolo": 5}
    assert outdated(output) == {"coco/instances.json"}
