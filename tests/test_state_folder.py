"""`--state` with an output on a shared drive: the run works in a folder of its own, and the output is its copy."""

import json
import platform
import re
import shutil
import subprocess
import sys

import pytest
from stored_runs import KEYS, project, told

from maskmill import OutputError, Pipeline, Run, StopRun, UsageError
from maskmill.output.folder import MARKER, STATE
from maskmill.testing import write_picture

WRITERS = "[{use: coco}, {use: png}, {use: yolo}, {use: voc}, {use: report}]"
#: What a run says of itself, and files with times in them.
#: Files that hold a time or belong to one machine.
OWN = {"ledger.sqlite", "entries.sqlite", "run.json", "report.html", "images.jsonl.gz", ".lock", STATE, "bucket.json"}


@pytest.fixture
def file(tmp_path):
    return project(tmp_path, writers=WRITERS)


def run(file, output="shared", state="state", **how):
    state = state and file.parent / state
    return Pipeline.load(file, output=file.parent / output, state=state).run(quiet=True, **how)


def files(folder):
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in OWN)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_the_output_is_what_it_would_be_and_commands_read_it(file, tmp_path, capsys):
    assert run(file).exit_code == 0
    run(file, "plain", state=None)
    shared = tmp_path / "shared"
    assert files(shared) == files(tmp_path / "plain")
    assert (shared / "report" / "report.html").exists() and (shared / "ledger.sqlite").exists()
    assert json.loads((shared / "run.json").read_bytes())["pipeline"]["output"] == str(shared)
    assert dict(run(file).work) == {"done": 5}
    write_picture(tmp_path / "photos" / "e.png", 40, 60, 77)
    (tmp_path / "photos" / "d.png").unlink()
    assert run(file, prune=True).counts["done"] == 4
    run(file, "plain", state=None, prune=True)
    assert files(shared) == files(tmp_path / "plain")
    for command in (
        ("status", shared),
        ("explain", shared, "e.png"),
        ("export", shared, "--to", "coco", "-o", tmp_path / "exported"),
        ("merge", shared, "-o", tmp_path / "merged"),
    ):
        code, _, err = told(capsys, *command)
        assert code == 0, err
    assert files(tmp_path / "exported")["instances.json"] == files(shared)["coco/instances.json"]


def test_another_machine_goes_on_and_the_first_one_notices(file, tmp_path, capsys):
    run(file, limit=3)
    report = run(file, state="elsewhere")
    assert dict(report.work) == {"new": 2, "writers": 3}
    run(file, "plain", state=None)
    assert files(tmp_path / "shared") == files(tmp_path / "plain")
    with pytest.raises(OutputError, match=r"was written since from .* with --state") as caught:
        run(file)
    assert f"delete '{tmp_path / 'state'}'" in str(caught.value)
    shutil.rmtree(tmp_path / "state")
    assert dict(run(file).work) == {"writers": 5}, "masks are taken over"


def test_only_runs_with_its_folder_may_write_to_it(file, tmp_path, capsys):
    run(file)
    for command in (("run", file, "-o", tmp_path / "shared"), ("prune", tmp_path / "shared")):
        code, _, err = told(capsys, *command)
        assert code == 2, err
        assert f"is written by runs that work in {tmp_path / 'state'} on " in err
        assert f"give --state {tmp_path / 'state'}" in err
    for option in ("--fresh", "--watch"):
        code, _, err = told(capsys, "run", file, "-o", tmp_path / "shared", "--state", tmp_path / "state", option)
        assert (code, f"{option} does not go with --state" in err) == (2, True), err
    with pytest.raises(UsageError, match="must be beside each other"):
        run(file, state="shared/state")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="contains files that are not from a run"):
        run(file, "other")


def test_two_machines_and_a_run_that_was_killed(file, tmp_path, capsys):
    code = (
        "import os\n"
        "from maskmill.output.mirror_stores import SharedFolder\n"
        "real = SharedFolder.write\n"
        "def write(self, path, data):\n"
        "    if path == 'results/d.png.json': os._exit(9)\n"
        "    real(self, path, data)\n"
        "SharedFolder.write = write\n"
        "from maskmill.cli import main\n"
        "main(['run', 'p.yaml', '-o', 'shared', '--state', 'state'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode not in (0, 1, 2), done.stderr
    marker = tmp_path / "shared" / MARKER
    with Run(tmp_path / "shared") as found:
        assert not found.is_running(), "it was here, and is dead"
        assert len(found.result(found.find("a.png")).masks) == 2, "ledger and results are copied while it works"
    marker.write_text(json.dumps({**json.loads(marker.read_bytes()), "host": "east"}))
    assert "running now" in told(capsys, "status", tmp_path / "shared")[1]
    code, _, err = told(capsys, "merge", tmp_path / "shared", "-o", tmp_path / "merged")
    assert code == 2 and "a run is working in" in err
    with pytest.raises(OutputError, match=re.escape(f"a run on east is using {tmp_path / 'shared'}")):
        run(file, state="elsewhere")
    marker.write_bytes(marker.read_bytes().replace(b"east", platform.node().encode()))
    assert run(file).counts["done"] == 5
    assert not marker.exists()
    run(file, "plain", state=None)
    assert files(tmp_path / "shared") == files(tmp_path / "plain")


def test_a_drive_that_goes_away_stops_the_run_and_nothing_is_written_in_its_place(file, tmp_path, monkeypatch):
    from maskmill.output.mirror import Mirror

    upload = Mirror.upload_image

    def unmount(mirror, result, before=()):
        if result.key == "b/c.png":
            (tmp_path / "shared").rename(tmp_path / "away")
        upload(mirror, result, before)

    monkeypatch.setattr(Mirror, "upload_image", unmount)
    with pytest.raises(StopRun, match=r"shared' is gone, or another drive is in its place\n.*continue with: "):
        run(file)
    assert not (tmp_path / "shared").exists()
    (tmp_path / "away").rename(tmp_path / "shared")
    monkeypatch.undo()
    assert run(file).counts["done"] == len(KEYS)
