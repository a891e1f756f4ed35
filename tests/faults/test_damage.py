"""Results and ledgers that were deleted, damaged or mixed up: noticed by the next run, and made anew."""

import json
import os
import shutil
import sqlite3
import sys

import pytest
from mill import wait_until

from maskmill import OutputError, Pipeline, read_run, testing
from maskmill.cli import main
from maskmill.output.store import result_path

pytestmark = [pytest.mark.faults, pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")]


def command(project, capsys):
    """Exit code and messages of a run from the command line."""
    with pytest.raises(SystemExit) as ended:
        main(["run", str(project.file)])
    errors = capsys.readouterr().err
    assert "Traceback" not in errors, errors
    return ended.value.code or 0, errors


@pytest.mark.parametrize("damage", ["deleted", "torn"])
def test_a_result_damaged_between_two_runs_is_made_anew(project, damage):
    project.many(4)
    Pipeline.load(project.file).run(quiet=True)
    expected = project.files()
    path = result_path(project.output, "002.png")
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:50])
    report = Pipeline.load(project.file).run(quiet=True)
    assert (report.ran, report.exit_code) == (1, 0)
    assert (project.tries("002.png"), project.tries("001.png")) == (2, 1)
    assert project.files() == expected
    assert Pipeline.load(project.file).run(quiet=True).ran == 0


def test_a_result_deleted_during_the_run_is_named_and_made_anew_by_the_next(mill):
    mill.many(12)
    mill.write(backend="seconds: 0.1")
    process = mill.start("-q")
    wait_until(lambda: mill.finished() >= 3)
    path = mill.results()[0]
    path.unlink()
    code, said = mill.end(process)
    assert code == 1, said
    assert f"the stored result of {path.stem} is missing or damaged; run the pipeline again" in said
    code, said = mill.run("-q")
    assert code == 0, said
    assert {key: mill.tries(key) for key in mill.statuses()} == {
        key: 2 if key == path.stem else 1 for key in mill.statuses()
    }
    mill.assert_tidy()
    mill.assert_resumes(mill.reference())


@pytest.mark.parametrize("how", ["swapped", "copied", "of another file"])
def test_a_result_of_another_image_is_noticed_and_made_anew(project, how):
    project.photos("a.png", "b.png", "c.png", "empty.png")
    Pipeline.load(project.file).run(quiet=True)
    expected = project.files()
    one, other = (result_path(project.output, key) for key in ("a.png", "b.png"))
    if how == "swapped":
        one.rename(project.folder / "aside")
        other.rename(one)
        (project.folder / "aside").rename(other)
    elif how == "copied":
        shutil.copy2(one, other)
    else:  # the right key, another image's content
        changed = json.loads(one.read_bytes()) | {"sha256": json.loads(other.read_bytes())["sha256"]}
        one.write_text(json.dumps(changed), encoding="utf-8")
    again = 2 if how == "swapped" else 1
    report = Pipeline.load(project.file).run(quiet=True)
    assert (report.ran, report.exit_code) == (again, 0)
    assert project.files() == expected
    assert Pipeline.load(project.file).run(quiet=True).ran == 0


def test_results_that_were_only_touched_are_checked_and_kept(project):
    project.many(3)
    Pipeline.load(project.file).run(quiet=True)
    before = project.files()
    for path in (project.output / "results").glob("*.json"):
        os.utime(path)
    Pipeline.load(project.file).run(quiet=True)
    assert all(project.tries(f"{n:03}.png") == 1 for n in range(3)), "the filter did not run again"
    assert project.files() == before
    assert Pipeline.load(project.file).run(quiet=True).ran == 0


def test_a_run_of_an_earlier_version_goes_on(project):
    project.many(3)
    Pipeline.load(project.file).run(quiet=True)
    with sqlite3.connect(project.output / "ledger.sqlite") as ledger:
        ledger.execute("DROP TABLE results")
    ledger.close()
    assert Pipeline.load(project.file).run(quiet=True).ran == 0
    result_path(project.output, "001.png").unlink()
    assert Pipeline.load(project.file).run(quiet=True).ran == 1


def damage_ledger(path, how):
    """The lines that the user must see are about this."""
    whole = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "text":
        path.write_bytes(b"hello " * 2000)
    elif how == "garbled":
        path.write_bytes(whole[:5000] + b"\xff\x00garbage" * 1000 + whole[15000:])
    elif how == "another database":
        path.unlink()
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE photos (name)")
        other.close()
    else:
        path.write_bytes(whole[: {"empty": 0, "header": 60, "page": 4096, "cut": 5000, "half": len(whole) // 2}[how]])


@pytest.mark.parametrize(
    "how", ["deleted", "text", "garbled", "another database", "empty", "header", "page", "cut", "half"]
)
def test_a_damaged_ledger_is_put_aside_and_made_anew(project, capsys, how):
    project.many(6)
    project.photos("raise.png", "empty.png")
    (project.folder / "photos" / "text.jpg").write_text("hello", encoding="utf-8")
    Pipeline.load(project.file).run(quiet=True)
    expected, statuses = project.files(), project.statuses()
    path = project.output / "ledger.sqlite"
    damage_ledger(path, how)
    damaged = path.read_bytes() if path.exists() else None
    code, errors = command(project, capsys)
    assert code == 1, errors  # as before: raise.png failed
    (line,) = (line for line in errors.splitlines() if "made anew" in line)
    assert "warning: ledger.sqlite was " in line and "from 9 stored results" in line
    aside = project.output / "ledger.sqlite.damaged-1"
    assert (aside.read_bytes() if aside.exists() else None) == damaged, "nothing is deleted"
    assert project.statuses() == statuses
    assert {name: project.tries(name) for name in statuses} == {
        name: 0 if name == "text.jpg" else 1 for name in statuses
    }, "nothing is done again"
    aside.unlink(missing_ok=True)
    assert project.files() == expected
    code, errors = command(project, capsys)
    assert "made anew" not in errors
    assert Pipeline.load(project.file).run(quiet=True).ran == 0


def test_with_a_new_ledger_what_changed_is_made_anew_and_what_failed_is_left(project):
    project.photos("a.png", "b.png", "c.png", "raise.png", "raise-2.png")
    Pipeline.load(project.file).run(quiet=True)
    photos = project.folder / "photos"
    testing.write_picture(photos / "a.png", seed=99)
    times = (photos / "b.png").stat()
    testing.write_picture(photos / "b.png", seed=98)
    os.utime(photos / "b.png", ns=(times.st_atime_ns, times.st_mtime_ns))  # as a copy that keeps times
    testing.write_picture(photos / "raise-2.png", seed=97)
    result_path(project.output, "c.png").write_text("{", encoding="utf-8")
    (project.output / "ledger.sqlite").unlink()
    Pipeline.load(project.file).run(quiet=True)
    assert {name: project.tries(name) for name in project.statuses()} == {
        "a.png": 2, "b.png": 2, "c.png": 2, "raise.png": 1, "raise-2.png": 2,
    }  # fmt: skip


def test_a_new_ledger_still_refuses_another_backend(project):
    project.photos("a.png")
    Pipeline.load(project.file).run(quiet=True)
    (project.output / "ledger.sqlite").write_bytes(b"garbage" * 100)
    project.write(backend="{use: slow, model: b}")
    with pytest.raises(OutputError, match="another backend"):
        Pipeline.load(project.file).run(quiet=True)


def test_readers_of_a_damaged_ledger_say_what_to_do(project):
    project.photos("a.png")
    Pipeline.load(project.file).run(quiet=True)
    (project.output / "ledger.sqlite").write_bytes(b"garbage" * 100)
    with pytest.raises(OutputError, match=r"ledger\.sqlite is damaged: .*\n.*run the pipeline again"):
        list(read_run(project.output))
