"""`maskmill merge`: shards become the run that was never divided."""

import json
import shutil
import sys

import pytest
from stored_runs import KEYS, files, project, run, told

from maskmill import Run
from maskmill.stored.merge import merge
from maskmill.testing import write_picture


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """The pipeline file; the whole run, and two that share it."""
    file = project(tmp_path_factory.mktemp("项目"))
    return file, run(file), run(file, "one", only="[a-c]*"), run(file, "two", only="[d-z]*")


def test_the_merged_run_is_the_undivided_one(shards, tmp_path, capsys):
    _, whole, one, two = shards
    code, out, _ = told(capsys, "merge", one, two, "-o", tmp_path / "m")
    assert code == 0
    assert "5 images from 2 runs: 5 done" in out
    with Run(whole) as before, Run(tmp_path / "m") as after:
        assert before.counts() == after.counts()
        assert [row.key for row in after.rows()] == [row.key for row in before.rows()] == sorted(KEYS)
        for mine, other in zip(after.results(), before.results(), strict=True):
            assert mine.masks == other.masks
            assert mine.artifacts == ()
            assert mine.provenance["versions"] == other.provenance["versions"]
        assert after.stage_seconds().keys() == before.stage_seconds().keys()


@pytest.mark.parametrize("writer", ["coco", "png", "overlay"])
def test_an_export_of_it_is_that_of_the_undivided_run(shards, tmp_path, capsys, writer):
    _, whole, one, two = shards
    merge([one, two], tmp_path / "m")
    assert told(capsys, "export", tmp_path / "m", "--to", writer)[0] == 0
    assert files(tmp_path / "m" / "exports" / writer) == files(whole / writer)


def test_status_and_explain_read_it(shards, tmp_path, capsys):
    _, _, one, two = shards
    merge([one, two], tmp_path / "m")
    code, out, _ = told(capsys, "status", tmp_path / "m")
    assert code == 0
    assert "5 done" in out
    assert f"Merged from {one}, {two}" in out
    assert "run-pipeline" not in out
    code, out, _ = told(capsys, "explain", tmp_path / "m", "d.png")
    assert code == 0
    assert "fill-1" in out
    assert f"in {two}\n" in out  # not in the first run of the same model


def test_it_is_evaluated_and_compared_as_the_undivided_run(shards, tmp_path, capsys):
    _, whole, one, two = shards
    merge([one, two], tmp_path / "m")
    found = []
    for output, folder in ((whole, tmp_path / "e"), (tmp_path / "m", tmp_path / "f")):
        truth = whole / "coco" / "instances.json"
        assert told(capsys, "evaluate", output, "--truth", truth, "-o", folder)[0] == 0
        found.append(json.loads((folder / "evaluation.json").read_bytes()))
    assert found[0]["coco"] == found[1]["coco"]
    assert found[0]["all"] == found[1]["all"]
    assert found[1]["all"]["mean_iou"] == 1
    code, out, _ = told(capsys, "compare", whole, tmp_path / "m")
    assert code == 0
    assert "images finished in both runs: 5, 5 of them with identical masks" in out


def test_a_run_does_not_go_on_in_it(shards, tmp_path, capsys):
    file, _, one, two = shards
    merge([one, two], tmp_path / "m")
    before = files(tmp_path / "m")
    code, _, err = told(capsys, "run", file, "-o", tmp_path / "m")
    assert code == 2
    assert "was merged from several runs" in err
    assert {name: data for name, data in files(tmp_path / "m").items() if name != "ledger.sqlite"} == {
        name: data for name, data in before.items() if name != "ledger.sqlite"
    }


def test_the_same_result_in_two_runs_counts_once(shards, tmp_path, capsys):
    _, whole, one, _ = shards
    code, out, _ = told(capsys, "merge", one, whole, "-o", tmp_path / "m")
    assert code == 0
    assert "5 images" in out
    assert "3 of them were in more than one run" in out


@pytest.fixture(scope="module")
def contradicting(shards):
    """Runs with different masks, and one in which an image failed."""
    file, whole, _, _ = shards
    other = run(file, "other", sets=["filters=[{use: fake-filter}]"], only="[a-c]*")
    photo = file.parent / "photos" / "a.png"
    content = photo.read_bytes()
    photo.write_bytes(b"no image")
    failed = run(file, "failed", only="a.png")
    photo.write_bytes(content)
    return whole, other, failed


def test_contradicting_results_are_refused(contradicting, tmp_path, capsys):
    whole, other, _ = contradicting
    code, _, err = told(capsys, "merge", whole, other, "-o", tmp_path / "m")
    assert code == 2
    assert "different results for 3 images" in err
    assert "b/照片 1.png" in err
    assert "--prefer first, last or done" in err
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".mm-*"))


@pytest.mark.parametrize(("prefer", "kept"), [("first", 2), ("last", 1)])
def test_one_is_preferred(contradicting, tmp_path, capsys, prefer, kept):
    whole, other, _ = contradicting
    assert told(capsys, "merge", whole, other, "-o", tmp_path / "m", "--prefer", prefer)[0] == 0
    with Run(tmp_path / "m") as merged:
        assert len(merged.result(merged.find("a.png")).kept) == kept
        assert len(merged.result(merged.find("e.png")).kept) == 2


def test_done_is_preferred_over_failed_and_chooses_nothing_else(contradicting, tmp_path, capsys):
    whole, other, failed = contradicting
    assert told(capsys, "merge", failed, whole, "-o", tmp_path / "m", "--prefer", "done")[0] == 0
    with Run(tmp_path / "m") as merged:
        assert merged.counts()["failed"] == 0
    assert told(capsys, "merge", whole, other, "-o", tmp_path / "n", "--prefer", "done")[0] == 2


def test_failed_images_stay_failed(contradicting, tmp_path, capsys):
    _, other, failed = contradicting
    code, out, _ = told(capsys, "merge", failed, other, "-o", tmp_path / "m", "--prefer", "first")
    assert code == 1
    assert "1 failed" in out
    (line,) = (tmp_path / "m" / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["stage"] == "read"


def test_runs_of_two_models_can_be_merged_and_each_mask_knows_its_own(tmp_path, capsys):
    file = project(tmp_path, writers="[]")
    write_picture(tmp_path / "more" / "z.png")
    one = run(file, "one")
    two = run(file, "two", sets=["backend=grabcut", "dataset=more"])
    assert told(capsys, "merge", one, two, "-o", tmp_path / "m")[0] == 0
    models = {}
    for key in ("a.png", "z.png"):
        about = json.loads(told(capsys, "explain", tmp_path / "m", key, "--json")[1])
        models[key] = about["made_by"]["backend"], about["run"]["folder"], about["image"]["now"]
    assert models["a.png"] == ("fake-backend", str(one), "the same")
    assert models["z.png"] == ("grabcut", str(two), "the same")
    assert told(capsys, "merge", tmp_path / "m", one, "-o", tmp_path / "n")[0] == 0
    assert len(json.loads((tmp_path / "n" / "run.json").read_bytes())["merged"]) == 3


@pytest.mark.parametrize("case", ["no run", "twice", "not empty", "running", "damaged"])
def test_what_cannot_be_merged_is_refused(shards, tmp_path, capsys, case):
    _, _, one, two = shards
    target = tmp_path / "m"
    given = [one, two]
    said = {"twice": "named twice", "no run": "not the output folder of a run", "not empty": "is not empty"}
    said |= {"running": "a run is working", "damaged": "missing or damaged"}
    if case == "twice":
        given.append(one)
    if case == "no run":
        given.append(tmp_path)
    if case == "not empty":
        target.mkdir()
        (target / "mine.txt").write_bytes(b"mine")
    if case == "damaged":
        given[1] = tmp_path / "damaged"
        shutil.copytree(two, given[1])
        (given[1] / "results" / "d.png.json").write_bytes(b"{")
    if case == "running":
        from maskmill.output.folder import claim

        with claim(two):
            code, _, err = told(capsys, "merge", *given, "-o", target)
    else:
        code, _, err = told(capsys, "merge", *given, "-o", target)
    assert code == 2
    assert said[case] in err
    assert files(target) == ({"mine.txt": b"mine"} if case == "not empty" else {})


def test_what_a_killed_merge_left_is_no_run_and_does_not_disturb(shards, tmp_path, monkeypatch):
    _, _, one, two = shards

    def killed(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("maskmill.stored.merge.replace", killed)
        patched.setattr("maskmill.stored.merge.shutil.rmtree", lambda *a, **k: None)  # as after a kill -9
        with pytest.raises(KeyboardInterrupt):
            merge([one, two], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    assert len(list(tmp_path.glob(".mm-*"))) == 1
    assert merge([one, two], tmp_path / "m").counts["done"] == len(KEYS)
    assert not list(tmp_path.glob(".mm-*"))


def test_an_empty_folder_is_filled_and_needs_the_runs_no_more(shards, tmp_path):
    _, _, one, two = shards
    shutil.copytree(one, tmp_path / "one")
    (tmp_path / "m").mkdir()
    merge([tmp_path / "one", two], tmp_path / "m")
    shutil.rmtree(tmp_path / "one")
    with Run(tmp_path / "m") as merged:
        assert len(list(merged.results())) == len(KEYS)


def test_an_image_that_two_systems_spell_in_other_letters_is_one(tmp_path):
    one = run(project(tmp_path / "1", ["caf\u00e9.png", "z.png"]))
    two = run(project(tmp_path / "2", ["cafe\u0301.png"]))
    merged = merge([two, one], tmp_path / "m")
    assert (merged.counts["done"], merged.doubled) == (2, 1)
    with Run(tmp_path / "m") as after:
        assert [row.key for row in after.rows()] == ["cafe\u0301.png", "z.png"]


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take both for one name")
def test_images_that_differ_by_letters_alone_in_one_run_stay_two(tmp_path):
    both = run(project(tmp_path / "1", ["caf\u00e9.png", "cafe\u0301.png"]))
    one = run(project(tmp_path / "2", ["caf\u00e9.png"]))
    merged = merge([one, both], tmp_path / "m")
    assert (merged.counts["done"], merged.doubled) == (2, 1)
