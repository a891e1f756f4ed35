"""`maskmill export`: the same files as in a run, without the run; nobody's files overwritten."""

import errno
import json
import shutil

import pytest
from stored_runs import KEYS, files, journal, project, run, told

from maskmill import Run
from maskmill.stored.export import ExportRequest, export
from maskmill.stored.export_folder import Journal
from maskmill.testing import write_picture

LOST = """
from maskmill import ImageError, StopRun, Writer, hookimpl, save


class Picky(Writer):
    def write(self, image, result, folder):
        if result.key.startswith("b/"):
            raise ImageError("not this one")
        self.note("pixels", int(image.pixels.sum()))
        return [save(folder, result.key, b"x", ".txt")]

    def finish(self, results, folder):
        lines = [f"{result.key} {[a.path for a in result.artifacts]} {result.notes}" for result in results]
        return [save(folder, "seen", "\\n".join(lines).encode(), ".list")]


class Broken(Writer):
    needs_pixels = False

    def finish(self, results, folder):
        raise ValueError("no room for this")


@hookimpl
def register_writers(register):
    register("picky", Picky)
    register("broken", Broken)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("导出")
    return run(project(folder))


@pytest.fixture
def output(made, tmp_path):
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


def plugins(made):
    return ["--plugins", made.parent / "plugins"]


@pytest.mark.parametrize(("writer", "jobs"), [("coco", "1"), ("png", "1"), ("overlay", "2"), ("fake-writer", "1")])
def test_an_export_is_bit_for_bit_what_the_writer_makes_in_a_run(made, tmp_path, capsys, writer, jobs):
    code, out, _ = told(capsys, "export", made, "--to", writer, "-o", tmp_path / "e", "-j", jobs, *plugins(made))
    assert code == 0
    assert files(tmp_path / "e") == files(made / writer)
    assert f"{len(KEYS)} images exported, {len(files(tmp_path / 'e'))} file" in out


def test_options_of_the_writer_count(made, tmp_path, capsys):
    code, _, _ = told(capsys, "export", made, "--to", "png", "--set", "layout=indexed", "-o", tmp_path / "e")
    assert code == 0
    assert sorted(files(tmp_path / "e")) == sorted([*(f"{key}.png" for key in KEYS), "masks.csv"])
    assert journal(tmp_path / "e")[0]["options"] == {"layout": "indexed", "by": "image"}


def test_it_goes_beside_the_run_s_own_files_which_a_rerun_leaves_alone(output, made, capsys):
    assert told(capsys, "export", output, "--to", "png")[0] == 0
    before = files(output / "exports")
    shutil.copytree(made.parent / "photos", output.parent / "photos")
    shutil.copytree(made.parent / "plugins", output.parent / "plugins")
    shutil.copy(made.parent / "p.yaml", output.parent / "p.yaml")
    (output / "exports" / ".mm-at-work").write_bytes(b"of an export that is going on")
    run(output.parent / "p.yaml", verify=True)
    assert {name: data for name, data in files(output / "exports").items() if ".mm-" not in name} == before
    assert (output / "exports" / ".mm-at-work").exists()


def test_a_second_export_replaces_the_first(output, capsys):
    assert told(capsys, "export", output, "--to", "png")[0] == 0
    assert told(capsys, "export", output, "--to", "png", "--set", "layout=indexed")[0] == 0
    assert sorted(files(output / "exports" / "png")) == sorted([*(f"{key}.png" for key in KEYS), "masks.csv"])


@pytest.mark.parametrize(
    ("name", "said"),
    [("mine.txt", "holds 1 file that its export did not make"), ("a_png/000_thing.png", "was changed after")],
    ids=["added", "changed"],
)
def test_what_somebody_changed_or_added_is_not_overwritten(output, capsys, name, said):
    told(capsys, "export", output, "--to", "png", "-q")
    mine = output / "exports" / "png" / name
    mine.write_bytes(b"mine")
    code, _, err = told(capsys, "export", output, "--to", "png")
    assert code == 2
    assert said in err
    assert mine.read_bytes() == b"mine"


def test_a_folder_with_other_files_is_refused(output, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"dear to me")
    code, _, err = told(capsys, "export", output, "--to", "png", "-o", tmp_path / "mine")
    assert code == 2
    assert "'photo.jpg'" in err
    assert files(tmp_path / "mine") == {"photo.jpg": b"dear to me"}


@pytest.mark.parametrize("place", ["", "png", "results", "new", "exports"])
def test_a_folder_that_the_run_manages_is_refused(output, capsys, place):
    before = files(output)
    code, _, err = told(capsys, "export", output, "--to", "png", "-o", output / place)
    assert code == 2
    assert "belongs to the run" in err
    assert files(output) == before


def test_an_export_that_was_cut_short_is_moved_aside(output, capsys):
    told(capsys, "export", output, "--to", "png", "-q")
    folder = output / "exports" / "png"
    text = (folder / ".export.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / ".export.jsonl").write_text("\n".join(text[:-2]) + '\n{"key": "b/c.p', encoding="utf-8")
    whole = files(folder)
    code, _, err = told(capsys, "export", output, "--to", "png")
    assert code == 0
    assert "unfinished export" in err
    assert files(folder) == whole == files(output / "exports" / "png.unfinished-1")


def test_an_export_with_copies_of_images_says_how_to_find_them(output, made, tmp_path, capsys):
    about = json.loads((output / "run.json").read_text(encoding="utf-8"))
    about["pipeline"]["dataset"] = [str(tmp_path / "gone")]
    (output / "run.json").write_text(json.dumps(about), encoding="utf-8")
    code, _, err = told(capsys, "export", output, "--to", "coco", "--set", "images=copy", "-o", tmp_path / "e")
    assert code == 1
    assert "a.png: not found; name the folder that contains it as a.png with --images FOLDER" in err
    images = ("--images", made.parent / "photos")
    assert told(capsys, "export", output, "--to", "coco", "--set", "images=copy", "-o", tmp_path / "e", *images)[0] == 0
    assert (tmp_path / "e/images/a.png").read_bytes() == (made.parent / "photos/a.png").read_bytes()


def test_an_export_of_an_older_version_is_known_and_replaced(output, tmp_path, capsys):
    told(capsys, "export", output, "--to", "png", "-q", "-o", tmp_path / "e")
    (tmp_path / "e" / ".export.jsonl").rename(tmp_path / "e" / "export.jsonl")
    assert told(capsys, "export", output, "--to", "coco", "-q", "-o", tmp_path / "e")[0] == 0
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == [".export.jsonl", ".lock", "instances.json"]


def test_a_parquet_folder_holds_the_table_alone_and_its_record_lies_beside_it(output, tmp_path, capsys):
    parquet = pytest.importorskip("pyarrow.parquet")
    for _ in range(2):
        assert told(capsys, "export", output, "--to", "parquet", "-o", tmp_path / "e")[0] == 0
        assert sorted(path.name for path in tmp_path.glob("e/*") if path.stat().st_size) == ["masks.parquet"]
    assert parquet.read_table(tmp_path / "e").num_rows == parquet.read_table(tmp_path / "e/masks.parquet").num_rows
    record = tmp_path / ".e.export.jsonl"
    text = record.read_text(encoding="utf-8").splitlines()
    record.write_text("\n".join(text[:-1]), encoding="utf-8")  # as if it had been cut short
    assert told(capsys, "export", output, "--to", "coco", "-o", tmp_path / "e")[0] == 0
    assert not record.exists()
    assert (tmp_path / ".e.unfinished-1.export.jsonl").is_file()
    assert (tmp_path / "e" / ".export.jsonl").is_file()
    told(capsys, "export", output, "--to", "parquet", "-o", tmp_path / "e", "-q")
    (tmp_path / "e" / "mine.txt").write_text("mine", encoding="utf-8")
    code, _, err = told(capsys, "export", output, "--to", "coco", "-o", tmp_path / "e")
    assert code == 2
    assert "holds 1 file that its export did not make" in err


def test_what_a_run_finishes_meanwhile_is_left_out_whole(output, monkeypatch, capsys):
    """The second look at the rows, for the files about all, sees one more than the first."""
    rows, looks = Run.rows, []

    def atomic_path(run, *statuses):
        found = list(rows(run, *statuses))
        looks.append(len(found))
        return iter(found[: -1 if len(looks) == 1 else None])

    monkeypatch.setattr(Run, "rows", atomic_path)
    code, out, _ = told(capsys, "export", output, "--to", "parquet")
    assert (code, looks) == (0, [5, 5])
    assert "4 images exported, 1 file" in out
    looks.clear()
    code, out, _ = told(capsys, "export", output, "--to", "yolo", "--set", "images=none")
    assert (code, looks) == (0, [5]), "its entries need no second look"
    assert "4 images exported, 6 files" in out
    assert len(list((output / "exports" / "yolo" / "labels").rglob("*.txt"))) == 4


def test_a_full_disk_is_one_message_also_where_the_journal_meets_it(output, monkeypatch, capsys):
    monkeypatch.setattr(Journal, "add", lambda self, entry: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full")))
    code, _, err = told(capsys, "export", output, "--to", "png")
    assert code == 2
    assert err == f"cannot write to '{output / 'exports' / 'png'}': disk full\n"


@pytest.mark.parametrize("writer", ["parquet", "labelstudio"])
def test_a_damaged_result_does_not_stop_writers_of_one_file(output, capsys, writer):
    (output / "results" / "d.png.json").write_text("{}", encoding="utf-8")
    code, _, err = told(capsys, "export", output, "--to", writer)
    assert code == 1
    assert err.startswith("d.png: its stored result is missing or damaged")
    assert "4 images exported" in err


def test_a_damaged_result_is_told_of_and_the_others_go_on(output, capsys):
    (output / "results" / "d.png.json").write_text("{}", encoding="utf-8")
    (output / "run.json").write_text("{", encoding="utf-8")
    code, _, err = told(capsys, "export", output, "--to", "coco")
    assert code == 1
    assert err.startswith("d.png: its stored result is missing or damaged")
    assert "4 images exported, 1 file\n1 could not be exported" in err
    listed = json.loads((output / "exports" / "coco" / "instances.json").read_bytes())["images"]
    assert [image["file_name"] for image in listed] == sorted({*KEYS} - {"d.png"})
    code, out, _ = told(capsys, "status", output)
    assert (code, out.splitlines()[:2]) == (0, ["out: unknown", "5 done"])


def test_a_changed_image_is_told_of_and_not_used(made, tmp_path, capsys):
    folder = tmp_path / "moved"
    shutil.copytree(made.parent / "photos", folder)
    write_picture(folder / "b/照片 1.png", 40, 60, 99)
    (folder / "d.png").unlink()
    code, _, err = told(capsys, "export", made, "--to", "overlay", "-o", tmp_path / "e", "--images", folder)
    assert code == 1
    assert "b/照片 1.png: " in err
    assert "has changed since its masks were made" in err
    assert "d.png: not found; name the folder that contains it as" in err
    assert sorted(files(tmp_path / "e")) == ["a.png.jpg", "b/c.png.jpg", "e.png.jpg"]
    assert "3 images exported" in err
    assert "2 could not be exported" in err


def test_a_wrong_folder_of_images_leaves_an_earlier_export_alone(made, tmp_path, capsys):
    assert told(capsys, "export", made, "--to", "overlay", "-o", tmp_path / "e")[0] == 0
    before = files(tmp_path / "e")
    code, _, err = told(capsys, "export", made, "--to", "overlay", "-o", tmp_path / "e", "--images", tmp_path)
    assert code == 2
    assert f"no image of the run is in '{tmp_path}'" in err
    assert "such as FOLDER/a.png" in err
    assert files(tmp_path / "e") == before


def test_a_writer_that_reads_no_pixels_needs_no_images(output, capsys):
    about = json.loads((output / "run.json").read_bytes())
    about["pipeline"]["dataset"] = [str(output / "nowhere")]
    (output / "run.json").write_text(json.dumps(about), encoding="utf-8")
    assert told(capsys, "export", output, "--to", "png")[0] == 0
    assert files(output / "exports" / "png") == files(output / "png")
    code, _, err = told(capsys, "export", output, "--to", "overlay")
    assert code == 2
    assert "no longer where they were" in err
    assert "--images FOLDER" in err
    assert not (output / "exports" / "overlay").exists()


@pytest.mark.parametrize("dataset", ["list", "pattern", "two folders", "one image"])
def test_images_are_found_again_in_every_kind_of_dataset(tmp_path, capsys, dataset):
    file = project(tmp_path, writers="[]")
    (tmp_path / "list.txt").write_text("\n".join(f"photos/{key}" for key in KEYS), encoding="utf-8")
    write_picture(tmp_path / "other" / "z.png")
    entries = {"list": ["list.txt"], "pattern": ["photos/**/*.png"], "two folders": ["photos", "other"]}
    entries["one image"] = ["photos/a.png"]
    output = run(file, sets=[f"dataset={json.dumps(entries[dataset])}"])
    code, out, err = told(capsys, "export", output, "--to", "overlay")
    assert (code, err) == (0, "")
    count = {"two folders": len(KEYS) + 1, "one image": 1}.get(dataset, len(KEYS))
    assert f"{count} image" in out


def to_lost(writer, folder):
    """The arguments of an export with a writer of `LOST`."""
    (folder / "lost.py").write_text(LOST, encoding="utf-8")
    return ["--to", writer, "-o", folder / "e", "--plugins", folder / "lost.py"]


def test_an_image_that_cannot_be_written_does_not_stop_the_others(made, tmp_path, capsys):
    code, _, err = told(capsys, "export", made, *to_lost("picky", tmp_path))
    assert code == 1
    assert "b/c.png: not this one" in err
    seen = (tmp_path / "e" / "seen.list").read_text(encoding="utf-8")
    assert "a.png ['e/a.png.txt'] {'picky': {'pixels':" in seen  # what it wrote and noted now, nothing of the run's
    assert "b/c.png" not in seen
    assert {
        line["key"]: line["failure"]["message"] for line in journal(tmp_path / "e")[1:-1] if line.get("failure")
    } == {
        "b/c.png": "not this one",
        "b/照片 1.png": "not this one",
    }


def test_a_writer_that_cannot_finish_is_named(made, tmp_path, capsys):
    code, _, err = told(capsys, "export", made, *to_lost("broken", tmp_path))
    assert code == 1
    assert "the writer 'broken' could not finish: ValueError: no room for this" in err
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--to", "cocoo"], "did you mean 'coco'?"),
        (["--to", "png", "--set", "layout=x"], "layout: expected 'masks' or 'indexed'"),
        (["--to", "png", "--set", "size=2"], "the writer 'png' has no option 'size'"),
        (["--to", "coco", "--set", "categories=[a, a]"], "'a' is given more than once"),
        (["--to", "png", "-j", "0"], "--jobs 0"),
        (["--to", "overlay", "--images", "nowhere"], "'nowhere' does not exist"),
    ],
    ids=["name", "value", "option", "check", "jobs", "images"],
)
def test_what_is_wrong_is_said_before_anything_is_written(made, tmp_path, capsys, given, said):
    code, _, err = told(capsys, "export", made, "-o", tmp_path / "e", *given)
    assert code == 2
    assert said in err
    assert not (tmp_path / "e").exists()


def test_failed_images_are_counted_and_not_exported(tmp_path, capsys):
    file = project(tmp_path, writers="[]")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    code, out, _ = told(capsys, "export", run(file), "--to", "png")
    assert code == 0
    assert "1 image failed in the run and is not exported" in out


def test_an_export_does_not_keep_a_run_from_writing(made, tmp_path):
    """A reader that takes its time holds no lock on the ledger."""
    shutil.copytree(made, tmp_path / "out")
    from maskmill.output.ledger import Ledger

    with Run(tmp_path / "out") as reader, Ledger.create(tmp_path / "out") as writer:
        rows = reader.rows()
        first = next(rows)
        writer._connection.execute("PRAGMA busy_timeout=0")
        writer.record(first._replace(key="zzz"))
        writer.commit()
        assert [row.key for row in rows] == [*sorted(KEYS)[1:], "zzz"]


def test_it_works_from_python(made, tmp_path):
    with Run(made) as opened:
        done = export(opened, ExportRequest("coco", folder=tmp_path / "e"), print)
    assert (done.images, done.failed, done.files, done.left_out) == (len(KEYS), 0, 1, 0)
