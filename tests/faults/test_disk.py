"""Disks that fill up or cannot be written, and outputs and images that vanish under a run."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from maskmill import Pipeline

pytestmark = [pytest.mark.faults, pytest.mark.skipif(os.name != "posix", reason="needs mount and POSIX signals")]
ENGINES = ["inline", "joblib"]


def start(project, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "maskmill", "run", str(project.file), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def ended(process):
    _, errors = process.communicate(timeout=90)
    assert "Traceback" not in errors, errors
    return process.returncode, errors


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def finished(project):
    folder = project.output / "results"
    return len(list(folder.rglob("*.json"))) if folder.exists() else 0


@pytest.fixture
def small_disk(project):
    """The output folder on a file system of its own; yields a function that mounts it again with other options."""
    project.output.mkdir()

    def mount(options):
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(project.output)], capture_output=True, check=False
        )

    if mount("size=160k").returncode:
        pytest.skip("file systems cannot be mounted here (not root)")
    yield lambda options: mount(f"remount,{options}")
    subprocess.run(["umount", "-l", str(project.output)], check=True)


def undisturbed(project):
    Pipeline.load(project.file, sets=["run.engine=inline"]).run(quiet=True)
    files = project.files()
    shutil.rmtree(project.output)
    return files


@pytest.mark.parametrize("engine", ENGINES)
def test_a_full_disk_stops_the_run_and_fails_no_image(project, engine, tmp_path):
    project.many(40)
    project.write(run=f"{{engine: {engine}, jobs: 2}}")
    expected = undisturbed(project)
    project.output.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "none", str(project.output)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here (not root)")
    try:
        code, errors = ended(start(project))
        assert code in (1, 2), errors
        assert "No space left" in errors or "full" in errors, errors
        subprocess.run(["mount", "-o", "remount,size=64m", str(project.output)], check=True)
        code, errors = ended(start(project))
        assert code == 0, errors
        assert project.files() == expected
    finally:
        subprocess.run(["umount", "-l", str(project.output)], check=True)


def test_a_read_only_output_is_refused_in_words(project, small_disk):
    project.photos("a.png")
    small_disk("size=4m")
    assert Pipeline.load(project.file).run(quiet=True).exit_code == 0
    small_disk("ro")
    project.photos("a.png", "b.png")
    code, errors = ended(start(project))
    assert code == 2
    assert "Read-only" in errors or "read-only" in errors or "readonly" in errors, errors


def test_an_output_deleted_under_the_run_ends_it_in_words(project):
    project.many(20)
    project.write("{use: slow, seconds: 0.1}", run="{engine: joblib, jobs: 2}")
    expected = undisturbed(project)
    process = start(project)
    wait_until(lambda: finished(project) >= 4)
    shutil.rmtree(project.output, ignore_errors=True)
    code, errors = ended(process)
    assert code in (1, 2), errors
    shutil.rmtree(project.output, ignore_errors=True)
    assert Pipeline.load(project.file, sets=["run.engine=inline"]).run(quiet=True).exit_code == 0
    assert project.files() == expected


def test_an_image_deleted_after_it_was_listed_fails_alone(project):
    project.many(12)
    project.write("{use: slow, seconds: 0.2}", run="{engine: inline}")
    process = start(project)
    wait_until(lambda: finished(project) >= 2)
    (project.folder / "photos" / "011.png").unlink()
    code, _ = ended(process)
    assert code == 1
    assert project.statuses()["011.png"] == "failed"
    assert "cannot read" in project.failures()["011.png"]["message"]


def test_times_that_go_backwards_change_nothing(project):
    project.many(3)
    Pipeline.load(project.file).run(quiet=True)
    before = project.files()
    for number, name in enumerate(("000.png", "001.png")):
        os.utime(project.folder / "photos" / name, (number + 1, number + 1))
    assert Pipeline.load(project.file).run(quiet=True).exit_code == 0
    assert project.files() == before
    assert project.tries("000.png") == 1


def test_a_decision_that_a_full_disk_refuses_is_not_confirmed(tmp_path, monkeypatch):
    pytest.importorskip("fastapi")
    from review_kit import decide, lines, make_run, reviewing

    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here (not root)")
    try:
        make_run(folder)
        with reviewing(folder) as page:
            filler = folder / "filler"
            filler.write_bytes(b"0" * (shutil.disk_usage(folder).free - 4096))  # two decisions fit
            answers = {key: decide(page, key, comment="c" * 1200) for key in ("00.png", "01.png", "02.png", "03.png")}
            confirmed = [key for key, answer in answers.items() if answer.status_code == 200]
            refused = [answer.status_code for key, answer in answers.items() if key not in confirmed]
            assert [line["image"] for line in lines(folder)] == confirmed
            assert 0 < len(confirmed) < 4 and set(refused) == {507}
            filler.unlink()
            assert decide(page, "03.png").status_code == 200
        assert [line["image"] for line in lines(folder)] == [*confirmed, "03.png"]
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
