"""prompts.csv: every box that came in is a mask, or has a named reason."""

import csv
import json
import random
from collections import Counter

import pytest

from maskmill import Pipeline, files, testing
from maskmill.cli import main
from maskmill.run.prompts_csv import update_prompts_csv
from maskmill.tables import PROMPTS_CSV as COLUMNS

HEIGHT, WIDTH = 48, 64
FILTER = '''
from maskmill import Filter, PromptSource, hookimpl


class Judge(Filter):
    """Drops masks of the label bad; fails on the label worse; gives others a new label."""

    def apply(self, image, masks):
        if any(mask.label == "worse" for mask in masks):
            raise RuntimeError("as told")
        return [mask.drop("is bad") if mask.label == "bad" else mask for mask in masks]


@hookimpl
def register_filters(register):
    register("judge", Judge)
'''


class Place:
    """A folder with photos, a COCO file and a pipeline."""

    def __init__(self, folder):
        self.folder = folder
        self.images, self.annotations = [], []
        (folder / "plugins").mkdir()
        (folder / "plugins" / "fakes.py").write_text(f"import maskmill\n{testing.DROP_IN}", encoding="utf-8")
        (folder / "plugins" / "judge.py").write_text(FILTER, encoding="utf-8")

    def photos(self, *names):
        for number, name in enumerate(names):
            testing.write_picture(self.folder / "photos" / name, HEIGHT, WIDTH, number)

    def image(self, name, *boxes, labels=(), **more):
        """An image of the COCO file with boxes xywh."""
        number = len(self.images) + 1
        self.images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        for box, label in zip(boxes, [*labels, *[1] * len(boxes)], strict=False):
            ref = 1000 + len(self.annotations)
            self.annotations.append({"id": ref, "image_id": number, "category_id": label, "bbox": box, **more})

    def save(self):
        names = ["cat", "bad", "worse"]
        categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
        document = {"images": self.images, "annotations": self.annotations, "categories": categories}
        (self.folder / "boxes.json").write_text(json.dumps(document), encoding="utf-8")

    def run(self, prompts="[{use: file, path: boxes.json}]", filters="[judge]", run="{engine: inline}", **asked):
        self.save()
        text = (
            f"dataset: photos\nprompts: {prompts}\nbackend: fake-backend\nfilters: {filters}\noutput: out\nrun: {run}\n"
        )
        (self.folder / "p.yaml").write_text(text, encoding="utf-8")
        return Pipeline.load(self.folder / "p.yaml").run(quiet=True, **asked)

    def rows(self):
        with (self.folder / "out" / "prompts.csv").open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))

    def outcomes(self):
        return {row["ref"]: (row["outcome"], row["reason"]) for row in self.rows()}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    return Place(tmp_path)


def test_every_outcome_has_its_name_and_its_reason(place):
    place.photos("a.png", "图/b.png", "c.png", "x/twin.png", "y/twin.png")
    place.image("a.png", [1, 2, 30, 40], [5, 5, 10, 10], [50, 30, 30, 30], labels=[1, 2, 1])
    place.image("other/b.png", [1, 2, 30, 40], [4, 4, -1, 3])
    place.image("c.png", [1, 2, 30, 40], labels=[3])
    place.image("gone.png", [1, 2, 3, 4])
    place.image("twin.png", [1, 2, 3, 4])
    place.image("a.png", iscrowd=1)
    place.images.pop()
    place.annotations.append({"id": 2000, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 1})
    report = place.run("[{use: file, path: boxes.json, broken: skip}]")
    assert report.counts["failed"] == 3
    assert place.outcomes() == {
        "1000": ("mask", ""),
        "1001": ("dropped", "judge: is bad"),
        "1002": ("mask", ""),
        "2000": ("skipped", "crowd region (iscrowd 1), skipped; set `crowd: prompt` to use it"),
        "1003": ("mask", ""),
        "1004": ("skipped", "bbox has width -1"),
        "1005": ("failed", "as told"),
        "1006": ("no image", "no image of the dataset has this name"),
        "1007": ("no image", "several images of the dataset match it: x/twin.png, y/twin.png"),
    }
    row = next(row for row in place.rows() if row["ref"] == "1002")
    told = "file|boxes.json|annotations[2] (id 1002)|1002|a.png|cat|50|30|64|48|mask|2|"
    assert "|".join(row[name] for name in COLUMNS) == told
    assert next(row["image"] for row in place.rows() if row["ref"] == "1003") == "图/b.png"


def test_the_run_says_what_has_no_counterpart(place, capsys):
    place.photos("a.png", "new.png")
    place.image("a.png", [1, 2, 30, 40])
    place.image("gone.png", [1, 2, 3, 4])
    place.run()
    about = json.loads((place.folder / "out" / "run.json").read_text(encoding="utf-8"))["prompts"]
    assert [one["source"] for one in about] == ["file"]
    assert about[0]["in the file, not in the dataset"] == {"count": 1, "first": ["gone.png"]}
    assert about[0]["images not in the file"] == {"count": 1, "first": ["new.png"]}
    with pytest.raises(SystemExit):
        main(["run", str(place.folder / "p.yaml")])
    said = capsys.readouterr().err
    assert "warning: 1 of the images in boxes.json is not in the dataset: gone.png" in said
    assert "warning: 1 of 2 images is not in boxes.json: new.png" in said
    assert "2 prompts in files: 1 with a mask, 1 without an image (prompts.csv)" in said
    with pytest.raises(SystemExit) as ended:
        main(["check", str(place.folder / "p.yaml")])
    assert ended.value.code == 0
    assert "warning: 1 of 2 images is not in boxes.json: new.png" in capsys.readouterr().err


def test_what_was_not_run_yet_is_not_asked(place):
    place.photos("a.png", "b.png")
    place.image("a.png", [1, 2, 30, 40])
    place.image("b.png", [1, 2, 30, 40])
    place.run(limit=1)
    assert [row["outcome"] for row in place.rows()] == ["mask", "not asked"]
    place.run(only="b*")
    assert [row["outcome"] for row in place.rows()] == ["mask", "mask"]
    place.annotations[0]["bbox"] = [1, 2, 20, 20]
    place.run(only="b*")
    assert place.outcomes()["1000"] == ("not asked", "it was changed after its image was processed")
    assert place.run().ran == 1
    assert [row["outcome"] for row in place.rows()] == ["mask", "mask"]


def test_another_filter_brings_it_up_to_date_without_asking_again(place):
    place.photos("a.png")
    place.image("a.png", [1, 2, 30, 40], [1, 2, 30, 40], labels=[1, 2])
    place.run()
    assert [row["outcome"] for row in place.rows()] == ["mask", "dropped"]
    place.run(filters="[{use: class_map, map: {bad: good}}]")
    assert [(row["outcome"], row["label"]) for row in place.rows()] == [("mask", "cat"), ("mask", "bad")]


def test_a_rerun_without_anything_to_do_leaves_the_file_and_makes_it_if_it_is_gone(place):
    place.photos("a.png")
    place.image("a.png", [1, 2, 30, 40])
    place.run()
    file = place.folder / "out" / "prompts.csv"
    before, time = file.read_bytes(), file.stat().st_mtime_ns
    Pipeline.load(place.folder / "p.yaml").run(quiet=True)
    assert file.stat().st_mtime_ns == time
    file.unlink()
    place.run()
    assert file.read_bytes() == before


def test_only_sources_with_an_inventory_have_the_file(place):
    place.photos("a.png")
    place.run("[fake-source]")
    assert not (place.folder / "out" / "prompts.csv").exists()


def test_two_sources_have_their_own_rows_and_a_line_that_was_replaced_has_none(place):
    place.photos("a.png", "b.png")
    place.image("a.png", [1, 2, 30, 40])
    lines = [json.dumps({"image": key, "prompts": [{"box": [1, 2, 31, 42]}]}) for key in ("a.png", "b.png", "b.png")]
    (place.folder / "more.jsonl").write_text("\n".join(lines), encoding="utf-8")
    both = "[{use: file, path: boxes.json}, {use: file, path: more.jsonl}]"
    place.run(both)
    rows = [(row["file"], row["image"], row["outcome"], row["reason"]) for row in place.rows()]
    assert rows == [
        ("boxes.json", "a.png", "mask", ""),
        ("more.jsonl", "a.png", "not asked", "its image was processed without it"),
        ("more.jsonl", "b.png", "mask", ""),
    ]


def test_an_interrupted_run_leaves_the_file_of_before(place):
    (place.folder / "plugins" / "stop.py").write_text(
        "from maskmill import Filter, StopRun, hookimpl\n\n\nclass Stop(Filter):\n"
        '    """Stops."""\n\n    def apply(self, image, masks):\n        raise StopRun("enough")\n\n\n'
        '@hookimpl\ndef register_filters(register):\n    register("stop", Stop)\n',
        encoding="utf-8",
    )
    place.photos("a.png")
    place.image("a.png", [1, 2, 30, 40])
    assert place.run(filters="[stop]").outcome == "stopped"
    assert not (place.folder / "out" / "prompts.csv").exists()
    place.run()
    assert [row["outcome"] for row in place.rows()] == ["mask"]


def test_relative_boxes_are_told_in_pixels(place):
    place.photos("a.png")
    (place.folder / "labels").mkdir()
    (place.folder / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n0 0.5 0.5 0 0.5\n", encoding="utf-8")
    place.run("[{use: file, path: labels, broken: skip}]")
    first, second = place.rows()
    assert [first[name] for name in ("place", "ref", "x1", "y1", "x2", "y2")] == [
        "line 1",
        "line 1",
        "16",
        "12",
        "48",
        "36",
    ]
    assert (second["outcome"], second["file"]) == ("skipped", "a.txt")


def test_ten_thousand_boxes_are_ten_thousand_rows_joined_by_id(place):
    chance = random.Random(0)
    place.photos(*(f"sub/{number}.png" for number in range(50)))
    for number in range(52):
        boxes = [
            [chance.randrange(40), chance.randrange(30), chance.randrange(1, 20), chance.randrange(1, 15)]
            for _ in range(200)
        ]
        place.image(f"images/{number}.png", *boxes, labels=[1 + (index % 100 == 7) for index in range(200)])
    place.annotations = place.annotations[:10_000]
    place.annotations[5]["bbox"][2] = 0
    place.run("[{use: file, path: boxes.json, broken: skip}]", run="{engine: joblib, jobs: 2}")
    rows = place.rows()
    assert [int(row["ref"]) for row in rows] == [annotation["id"] for annotation in place.annotations]
    assert Counter(row["outcome"] for row in rows) == {"mask": 9899, "dropped": 100, "skipped": 1}
    for row, annotation in zip(rows, place.annotations, strict=True):
        x, y, width, height = annotation["bbox"]
        if row["outcome"] != "skipped":
            corners = [float(row[name]) for name in ("x1", "y1", "x2", "y2")]
            assert corners == [x, y, min(x + width, WIDTH), min(y + height, HEIGHT)]
    with (place.folder / "out" / "results" / "sub" / "7.png.json").open(encoding="utf-8") as file:
        masks = {mask["prompt"]["ref"]: mask["index"] for mask in json.load(file)["masks"]}
    assert {row["ref"]: int(row["mask"]) for row in rows if row["image"] == "sub/7.png"} == masks


def test_a_stop_while_it_is_written_leaves_the_file_of_before(place, monkeypatch):
    place.photos("a.png", "b.png")
    place.image("a.png", [1, 2, 30, 40])
    place.run()
    file = place.folder / "out" / "prompts.csv"
    before = file.read_bytes()
    place.image("b.png", [1, 2, 30, 40])
    asked = iter([False, True])
    monkeypatch.setattr(
        "maskmill.run.execution.update_prompts_csv", lambda *given: update_prompts_csv(*given[:4], lambda: next(asked))
    )
    place.run()
    assert file.read_bytes() == before
    assert not list((place.folder / "out").glob(".mm-*"))


def test_a_result_that_is_gone_stops_the_run_with_advice(place):
    place.photos("a.png", "b.png")
    place.image("a.png", [1, 2, 30, 40])
    place.run(only="a.png")
    (place.folder / "out" / "results" / "a.png.json").unlink()
    report = place.run(only="b.png")
    assert report.outcome == "stopped"
    assert "prompts.csv could not be written: the stored result of a.png is missing or damaged" in report.message


def test_a_file_that_another_program_holds_open_is_named(place, monkeypatch):
    rename = files.replace

    def refuse(source, target):
        if target.name == "prompts.csv":
            raise PermissionError(13, "Permission denied", str(target))
        rename(source, target)

    place.photos("a.png")
    place.image("a.png", [1, 2, 30, 40])
    monkeypatch.setattr(files, "replace", refuse)
    report = place.run()
    assert (report.outcome, report.counts["done"]) == ("stopped", 1)
    assert "prompts.csv could not be written: [Errno 13]" in report.message


def test_a_run_in_parts_accounts_for_the_same_as_a_whole_one(place):
    place.photos("a.png", "b.png", "c.png")
    for name in ("a.png", "b.png", "c.png"):
        place.image(name, [1, 2, 30, 40], [3, 3, 9, 9])
    place.run()
    whole = (place.folder / "out" / "prompts.csv").read_bytes()
    for number in range(2):
        place.run(fresh=True, limit=number + 1)
        place.run()
        assert (place.folder / "out" / "prompts.csv").read_bytes() == whole


def test_what_a_person_is_not_done_with_or_rejected_is_told(place):
    place.photos("a.png", "b.png", "c.png")
    prompts = [{"box": [1, 2, 31, 42]}]
    said = [("a.png", "done"), ("b.png", "todo"), ("c.png", "rejected")]
    lines = [json.dumps({"image": key, "prompts": prompts, "status": status, "reviewer": "李"}) for key, status in said]
    (place.folder / "drawn.jsonl").write_text("\n".join(lines), encoding="utf-8")
    place.run("[{use: file, path: drawn.jsonl}]")
    rows = [(row["image"], row["outcome"], row["reason"]) for row in place.rows()]
    assert rows == [
        ("a.png", "mask", ""),
        ("b.png", "skipped", "the image is marked as not finished"),
        ("c.png", "rejected", "李 rejected this image in drawn.jsonl"),
    ]
