"""Outputs in object storage, against a real S3 protocol: moto's server."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stored_runs import told

from maskmill import OutputError, Pipeline, Run, StopRun, storage
from maskmill.output.mirror import MARKER, Mirror
from maskmill.testing import write_picture

obstore = pytest.importorskip("obstore")

KEYS = ("a.png", "sub/照片.png", "z.png")
PIPELINE = """
dataset: photos
storage: {endpoint: "%s"}
prompts: [{use: manual, box: [4, 3, 28, 21], label: cat}]
backend: grabcut
writers: [WRITERS]
output: s3://inbox/out
run: {engine: inline}
"""
WRITERS = "{use: coco}, {use: png}, {use: yolo}"


@pytest.fixture
def folder(endpoint, monkeypatch, tmp_path):
    """A folder with pictures, a pipeline and a bucket to write to; this user's state is below it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("maskmill.output.mirror.state_folder", lambda address: tmp_path / "state" / address[-3:])
    monkeypatch.setattr("maskmill.config.load.state_folder", lambda address: tmp_path / "state" / address[-3:])
    for number, key in enumerate(KEYS):
        write_picture(tmp_path / "photos" / key, 24, 32, number)
    write(tmp_path, endpoint)
    return tmp_path


def write(folder: Path, endpoint: str, writers: str = WRITERS, **replaced: str) -> Path:
    text = (PIPELINE % endpoint).replace("WRITERS", writers)
    for old, new in replaced.items():
        text = text.replace(old, new)
    (folder / "p.yaml").write_text(text, encoding="utf-8")
    return folder / "p.yaml"


def run(folder: Path, **values):
    state = values.pop("state", None)
    return Pipeline.load(folder / "p.yaml", state=state).run(quiet=True, **values)


def uploaded() -> dict[str, bytes]:
    """The objects of the output."""
    root = "s3://inbox/out"
    return {path: storage.read_now(f"{root}/{path}") or b"" for path, _ in storage.list_objects(root)}


def test_the_bucket_holds_what_the_folder_would(folder, endpoint):
    assert run(folder).exit_code == 0
    Pipeline.load(folder / "p.yaml", output=folder / "local").run(quiet=True)
    local = {
        path.relative_to(folder / "local").as_posix(): path.read_bytes()
        for path in (folder / "local").rglob("*")
        if path.is_file()
    }
    remote = uploaded()
    expected = {name for name in local if "/" in name}
    assert len(expected) > 9 and {name: remote.get(name) for name in expected} == {n: local[n] for n in expected}
    assert {"run.json", "ledger.sqlite", "failures.jsonl"} <= remote.keys() and MARKER not in remote
    assert json.loads(remote["run.json"])["pipeline"]["output"] == "s3://inbox/out"


def test_a_rerun_makes_nothing_and_one_changed_image_uploads_its_files_only(folder, monkeypatch):
    run(folder)
    written = []
    real = storage.write
    monkeypatch.setattr(storage, "write", lambda address, data: (written.append(address), real(address, data)))
    assert dict(run(folder).work) == {"done": 3}
    assert {address.rpartition("/")[2] for address in written} <= {"run.json", "failures.jsonl", "ledger.sqlite"}
    write_picture(folder / "photos" / "z.png", 24, 32, 9)
    written.clear()
    assert dict(run(folder).work) == {"changed": 1, "done": 2}
    assert "s3://inbox/out/results/z.png.json" in written
    assert not any("a.png" in address or "a_png" in address for address in written)


def test_another_machine_goes_on_from_the_bucket(folder):
    run(folder, limit=2)
    shutil.rmtree(folder / "state")
    report = run(folder, state=folder / "elsewhere")
    assert dict(report.work)["new"] == 1 and report.counts["done"] == 3
    assert {name for name in uploaded() if name.startswith("results/")} == {f"results/{key}.json" for key in KEYS}


def test_files_that_are_no_longer_made_leave_the_bucket(folder, endpoint):
    run(folder)
    (folder / "photos" / "z.png").unlink()
    write(folder, endpoint, "{use: coco}")
    run(folder, prune=True)
    names = set(uploaded())
    assert not any(name.startswith(("png/", "yolo/")) or "z.png" in name for name in names)
    assert "coco/instances.json" in names


def test_two_runs_at_one_address(folder):
    mirror = Mirror(folder / "other", "s3://inbox/out", storage.current_options())
    mirror.prepare()
    with mirror.claim(), pytest.raises(OutputError, match="is using s3://inbox/out, since"):
        run(folder)
    assert run(folder).exit_code == 0


def test_a_killed_run_goes_on_in_its_own_folder(folder):
    """Killed while it holds the address and works on its second image."""
    code = (
        "import os, signal, sys\n"
        "from maskmill import storage\n"
        "real, count = storage.write, []\n"
        "def write(address, data):\n"
        "    count.append(address)\n"
        "    if len(count) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(address, data)\n"
        "storage.write = write\n"
        "from maskmill.cli import main\n"
        "main(['run', 'p.yaml', '--state', 'state/out'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL and MARKER in uploaded()
    assert run(folder).counts["done"] == 3
    results = {name: data for name, data in uploaded().items() if name.startswith("results/")}
    assert len(results) == 3
    for name, data in results.items():
        for artifact in json.loads(data)["artifacts"]:
            assert len(uploaded()[artifact["path"]]) == artifact["bytes"], name


def test_an_upload_that_fails_stops_the_run_and_records_nothing(folder, monkeypatch, capsys):
    def fail(address, data):
        raise StopRun(f"'{address}': the server refuses access")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "write", fail)
        with pytest.raises(StopRun, match="the server refuses access"):
            run(folder)
    assert run(folder).counts["done"] == 3


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("//inbox/out", "//nobody/out", "there is no bucket s3://nobody"),
        ("dataset: photos", "dataset: s3://inbox", "lies inside the dataset"),
        ("s3://inbox/out", "https://inbox/out", "cannot be written to here"),
    ],
    ids=["no-bucket", "inside", "web"],
)
def test_what_cannot_be_an_output_is_refused_before_the_run(folder, endpoint, capsys, old, new, text):
    code, _, err = told(capsys, "run", write(folder, endpoint, **{old: new}))
    assert code == 2 and text in err


def test_commands_read_the_address(folder, capsys):
    run(folder)
    for arguments in (
        ("status", "s3://inbox/out"),
        ("explain", "s3://inbox/out", "sub/照片.png"),
        ("export", "s3://inbox/out", "--to", "coco", "-o", folder / "exported"),
        ("merge", "s3://inbox/out", "-o", folder / "merged"),
    ):
        shutil.rmtree(folder / "state")  # nothing is here but what the bucket has
        code, _, err = told(capsys, *arguments)
        assert code == 0, err
    assert (folder / "exported/instances.json").read_bytes() == uploaded()["coco/instances.json"]
    assert Run("s3://inbox/out").counts()["done"] == 3


@pytest.mark.parametrize("option", ["--fresh", "--watch"])
def test_what_does_not_go_with_an_address_is_refused(folder, capsys, option):
    code, _, err = told(capsys, "run", folder / "p.yaml", option)
    assert code == 2 and f"{option} does not go with an output in object storage" in err
    assert uploaded() == {} and not (folder / "state").exists()


def test_worker_processes_write_to_the_bucket(folder, endpoint):
    write(folder, endpoint, **{"{engine: inline}": "{jobs: 2}"})
    report = run(folder)
    assert report.counts["done"] == 3, report.message
    assert sum(name.startswith("results/") for name in uploaded()) == 3
