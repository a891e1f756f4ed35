"""Shards: parts of a dataset that make, merged, what one run makes."""

import pytest
from stored_runs import files, told

from maskmill import Pipeline, Run, UsageError
from maskmill.dataset.shard import Shard
from maskmill.testing import write_picture

KEYS = [f"{folder}/{number}.png" for folder in ("a", "照片") for number in range(6)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The pipeline file; the outputs of the whole run and of three shards."""
    folder = tmp_path_factory.mktemp("项目")
    for number, key in enumerate(KEYS):
        write_picture(folder / "photos" / key, 24, 32, number)
    rows = [f"{key},cat,2,2,12,{12 + n},{n}" for key in [*KEYS, "gone.png"] for n in range(2)]
    (folder / "boxes.csv").write_text("image,label,x1,y1,x2,y2,id\n" + "\n".join(rows), encoding="utf-8")
    (folder / "p.yaml").write_text(
        "dataset: photos\nprompts: [{use: file, path: boxes.csv}]\nbackend: grabcut\n"
        "writers: [{use: coco}]\noutput: out\nrun: {engine: inline}\n",
        encoding="utf-8",
    )
    file = folder / "p.yaml"
    Pipeline.load(file).run(quiet=True)
    for number in (1, 2, 3):
        Pipeline.load(file, output=folder / f"s{number}").run(quiet=True, shard=Shard(number, 3))
    return file, folder / "out", [folder / f"s{number}" for number in (1, 2, 3)]


def test_every_image_is_in_one_shard_and_stays_there():
    keys = [f"{number}.jpg" for number in range(1000)]
    parts = [{key for key in keys if Shard(number, 7).has(key)} for number in range(1, 8)]
    assert sum(map(len, parts)) == 1000 and set().union(*parts) == set(keys)
    assert min(map(len, parts)) > 100


def test_merged_shards_are_the_undivided_run_byte_for_byte(runs, tmp_path, capsys):
    _, whole, shards = runs
    assert all(0 < sum(Run(shard).counts().values()) < len(KEYS) for shard in shards)
    code, out, _ = told(capsys, "merge", *shards, "-o", tmp_path / "m")
    assert code == 0 and "12 images from 3 runs" in out
    assert told(capsys, "export", tmp_path / "m", "--to", "coco")[0] == 0
    assert files(tmp_path / "m/exports/coco") == files(whole / "coco")
    assert (tmp_path / "m/prompts.csv").read_bytes() == (whole / "prompts.csv").read_bytes()


def test_a_missing_shard_is_named_unless_a_part_is_wanted(runs, tmp_path, capsys):
    _, _, shards = runs
    code, _, err = told(capsys, "merge", shards[0], "-o", tmp_path / "m")
    assert code == 2 and "the shards 2/3, 3/3 are missing" in err and "--partial" in err
    assert not (tmp_path / "m").exists()
    assert told(capsys, "merge", shards[0], "-o", tmp_path / "m", "--partial")[0] == 0
    code, _, err = told(capsys, "merge", tmp_path / "m", shards[2], "-o", tmp_path / "n")
    assert code == 2 and "the shard 2/3 is missing" in err


def test_a_shard_that_was_cut_short_is_named(runs, tmp_path, capsys):
    file, _, shards = runs
    Pipeline.load(file, output=tmp_path / "s1").run(quiet=True, shard=Shard(1, 3))
    about = tmp_path / "s1/run.json"
    about.write_text(about.read_text(encoding="utf-8").replace('"finished"', '"interrupted"'), encoding="utf-8")
    code, _, err = told(capsys, "merge", tmp_path / "s1", *shards[1:], "-o", tmp_path / "m")
    assert code == 2 and "the shard 1/3" in err and "did not come to its end (interrupted)" in err


def test_shards_of_two_numbers_do_not_belong_together(runs, tmp_path, capsys):
    file, _, shards = runs
    Pipeline.load(file, output=tmp_path / "half").run(quiet=True, shard=Shard(1, 2))
    code, _, err = told(capsys, "merge", tmp_path / "half", *shards, "-o", tmp_path / "m")
    assert code == 2 and "shards of 2 and of 3, which do not belong together" in err


@pytest.mark.parametrize("shard", ["2/3", "1/2", None], ids=["another", "another-number", "none"])
def test_an_output_keeps_its_shard(runs, capsys, shard):
    file, _, shards = runs
    code, _, err = told(capsys, "run", file, "-o", shards[0], *([] if shard is None else ["--shard", shard]))
    assert code == 2 and "holds the shard 1/3, and this is" in err and "continue with --shard 1/3" in err


def test_the_same_shard_continues_and_status_names_it(runs, capsys):
    file, _, shards = runs
    assert told(capsys, "run", file, "-o", shards[0], "--shard", "1/3")[0] == 0
    _, out, _ = told(capsys, "status", shards[0])
    assert out.startswith("p, shard 1/3: finished")


def test_a_whole_run_is_not_continued_as_a_shard(runs, capsys):
    file, whole, _ = runs
    code, _, err = told(capsys, "run", file, "-o", whole, "--shard", "1/3")
    assert code == 2 and "holds a run without --shard, and this is the shard 1/3" in err


def test_a_shard_without_an_image_is_fine(runs, tmp_path, capsys):
    file, _, _ = runs
    empty = next(number for number in range(1, 501) if not any(Shard(number, 500).has(key) for key in KEYS))
    code, out, err = told(capsys, "run", file, "-o", tmp_path / "e", "--shard", f"{empty}/500")
    assert code == 0, err
    assert "no image finished yet" in out


def test_prompts_of_other_shards_are_told_apart(runs):
    _, _, shards = runs
    text = (shards[0] / "prompts.csv").read_text(encoding="utf-8-sig")
    mine = [key for key in KEYS if Shard(1, 3).has(key)]
    assert text.count(",another shard,") == 2 * (len(KEYS) - len(mine))
    assert text.count(",no image,") == 2


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "1"}, Shard(3, 8)),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "0"}, Shard(1, 8)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "6",
                "SLURM_ARRAY_TASK_COUNT": "5",
                "SLURM_ARRAY_TASK_MIN": "2",
                "SLURM_ARRAY_TASK_STEP": "2",
            },
            Shard(3, 5),
        ),
        ({"JOB_COMPLETION_INDEX": "7", "JOB_COMPLETIONS": "8"}, Shard(8, 8)),
    ],
    ids=["slurm", "slurm-from-0", "slurm-steps", "kubernetes"],
)
def test_a_scheduler_numbers_the_shards(environment, shard):
    assert Shard.parse("auto", environment) == shard


@pytest.mark.parametrize(
    ("text", "environment", "problem"),
    [
        ("9/8", {}, "from 1/8 to 8/8"),
        ("0/8", {}, "expected NUMBER/COUNT"),
        ("2", {}, "expected NUMBER/COUNT"),
        ("auto", {}, "no task of a SLURM job array"),
        ("auto", {"JOB_COMPLETION_INDEX": "1"}, "the variable JOB_COMPLETIONS is not set"),
        ("auto", {"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "3"}, "no shard 10/3"),
    ],
    ids=["beyond", "zero", "form", "nowhere", "no-total", "gaps"],
)
def test_what_names_no_shard_is_refused(text, environment, problem):
    with pytest.raises(UsageError, match=problem):
        Shard.parse(text, environment)
