"""What we wrote is not taken for the user's images, and paths in our files lead where they say."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from stored_runs import project, run, told

from maskmill import testing
from maskmill.dataset.dataset import Dataset
from maskmill.errors import DatasetError
from maskmill.files import path_from

links = pytest.mark.skipif(sys.platform == "win32", reason="needs the right to make links")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return run(project(tmp_path_factory.mktemp("own"), keys=["a.png", "b.png"], writers="[{use: overlay}]"))


def listed(folder):
    dataset = Dataset((str(folder),), folder)
    return [ref.key for ref in dataset], dataset.warnings


def put_own(made, place, kind, capsys):
    """A folder of ours below the dataset `place`."""
    truth = made.parent / "truth.json"
    images = [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}]
    truth.write_text(json.dumps({"images": images, "annotations": [], "categories": []}), encoding="utf-8")
    commands = {
        "an export": ["export", made, "--to", "overlay", "-o", place],
        "the report of an evaluation": ["evaluate", made, "--truth", truth, "-o", place],
        "the report of a comparison": ["compare", made, made, "-o", place],
    }
    if kind in commands:
        assert told(capsys, *commands[kind])[0] == 0
    else:
        run(made.parent / "p.yaml", output=os.path.relpath(place, made.parent))


OWN = ["an export", "the report of an evaluation", "the report of a comparison", "the output folder of a run"]


@pytest.mark.parametrize("kind", OWN)
def test_folders_that_we_made_are_never_input(made, tmp_path, capsys, kind):
    photos = tmp_path / "photos"
    testing.write_picture(photos / "a.png", 40, 60)
    put_own(made, photos / "ours", kind, capsys)
    testing.write_picture(photos / "ours" / "more.png", 40, 60)
    if kind == "the output folder of a run":
        (photos / "ours" / "ledger.sqlite").unlink()
    keys, warnings = listed(photos)
    assert keys == ["a.png"]
    assert warnings == [f"{photos / 'ours'} is {kind}; skipped"]
    with pytest.raises(DatasetError, match=f"is {kind}, which cannot be a dataset"):
        listed(photos / "ours")
    (tmp_path / "p.yaml").write_text(
        "dataset: photos\nprompts: [{use: everything}]\nbackend: fake-backend\noutput: out\n", encoding="utf-8"
    )
    _, _, err = told(capsys, "check", tmp_path / "p.yaml", "--plugins", made.parent / "plugins")
    assert f"ours is {kind}; skipped" in err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("export.jsonl", '{"image": "a.png"}\n'),
        (".export.jsonl", "not JSON"),
        ("run.json", '{"schema": 1}'),
        ("evaluation.json", '{"schema": 1}'),
        ("comparison.json", "[1, 2]"),
        ("ledger.sqlite-journal", ""),
    ],
)
def test_files_of_others_with_such_names_hide_nothing(tmp_path, name, content):
    testing.write_picture(tmp_path / "sub" / "a.png", 40, 60)
    (tmp_path / "sub" / name).write_text(content, encoding="utf-8")
    assert listed(tmp_path) == (["sub/a.png"], [])


def test_a_folder_inside_an_export_may_be_a_dataset(made, tmp_path, capsys):
    assert told(capsys, "export", made, "--to", "overlay", "-o", tmp_path / "e")[0] == 0
    below = next(path for path in (tmp_path / "e").rglob("*.jpg"))
    sub = tmp_path / "e" / "chosen"
    sub.mkdir()
    below.rename(sub / below.name)
    assert listed(sub)[0] == [below.name]


# --- paths


@links
@pytest.mark.parametrize("where", ["output", "dataset", "both", "project", "image", "none"])
def test_paths_in_labelme_files_lead_to_their_image_through_links(tmp_path, where):
    disk = tmp_path / "deep" / "er" / "disk"
    disk.mkdir(parents=True)
    base = tmp_path / "home" / "project"
    if where == "project":
        (disk / "project").mkdir()
        base.parent.mkdir()
        base.symlink_to(disk / "project", target_is_directory=True)
    file = project(base, keys=["sub/a.png"], writers="[{use: labelme}]")
    for name, wanted in (("out", "output"), ("photos", "dataset")):
        if where in (wanted, "both"):
            if name == "photos":
                (base / name).rename(disk / name)
            else:
                (disk / name).mkdir()
            (base / name).symlink_to(disk / name, target_is_directory=True)
    if where == "image":
        picture = base / "photos" / "sub" / "a.png"
        picture.rename(disk / "other.png")
        picture.symlink_to(disk / "other.png")
    written = run(file) / "labelme" / "sub" / "a.json"
    path = json.loads(written.read_text(encoding="utf-8"))["imagePath"]
    real = Path(os.path.realpath(written.parent))
    assert (real / path).samefile(base / "photos" / "sub" / "a.png")
    assert path.endswith("/sub/a.png")
    if where in ("none", "project", "image"):
        assert path == "../../../photos/sub/a.png"


@links
def test_a_path_to_a_file_that_is_not_there_yet(tmp_path):
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "below", target_is_directory=True)
    assert path_from(tmp_path / "link", tmp_path / "a.png") == "../../a.png"
    assert path_from(tmp_path / "plain", tmp_path / "a.png") == "../a.png"
