"""What a dry run says is what the run then does: image by image, from the same plan."""

import os
from dataclasses import replace

import pytest

from maskmill import OutputError, Pipeline, testing
from maskmill.dataset.dataset import Dataset
from maskmill.output.folder import claim
from maskmill.output.records import format_summary
from maskmill.run.dry_run import plan_run
from maskmill.run.plan import RunRequest

PROMPTS = [f'{{"image": "{name}.png", "prompts": [{{"box": [8, 8, 40, 40]}}]}}\n' for name in "abc"]


@pytest.fixture
def done(project):
    """Three finished images and one that failed."""
    project.photos("a.png", "b.png", "c.png", "raise.png")
    (project.folder / "prompts.jsonl").write_text("".join(PROMPTS), encoding="utf-8")
    project.edit = lambda old, new: project.file.write_text(
        project.file.read_text(encoding="utf-8").replace(old, new), encoding="utf-8"
    )
    project.edit("[{use: middle}]", "[{use: file, path: prompts.jsonl}, {use: middle}]")
    Pipeline.load(project.file).run(quiet=True)
    return project


def add_image(project):
    testing.write_picture(project.folder / "photos" / "new.png", seed=9)


def change_image(project):
    testing.write_picture(project.folder / "photos" / "a.png", seed=77)


def touch_image(project):
    os.utime(project.folder / "photos" / "a.png", (1, 1))


def remove_image(project):
    (project.folder / "photos" / "a.png").unlink()


def change_prompt(project):
    lines = [PROMPTS[0].replace("[8,", "[9,"), *PROMPTS[1:]]
    (project.folder / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")


def lose_result(project):
    (project.output / "results" / "a.png.json").unlink()


def lose_file(project):
    (project.output / "areas" / "a.png.txt").unlink()


def damage_ledger(project):
    (project.output / "ledger.sqlite").write_bytes(b"no ledger")


def edit(old, new):
    return lambda project: project.edit(old, new)


#: change, options of the run, what is done
CHANGES = {
    "nothing": (lambda project: None, {}, {"done": 3, "failed": 1}),
    "a new image": (add_image, {}, {"new": 1, "done": 3, "failed": 1}),
    "a changed image": (change_image, {}, {"changed": 1, "done": 2, "failed": 1}),
    "a touched image": (touch_image, {}, {"checked": 1, "done": 2, "failed": 1}),
    "an image less": (remove_image, {}, {"done": 2, "failed": 1}),
    "a limit": (lambda project: None, {"limit": 2}, {"done": 2}),
    "retry": (lambda project: None, {"retry_failed": True}, {"retried": 1, "done": 3}),
    "filter": (edit("use: chaos", "use: chaos, until: 2"), {}, {"retried": 1, "filters": 3}),
    "writer": (edit("{use: areas}", "{use: areas, suffix: .list}"), {}, {"retried": 1, "writers": 3}),
    "another writer": (edit("{use: areas}", "{use: areas}, {use: png}"), {}, {"retried": 1, "writers": 3}),
    "a prompt": (change_prompt, {}, {"other_prompts": 1, "done": 2, "failed": 1}),
    "another source": (edit("{use: middle}", "{use: middle}, {use: middle}"), {}, {"retried": 1, "prompts": 3}),
    "images": (
        edit("output: out", "output: out\nimages: {high_bit_depth: minmax}"), {}, {"retried": 1, "other_prompts": 3},
    ),
    "a lost result": (lose_result, {}, {"lost": 1, "done": 2, "failed": 1}),
    "verify": (lambda project: None, {"verify": True}, {"retried": 1, "checked": 3}),
    "verify a lost file": (lose_file, {"verify": True}, {"retried": 1, "writers": 1, "checked": 2}),
    "a damaged ledger": (damage_ledger, {}, {"checked": 3, "failed": 1}),
    "fresh": (lambda project: None, {"fresh": True}, {"new": 4}),
}  # fmt: skip


@pytest.mark.parametrize(("change", "options", "expected"), CHANGES.values(), ids=CHANGES)
def test_the_dry_run_foresees_what_the_run_does(done, change, options, expected):
    change(done)
    before = done.files()
    pipeline = Pipeline.load(done.file)
    request = RunRequest(quiet=True, **options)
    config = pipeline.config
    planned = plan_run(config, request, Dataset(config.dataset, config.dataset_base)).work
    assert done.files() == before, "a dry run changes nothing"
    report = pipeline.run(request)
    assert report.work == expected
    if "prompts" in planned:  # whether they are the same is known only after looking them up
        expected = {work.removeprefix("other_"): count for work, count in expected.items()}
    assert planned == expected


def test_the_dry_run_refuses_what_the_run_would_refuse(done):
    done.edit("{use: slow}", "{use: slow, model: b}")
    pipeline = Pipeline.load(done.file)
    with pytest.raises(OutputError) as of_run:
        pipeline.run(quiet=True)
    with pytest.raises(OutputError, match="made with another backend") as of_dry_run:
        pipeline.rehearse()
    assert str(of_dry_run.value) == str(of_run.value)
    assert pipeline.rehearse(RunRequest(fresh=True)).endswith("dry run: 4 images: 4 new")


def test_the_dry_run_names_a_damaged_ledger_and_a_run_in_progress(done):
    damage_ledger(done)
    with claim(done.output):
        lines = Pipeline.load(done.file).rehearse().splitlines()
    assert lines[-3].startswith("warning: another run is using ")
    assert lines[-2].startswith(
        "warning: ledger.sqlite was damaged (file is not a database); a run makes it anew from 4"
    )
    assert lines[-1] == "dry run: 4 images: 3 checked and up to date; 1 failed before and not tried again"


def test_the_summary_says_what_was_reused(done):
    done.edit("use: chaos", "use: chaos, until: 2")
    report = Pipeline.load(done.file).run(quiet=True)
    lines = format_summary(report, "again").splitlines()
    reused = "3 with masks reused (filters and writers run again)"
    assert lines[1] == f"This run: 1 tried again after a failure; {reused}"


def test_the_summary_names_the_pages_that_writers_made(done):
    report = Pipeline.load(done.file).run(quiet=True)
    page = done.output / "report" / "report.html"
    page.parent.mkdir()
    page.touch()
    assert format_summary(report, "again").splitlines()[-1] == f"Output: {done.output}", "of an earlier run"
    assert format_summary(replace(report, files={"report": 1}), "again").splitlines()[-1] == f"Report: {page}"


def test_an_interrupted_run_without_any_image_has_a_summary_in_words(done):
    report = Pipeline.load(done.file).run(quiet=True)
    counts = dict.fromkeys(report.counts, 0)
    cut_short = replace(report, outcome="interrupted", counts=counts, ran=0, remaining=1, work={})
    assert format_summary(cut_short, "again").splitlines()[:2] == [
        "no image finished yet",
        "Interrupted, 1 image remains. To continue: again",
    ]
