"""`maskmill explain`: what is said of an image is what happened to it."""

import hashlib
import json

import pytest
from stored_runs import project, run, told

from maskmill import Run
from maskmill.errors import nearest_names


@pytest.fixture
def output(tmp_path):
    file = project(
        tmp_path, writers="[{use: png}]", more="filters: [{use: class_map, map: {thing: cup}}, {use: fake-filter}]"
    )
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    return run(file)


def explained(capsys, output, key, *more):
    code, out, err = told(capsys, "explain", output, key, "--json", *more)
    assert (code, err) == (0, "")
    return json.loads(out)


def test_everything_that_is_recorded_is_told(output, capsys):
    about = explained(capsys, output, "b/照片 1.png")
    photo = output.parent / "photos" / "b" / "照片 1.png"
    assert about["status"] == "done"
    assert about["image"] == {
        "size": {"height": 40, "width": 60},
        "sha256": hashlib.sha256(photo.read_bytes()).hexdigest(),
        "orientation": 1,
        "value_range": None,
        "conversion": {},
        "uri": str(photo),
        "now": "the same",
    }
    assert about["made_by"]["backend"] == "fake-backend"
    assert about["made_by"]["model"] == "fill-1"
    assert "numpy" in about["made_by"]["versions"]
    assert [source["use"] for source in about["sources"]] == ["fake-source"]
    assert [prompt["kind"] for prompt in about["prompts"]] == ["box", "box"]
    cup, cat = about["masks"]
    assert (cup["label"], cup["kept"], cup["changed_by"], cup["prompt"]) == ("cup", True, ["class_map"], 0)
    assert (cat["kept"], cat["dropped_by"], cat["why_dropped"]) == (False, "fake-filter", "every second one")
    with Run(output) as opened:
        (mask,) = opened.result(opened.find("b/照片 1.png")).kept
    assert (cup["area"], cup["box"], cup["score"]) == (mask.area, list(mask.box.xyxy), mask.score)
    assert [file["now"] for file in about["files"]] == ["the same"]


def test_it_is_told_in_words(output, capsys):
    code, out, _ = told(capsys, "explain", output, "a.png")
    assert code == 0
    for part in (
        "a.png: done",
        "60×40 pixels, sha256",
        "model    fill-1",
        "source   fake-source (kind: box)",
        "filter   class_map (map: {'thing': 'cup'}",
        "prompt 0 'thing': box from fake-source (box: [0, 0, 36, 30])",
        "changed by class_map",
        "DROPPED by fake-filter: every second one",
        "png/a_png/000_cup.png",
    ):
        assert part in out


def test_files_and_images_that_changed_since_are_named(output, capsys):
    (output / "png" / "a_png" / "000_cup.png").write_bytes(b"other")
    (output / "png" / "d_png" / "000_cup.png").unlink()
    (output.parent / "photos" / "a.png").write_bytes(b"other")
    (output.parent / "photos" / "d.png").unlink()
    changed, gone = explained(capsys, output, "a.png"), explained(capsys, output, "d.png")
    assert changed["files"][0]["now"] == "changed"
    assert changed["image"]["now"].startswith("changed, sha256 ")
    assert (gone["files"][0]["now"], gone["image"]["now"]) == ("gone", "not found")


def test_a_failed_image_says_where_and_why(output, capsys):
    code, out, _ = told(capsys, "explain", output, "broken.png")
    assert code == 0
    assert "broken.png: failed" in out
    assert "failed at read: ImageReadError" in out


@pytest.mark.parametrize(
    ("key", "meant"),
    [("b/照片1.png", "'b/照片 1.png'"), ("c.png", "'b/c.png'"), ("photos/d.png", "'d.png'"), (r"b\c.png", "'b/c.png'")],
)
def test_a_wrong_key_suggests_the_nearest(output, capsys, key, meant):
    code, _, err = told(capsys, "explain", output, key)
    assert code == 2
    assert f"no image {key!r}" in err
    assert f"did you mean {meant}" in err


def test_a_key_like_none_says_how_many_there_are(output, capsys):
    code, _, err = told(capsys, "explain", output, "zzzzzzzz")
    assert code == 2
    assert "it has 6 images" in err


def test_the_nearest_of_many():
    names = [f"IMG_{number:04}.jpg" for number in range(2000)]
    assert nearest_names("IMG_1234.png", names)[0] == "IMG_1234.jpg"
    assert nearest_names("sub/IMG_0042.jpg", names)[0] == "IMG_0042.jpg"
    assert nearest_names("?", names) == []


def test_a_key_is_found_in_other_letters_and_the_image_in_yet_others(tmp_path, capsys):
    output = run(project(tmp_path, ["caf\u00e9.png", "a[1].png"]))
    assert explained(capsys, output, "cafe\u0301.png")["key"] == "caf\u00e9.png"
    assert explained(capsys, output, "a[1].png")["key"] == "a[1].png"
    (tmp_path / "moved").mkdir()
    (tmp_path / "photos" / "caf\u00e9.png").rename(tmp_path / "moved" / "cafe\u0301.png")
    about = explained(capsys, output, "caf\u00e9.png", "--images", tmp_path / "moved")
    assert about["image"]["now"] == "the same"
