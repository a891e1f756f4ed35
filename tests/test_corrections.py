"""Corrections: what a person decided holds, whatever a later run, another model or a filter would make."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from stored_runs import told

from maskmill import GivenMask, Mask, Pipeline, PipelineError, Prompt, Run
from maskmill.corrections import Corrections, freeze, make_entry, parse
from maskmill.testing import write_picture

KEYS = ("a.png", "b/照片.png", "c.png")
PLUGIN = '''
from dataclasses import replace
from pathlib import Path

from maskmill import Filter, Prompt, PromptSource, hookimpl
from maskmill.plugins.stage import NO_EFFECT
from maskmill.testing import FillPrompt
from pydantic import Field


class Counting(FillPrompt):
    """Fills, and notes each image in a file."""

    log: Path = Field(json_schema_extra=NO_EFFECT)
    grow: float = 0.0

    def masks(self, image, prompts, embedding=None):
        with self.log.open("a", encoding="utf-8") as out:
            out.write(f"{image.ref.key}\\n")
        wider = [replace(one, box=type(one.box)(*one.box.xyxy[:3], one.box.y2 + self.grow)) for one in prompts]
        masks = super().masks(image, wider)
        return [replace(mask, prompt=one) for mask, one in zip(masks, prompts, strict=True)]


class DropSecond(Filter):
    """Drops the second mask."""

    drop: int = 1

    def apply(self, image, masks):
        return [mask.drop("not wanted") if mask.index == self.drop else mask for mask in masks]


class Waiting(PromptSource):
    """As if it asked a server: two boxes; notes each image in a file."""

    waits = True
    log: Path = Field(json_schema_extra=NO_EFFECT)

    def prompts(self, image):
        with self.log.open("a", encoding="utf-8") as out:
            out.write(f"asked about {image.ref.key}\\n")
        return [Prompt(box=(2, 2, 12, 12), label="cat"), Prompt(box=(14, 2, 24, 12), label="dog")]


@hookimpl
def register_backends(register):
    register("counting", Counting)


@hookimpl
def register_filters(register):
    register("drop-second", DropSecond)


@hookimpl
def register_prompt_sources(register):
    register("waiting", Waiting)
'''
FIXED = '{"image": "a.png", "verdict": "fixed", '
PIPELINE = """
dataset: photos
prompts: [{use: manual, box: [2, 2, 12, 12], label: cat}, {use: manual, box: [14, 2, 24, 12], label: dog}]
combine: all
corrections: fixed.jsonl
backend: {use: counting, log: log.txt}
filters: [{use: drop-second}]
writers: [{use: coco}, {use: png}]
output: out
run: {engine: inline}
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A folder with a pipeline that ran once; nobody has decided anything yet."""
    folder = tmp_path_factory.mktemp("first")
    for number, key in enumerate(KEYS):
        write_picture(folder / "photos" / key, 32, 32, number)
    (folder / "plugins").mkdir()
    (folder / "plugins" / "mine.py").write_text(PLUGIN, encoding="utf-8")
    (folder / "p.yaml").write_text(PIPELINE, encoding="utf-8")
    assert work(folder)[1] == 3
    return folder


@pytest.fixture
def folder(first, tmp_path) -> Path:
    """A copy of it."""
    return shutil.copytree(first, tmp_path / "copy")


def work(folder: Path, output: str = "out", sets=(), **values):
    """Run the pipeline; returns its report and how often the backend or a source was called."""
    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    report = Pipeline.load(folder / "p.yaml", output=folder / output, sets=sets).run(quiet=True, **values)
    return report, len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0


def results(folder: Path, output: str = "out") -> dict:
    """The results by key."""
    return {result.key: result for result in Run(folder / output).results()}


def decide(folder: Path, *lines: dict) -> None:
    """Append lines to the corrections."""
    with (folder / "fixed.jsonl").open("a", encoding="utf-8") as out:
        out.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def tree(folder: Path, output: str = "out") -> dict[str, bytes]:
    """The writers' files and the stored results."""
    root = folder / output
    paths = (path for path in root.rglob("*") if path.is_file() and path.parent != root)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def square(label: str = "cup") -> Prompt:
    """An object that no backend has made."""
    pixels = np.zeros((32, 32), dtype=bool)
    pixels[20:30, 5:9] = True
    mask = Mask.from_array(pixels)
    return Prompt(label=label, mask=GivenMask(mask.size, mask.counts, 0.5))


def test_accepting_recomputes_nothing_and_changes_no_file(folder):
    before = tree(folder)
    decide(folder, *(make_entry(one, "accepted", reviewer="李雷") for one in results(folder).values()))
    report, calls = work(folder)
    assert (calls, report.exit_code, dict(report.work)) == (0, 0, {"checked": 3})
    assert tree(folder) == before
    assert dict(work(folder)[0].work) == {"done": 3}


def test_one_correction_redoes_one_image_without_the_backend(folder):
    before, made = tree(folder), results(folder)
    decide(
        folder,
        make_entry(made["c.png"], "fixed", [square(), *freeze(made["c.png"])], reviewer="Eva", time="2026-12-01"),
    )
    report, calls = work(folder)
    assert (calls, report.work["corrected"], report.work["done"]) == (0, 1, 2)
    after = results(folder)["c.png"]
    assert [mask.label for mask in after.kept] == ["cup", "cat"]
    assert after.kept[0].counts == square().mask.counts and after.kept[0].score == 0.5
    assert after.notes["corrections"] == {"verdict": "fixed", "reviewer": "Eva", "time": "2026-12-01"}
    changed = {path for path, data in tree(folder).items() if before.get(path) != data}
    assert (
        changed
        == {"results/c.png.json", "coco/instances.json", "png/masks.csv"}
        | {path for path in tree(folder) if path.startswith("png/c_png")} - before.keys()
    )


@pytest.mark.parametrize(
    "sets", [["backend.grow=5"], ["filters.0.drop=0"], ["combine=first"]], ids=["model", "filter", "sources"]
)
def test_decided_images_keep_their_bits_with_another_pipeline(folder, sets):
    made = results(folder)
    decide(folder, make_entry(made["a.png"], "accepted"), make_entry(made["c.png"], "fixed", [square()]))
    work(folder, "other", sets)
    after = results(folder, "other")
    assert [(one.counts, one.label, one.score) for one in after["a.png"].kept] == [
        (one.counts, one.label, one.score) for one in made["a.png"].kept
    ]
    assert [one.counts for one in after["c.png"].kept] == [square().mask.counts]
    same = after["b/照片.png"].kept[0].counts == made["b/照片.png"].kept[0].counts
    assert same is (sets == ["combine=first"])


def test_what_a_filter_dropped_does_not_come_back_when_a_file_of_an_accepted_image_is_gone(folder):
    made = results(folder)["a.png"]
    decide(folder, make_entry(made, "accepted"))
    next((folder / "out/png").glob("a_png*/*.png")).unlink()
    assert work(folder)[1] == 0
    after = results(folder)["a.png"]
    assert [one.counts for one in after.kept] == [one.counts for one in made.kept]
    assert len(after.masks) == len(after.kept)


def test_no_source_is_asked_about_a_decided_image(folder):
    decide(folder, make_entry(results(folder)["a.png"], "accepted"))
    text = (folder / "p.yaml").read_text(encoding="utf-8")
    at = text.index("prompts:"), text.index("corrections:")
    (folder / "p.yaml").write_text(
        f"{text[: at[0]]}prompts: [{{use: waiting, log: asked.txt}}]\n{text[at[1] :]}", encoding="utf-8"
    )
    work(folder, "asked")
    asked = (folder / "asked.txt").read_text(encoding="utf-8").split("\n")
    assert sorted(filter(None, asked)) == ["asked about b/照片.png", "asked about c.png"]
    assert results(folder, "asked")["a.png"].status == "done"


def test_a_question_decides_nothing_and_the_last_line_counts_that_is_no_second_opinion(folder):
    made = results(folder)["a.png"]
    second = {**make_entry(made, "rejected", reviewer="Tom"), "second": {"reviewer": "Eva", "agrees": False}}
    decide(folder, make_entry(made, "fixed", [square()]), make_entry(made, "question", comment="which one?"), second)
    assert dict(work(folder)[0].work) == {"done": 3}


def test_a_rejected_image_is_left_out_and_is_no_failure(folder, capsys):
    decide(folder, make_entry(results(folder)["a.png"], "rejected", reviewer="Eva", comment="blurred"))
    report, calls = work(folder)
    assert (calls, report.exit_code, report.counts["rejected"], report.counts["failed"]) == (0, 0, 1, 0)
    assert "a.png" not in (folder / "out/coco/instances.json").read_text(encoding="utf-8")
    code, out, _ = told(capsys, "status", folder / "out")
    assert code == 0 and "1 rejected at prompts corrections: Eva rejected this image: blurred" in out
    assert "retry" not in out
    assert dict(work(folder, retry_failed=True)[0].work) == {"done": 3}
    assert (folder / "out/failures.jsonl").read_text(encoding="utf-8") == ""


def test_an_image_without_objects_is_empty_also_when_everything_is_made_anew(folder):
    decide(folder, make_entry(results(folder)["a.png"], "fixed", [], reviewer="Eva"))
    assert work(folder, fresh=True)[0].counts["empty"] == 1
    assert (results(folder)["a.png"].status, results(folder)["a.png"].reason) == (
        "empty",
        "Eva decided that it contains no objects",
    )


def test_a_changed_image_is_not_given_the_masks_of_another_version(folder):
    decide(folder, make_entry(results(folder)["a.png"], "accepted", reviewer="Eva"))
    write_picture(folder / "photos/a.png", 32, 32, 9)
    assert work(folder)[0].exit_code == 1
    (failed,) = Run(folder / "out").results(("failed",))
    assert failed.failure.message.startswith("Eva reviewed another version of this image file")


def test_prompts_csv_tells_what_became_of_prompts_of_a_corrected_image(folder):
    (folder / "boxes.csv").write_text(
        "image,label,x1,y1,x2,y2,id\na.png,cat,2,2,12,12,7\na.png,dog,14,2,24,12,8\n", encoding="utf-8"
    )
    text = (folder / "p.yaml").read_text(encoding="utf-8")
    at = text.index("prompts:"), text.index("corrections:")
    (folder / "p.yaml").write_text(
        f"{text[: at[0]]}prompts: [{{use: file, path: boxes.csv}}]\n{text[at[1] :]}", encoding="utf-8"
    )
    work(folder, "boxes")
    cat = freeze(results(folder, "boxes")["a.png"])
    decide(folder, make_entry(results(folder, "boxes")["a.png"], "fixed", [square(), *cat]))
    work(folder, "boxes")
    rows = (folder / "boxes/prompts.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    assert [row.split(",")[-3:] for row in rows] == [["mask", "1", ""], ["dropped", "", "removed in a review"]]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"image": "a.png"', "not JSON"),
        ('{"image": "a.png"}', 'expected {"image": key, "verdict"'),
        ('{"image": "a.png", "verdict": "fine", "size": [32, 32]}', "the verdict must be one of accepted, fixed"),
        ('{"image": "a.png", "verdict": "fixed", "size": [32], "prompts": []}', '"size" must be [height, width]'),
        (
            '{"image": "a.png", "verdict": "fixed", "size": [32, 32], "prompts": [{"box": [1, 1, 5, 5]}]}',
            "prompt 1: it has no",
        ),
        (
            f'{FIXED}"size": [32, 32], "prompts": [{{"mask": {{"size": [32, 32], "counts": "0"}}}}]}}',
            "prompt 1: the run lengths of its mask do not add up",
        ),
        (
            f'{FIXED}"size": [32, 32], "prompts": [{{"mask": {{"size": [9, 9], "counts": "0"}}}}]}}',
            "prompt 1: the mask has 9×9 pixels, and the image 32×32",
        ),
    ],
    ids=["cut", "no-verdict", "verdict", "size", "no-mask", "counts", "other-size"],
)
def test_a_wrong_line_is_named_before_the_run(folder, capsys, line, problem):
    (folder / "fixed.jsonl").write_text(f"\n{line}\n", encoding="utf-8")
    code, _, err = told(capsys, "check", folder / "p.yaml")
    assert code == 2 and f"fixed.jsonl:2: {problem}" in err
    with pytest.raises(PipelineError):
        work(folder)


def test_corrections_of_unknown_images_are_warned_of(folder, capsys):
    decide(folder, {**make_entry(results(folder)["a.png"], "accepted"), "image": "gone.png"})
    code, _, err = told(capsys, "run", folder / "p.yaml")
    assert code == 0 and "warning: 1 correction is of images that are not in the dataset: gone.png" in err


def test_a_file_of_corrections_that_the_pipeline_does_not_name_is_warned_of(folder, capsys):
    text = (folder / "p.yaml").read_text(encoding="utf-8").replace("corrections: fixed.jsonl\n", "")
    (folder / "p.yaml").write_text(text, encoding="utf-8")
    (folder / "p.corrections.jsonl").write_text("", encoding="utf-8")
    _, out, err = told(capsys, "check", folder / "p.yaml")
    assert "add `corrections: p.corrections.jsonl`" in out + err


def test_status_and_summary_say_what_people_decided(folder, capsys):
    work(folder)  # the copy's own file of corrections
    made = results(folder)
    decide(
        folder,
        make_entry(made["a.png"], "accepted", reviewer="Eva"),
        {**make_entry(made["b/照片.png"], "question"), "result": "0" * 16},
        make_entry(made["c.png"], "fixed", [square()]),
    )
    lines = told(capsys, "status", folder / "out")[1].splitlines()
    at = lines.index("2 images decided by people: 1 accepted, 1 fixed; 1 open question")
    assert lines[at + 1 : at + 4] == [
        "  1 decision is not in the results yet: run again",
        "  1 reviewed on an older result",
        "    b/照片.png",
    ]
    code, _, err = told(capsys, "run", folder / "p.yaml")
    assert code == 0 and lines[at] in err.splitlines()
    reviews = json.loads(told(capsys, "status", folder / "out", "--json")[1])["reviews"]
    assert (reviews["accepted"], reviews["waiting"], reviews["keys_on_older_result"]) == (1, 0, ["b/照片.png"])
    (folder / "fixed.jsonl").write_text("{", encoding="utf-8")
    code, out, _ = told(capsys, "status", folder / "out")
    assert code == 0 and "the corrections cannot be used: " in out and "fixed.jsonl:1: not JSON" in out


def test_explain_names_the_reviewer(folder, capsys):
    work(folder)  # the copy's own file of corrections
    made = results(folder)
    about = {"reviewer": "韩梅梅", "time": "2026-12-01T09:30:00Z", "comment": "好"}
    decide(
        folder,
        make_entry(made["a.png"], "accepted", **about),
        make_entry(made["b/照片.png"], "rejected", comment="blurred"),
        {**make_entry(made["c.png"], "fixed", [square()], reviewer="Eva"), "result": "0" * 16},
    )
    assert (
        "accepted by 韩梅梅, 2026-12-01T09:30:00Z: the result is as decided"
        in told(capsys, "explain", folder / "out", "a.png")[1]
    )
    before = told(capsys, "explain", folder / "out", "c.png")[1]
    assert "fixed by Eva: not in the result yet; the next run takes it\n    reviewed on an older result" in before
    assert work(folder)[0].counts["rejected"] == 1
    after = {key: told(capsys, "explain", folder / "out", key)[1] for key in KEYS}
    assert "accepted by 韩梅梅, 2026-12-01T09:30:00Z: the result is as decided\n    好\n" in after["a.png"]
    assert "rejected by a reviewer: the result is as decided\n    blurred" in after["b/照片.png"]
    assert "fixed by Eva: the result is as decided\n" in after["c.png"] and "older" not in after["c.png"]
    (folder / "fixed.jsonl").unlink()
    gone = json.loads(told(capsys, "explain", folder / "out", "c.png", "--json")[1])["review"]
    assert (gone["reviewer"], gone["state"]) == ("Eva", "its line is not in the corrections any more")
    assert json.loads(told(capsys, "explain", folder / "out", "a.png", "--json")[1])["review"] is None


def test_export_merge_and_evaluate_take_what_people_decided(folder, capsys):
    decide(folder, make_entry(results(folder)["c.png"], "fixed", [square()], reviewer="Eva"))
    work(folder)
    assert told(capsys, "export", folder / "out", "--to", "coco", "-o", folder / "e", "-q")[0] == 0
    exported = json.loads((folder / "e/instances.json").read_bytes())
    number = next(image["id"] for image in exported["images"] if image["file_name"] == "c.png")
    (entry,) = (one for one in exported["annotations"] if one["image_id"] == number)
    assert entry["segmentation"]["counts"] == square().mask.counts
    truth = folder / "e/instances.json"
    assert told(capsys, "evaluate", folder / "out", "--truth", truth, "-o", folder / "v")[0] == 0
    assert json.loads((folder / "v/evaluation.json").read_bytes())["all"]["mean_iou"] == 1.0
    assert told(capsys, "merge", folder / "out", "-o", folder / "m")[0] == 0
    (mask,) = results(folder, "m")["c.png"].kept
    assert mask.counts == square().mask.counts
    assert "fixed by Eva: the result is as decided" in told(capsys, "explain", folder / "m", "c.png")[1]


def test_lines_survive_being_written_and_read(folder):
    made = results(folder)["b/照片.png"]
    entry = make_entry(made, "accepted", reviewer="韩梅梅", seconds=1.5, comment="好")
    decide(folder, entry)
    found = Corrections(folder / "fixed.jsonl").find("b/照片.png")
    assert found == parse(json.dumps(entry, ensure_ascii=False) + "\n")
    assert found.agrees_with(made) and not found.agrees_with(results(folder)["a.png"])
