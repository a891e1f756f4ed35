from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from maskmill import Box, Image, ImageRef, PipelineError, Point, Prompt, PromptError, testing
from maskmill_plugins._shared.annotations.reader import NAMES
from maskmill_plugins.prompts.file import File

A, B = [10.0, 20.0, 30.0, 40.0], [50.0, 60.0, 70.0, 80.0]


def write(file: Path, *lines: str, encoding: str = "utf-8", end: str = "\n") -> File:
    file.write_bytes((end.join(lines) + end).encode(encoding))
    return File.from_options({"path": str(file)})


def line(key: str = "a.jpg", prompts: Any = None, **more: Any) -> str:
    return json.dumps({"image": key, "prompts": [{"box": A}] if prompts is None else prompts, **more})


def picture(key: str = "a.jpg") -> Image:
    return testing.image(100, 200, key=key)


def bare(prompts: list[Prompt] | None) -> list[Prompt]:
    """Without what tells them apart in their file."""
    assert prompts is not None
    assert all(prompt.ref for prompt in prompts)
    return [replace(prompt, ref=None) for prompt in prompts]


def told(source: File) -> str:
    return "\n".join(str(problem) for problem in source.check())


# --- JSON Lines


def test_json_lines_give_the_prompts_of_their_image(tmp_path: Path) -> None:
    prompts = [
        {"box": A, "label": "车辆", "score": 0.5, "source": "qwen"},
        {"points": [[1, 2], [3, 4, 0]]},
        {"text": "x"},
    ]
    source = write(tmp_path / "提示.jsonl", line("b.jpg"), line("图/a b.jpg", prompts))
    assert source.check() == []
    assert bare(source.prompts(picture("图/a b.jpg"))) == [
        Prompt(box=Box(*A), label="车辆", score=0.5, source="qwen"),
        Prompt(points=(Point(1, 2), Point(3, 4, 0))),
        Prompt(text="x"),
    ]


def test_an_empty_list_says_nothing_is_there_and_no_line_says_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", line("a.jpg", []))
    assert source.prompts(picture("a.jpg")) == []
    assert source.prompts(picture("b.jpg")) is None


def test_the_last_line_of_an_image_counts(tmp_path: Path) -> None:
    lines = [line("a.jpg", [{"box": A}]), line("b.jpg"), line("a.jpg", [{"box": B}]), ""]
    assert bare(write(tmp_path / "p.jsonl", *lines).prompts(picture())) == [Prompt(box=Box(*B))]


def test_many_images_are_all_found(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", *(line(f"{n}.jpg", [{"box": [0, 0, 1 + n / 50, 1]}]) for n in range(2000)))
    assert all(bare(source.prompts(picture(f"{n}.jpg"))) == [Prompt(box=Box(0, 0, 1 + n / 50, 1))] for n in range(2000))
    assert source.prompts(picture("2000.jpg")) is None


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv"])
def test_a_byte_order_mark_and_crlf_change_nothing(tmp_path: Path, name: str) -> None:
    lines = [line(), line("b.jpg")] if name == "p.jsonl" else ["image,label,x1,y1,x2,y2", "a.jpg,,10,20,30,40"]
    source = write(tmp_path / name, *lines, encoding="utf-8-sig", end="\r\n")
    assert source.check() == []
    assert bare(source.prompts(picture())) == [Prompt(box=Box(*A))]


BROKEN_JSON = {
    "no json": ("{oops", "not JSON"),
    "no object": ("[1, 2]", 'expected {"image": key'),
    "no image": ('{"prompts": []}', 'expected {"image": key'),
    "no prompts": ('{"image": "a.jpg"}', '"prompts" must be a list'),
    "prompts of null": ('{"image": "a.jpg", "prompts": null}', '"prompts" must be a list'),
    "prompt of numbers": (line(prompts=[[1, 2, 3, 4]]), '"prompts" must be a list of objects'),
    "width and height": (line(prompts=[{"box": [10, 20, 5, 5]}]), "is it [x, y, width, height]?"),
    "unknown field": (line(prompts=[{"bbox": A}]), "unknown field 'bbox'"),
    "not a number": ('{"image": "a.jpg", "prompts": [{"box": [NaN, 0, 1, 1]}]}', "finite number"),
    "a text": (line(prompts=[{"box": ["1", 0, 2, 2]}]), "finite number"),
    "grid": (line(prompts=[{"grid": {"points_per_side": "x"}}]), "points_per_side must be a finite number"),
    "size": (line(size=[100]), '"size" must be [height, width]'),
    "newer": (line(schema=2), "schema 2 is not supported"),
    "half a character": (r'{"image": "a.jpg", "prompts": [{"box": [1,2,3,4], "label": "\ud83d"}]}', "surrogates"),
}


@pytest.mark.parametrize("broken, message", BROKEN_JSON.values(), ids=BROKEN_JSON)
def test_a_broken_json_line_is_told_with_its_number(tmp_path: Path, broken: str, message: str) -> None:
    source = write(tmp_path / "p.jsonl", line("x.jpg"), broken, line("y.jpg"))
    problems = source.check()
    assert [(Path(problem.file).name, problem.line) for problem in problems] == [("p.jsonl", 2)]
    assert message in problems[0].message
    assert bare(source.prompts(picture("y.jpg"))) == [Prompt(box=Box(*A))]


def test_a_line_that_is_wrong_fails_its_image_rather_than_passing_it_on(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", line(prompts=[{"box": [9, 9, 1, 1]}]))
    with pytest.raises(PromptError, match="x1 < x2"):
        source.prompts(picture())


def test_a_torn_last_line_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(line() + "\n" + line("b.jpg")[:-9], encoding="utf-8")
    text = told(File.from_options({"path": str(tmp_path / "p.jsonl")}))
    assert "p.jsonl:2: not JSON" in text and "remove or complete it" in text


def test_a_whole_last_line_needs_no_line_end(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(line(), encoding="utf-8")
    source = File.from_options({"path": str(tmp_path / "p.jsonl")})
    assert source.check() == [] and bare(source.prompts(picture())) == [Prompt(box=Box(*A))]


def test_many_broken_lines_are_counted_not_all_told(tmp_path: Path) -> None:
    problems = write(tmp_path / "p.jsonl", *["{"] * 50).check()
    assert len(problems) == 21 and problems[-1].message == "and 30 more problems"


# --- CSV


def test_csv_has_a_box_a_row(tmp_path: Path) -> None:
    rows = ["image,label,x1,y1,x2,y2", '"a,1.jpg",车辆,10,20,30,40', "b.jpg,x,1,2,3,4", '"a,1.jpg",,5e1,60,70.0,80', ""]
    source = write(tmp_path / "p.csv", *rows)
    assert source.check() == []
    assert bare(source.prompts(picture("a,1.jpg"))) == [Prompt(box=Box(*A), label="车辆"), Prompt(box=Box(*B))]
    assert source.prompts(picture("c.jpg")) is None


def test_csv_columns_may_stand_in_any_order_and_among_others(tmp_path: Path) -> None:
    source = write(tmp_path / "p.csv", "id, X1 ,y1,x2,y2,Image", "7,10,20,30,40,a.jpg")
    assert bare(source.prompts(picture())) == [Prompt(box=Box(*A))]


def test_a_csv_row_without_a_box_says_nothing_is_there(tmp_path: Path) -> None:
    source = write(tmp_path / "p.csv", "image,label,x1,y1,x2,y2", "a.jpg,,,,,")
    assert source.check() == [] and source.prompts(picture()) == []


def test_rows_of_commas_as_excel_writes_them_say_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "p.csv", "image,label,x1,y1,x2,y2", "a.jpg,,10,20,30,40", ",,,,,", ", ,,,,")
    assert source.check() == []
    assert bare(source.prompts(picture())) == [Prompt(box=Box(*A))]


def test_a_box_outside_the_picture_is_told_with_its_file_and_ref(tmp_path: Path) -> None:
    source = write(tmp_path / "p.csv", "image,x1,y1,x2,y2", "a.jpg,1,2,3,4", "a.jpg,900,900,910,910")
    with pytest.raises(PromptError, match=r"p.csv: prompt 2: the box \[900.* lies outside"):
        source.prompts(picture())


@pytest.mark.parametrize(
    "row, message",
    [
        ("a.jpg,x,1,2,3", "expected 6 columns, found 5"),
        ("a.jpg,x,1,2,3,4,5", "expected 6 columns, found 7"),
        (",x,1,2,3,4", "the image name is missing"),
        ("a.jpg,x,1,2,three,4", "x1,y1,x2,y2 must be numbers, not 1,2,three,4"),
        ("a.jpg,x,1,2,,4", "x1,y1,x2,y2 must be numbers"),
        ("a.jpg,x,5,2,3,4", "x1 < x2"),
        ("a.jpg,x,nan,2,3,4", "finite number"),
        ('a.jpg,"x,1,2,3,4', "not CSV"),
    ],
)
def test_a_broken_csv_row_is_told_with_its_number(tmp_path: Path, row: str, message: str) -> None:
    problems = write(tmp_path / "p.csv", "image,label,x1,y1,x2,y2", "ok.jpg,,1,2,3,4", row).check()
    assert [problem.line for problem in problems] == [3]
    assert message in problems[0].message


@pytest.mark.parametrize(
    "header, message",
    [
        ("image,x,y,w,h", "p.csv:1: the first line must name the columns image,label,x1,y1,x2,y2; 'x1' is missing"),
        ("image;label;x1;y1;x2;y2", "separate the columns with commas"),
        ("a.jpg,cup,1,2,3,4", "'image' is missing"),
        ("", "'image' is missing"),
    ],
)
def test_a_csv_file_needs_its_header(tmp_path: Path, header: str, message: str) -> None:
    source = write(tmp_path / "p.csv", header, "a.jpg,cup,1,2,3,4")
    assert message in told(source)
    with pytest.raises(PipelineError):
        source.open()


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
def test_a_csv_file_that_is_not_utf_8_says_so(tmp_path: Path, encoding: str) -> None:
    source = write(tmp_path / "p.csv", "image,label,x1,y1,x2,y2", "a.jpg,车辆,1,2,3,4", encoding=encoding)
    number = 1 if encoding == "utf-16" else 2
    assert f"p.csv:{number}: not UTF-8 text; save the file as UTF-8 (in Excel: CSV UTF-8)" in told(source)


# --- the file as a whole


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("gone.jsonl", None, "gone.jsonl' does not exist"),
        ("p.dat", "", "is empty"),
        ("p.dat", "hello", "cannot be detected"),
        ("p.jsonl", "", "warning: contains no prompts"),
    ],
)
def test_a_file_that_cannot_be_used_is_found_before_the_run(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert message in told(File.from_options({"path": name}, base=tmp_path)).replace(f"{tmp_path / name}: ", "")


def test_a_folder_without_prompts_says_so(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").mkdir()
    assert "p.jsonl: contains no prompts or annotation files" in told(
        File.from_options({"path": str(tmp_path / "p.jsonl")})
    )


def test_the_format_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text(line(), encoding="utf-8")
    source = File.from_options({"path": "p.txt", "format": "jsonl"}, base=tmp_path)
    assert source.check() == [] and bare(source.prompts(picture())) == [Prompt(box=Box(*A))]


def test_every_reader_can_be_named() -> None:
    assert set(get_args(File.model_fields["format"].annotation)) == {"auto", *NAMES}


def test_relative_units_are_turned_into_pixels_once(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(line(prompts=[{"box": [0.1, 0.2, 0.5, 1]}]), encoding="utf-8")
    source = File.from_options({"path": "p.jsonl", "units": "relative"}, base=tmp_path)
    assert source.check() == [] and bare(source.prompts(picture())) == [Prompt(box=Box(20, 20, 100, 100))]


def test_relative_units_taken_for_pixels_are_worth_a_warning(tmp_path: Path) -> None:
    source = write(tmp_path / "p.csv", "image,x1,y1,x2,y2", "a.jpg,0.1,0.2,0.3,0.4", "b.jpg,0,0,1,1")
    (problem,) = source.check()
    assert problem.warning and "every box is within the first pixel" in problem.message
    assert problem.hint == "set `units: relative`"
    assert File.from_options({"path": str(tmp_path / "p.csv"), "units": "relative"}).check() == []
    assert write(tmp_path / "p.csv", "image,x1,y1,x2,y2", "a.jpg,0,0,1,1", "b.jpg,0,0,2,1").check() == []


def test_pixels_taken_for_relative_units_are_told_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(line(), encoding="utf-8")
    source = File.from_options({"path": "p.jsonl", "units": "relative"}, base=tmp_path)
    assert "p.jsonl:1: prompt 1: relative coordinates are between 0 and 1, not 10" in told(source)


# --- another version of the picture


def test_prompts_for_this_very_picture_are_taken(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", line(size=[100, 200], sha256=picture().sha256))
    assert bare(source.prompts(picture())) == [Prompt(box=Box(*A))]


def test_prompts_made_on_a_picture_of_another_size_fail_the_image(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", line(size=[200, 100]))
    with pytest.raises(PromptError, match=r"p\.jsonl .* \(200, 100\), but this one has \(100, 200\)"):
        source.prompts(picture())


def test_prompts_made_on_another_version_of_the_picture_fail_the_image(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", line(sha256="0" * 64))
    with pytest.raises(PromptError, match=f"0{{12}}…, this one has {picture().sha256[:12]}"):
        source.prompts(picture())


def test_a_file_that_changes_in_use_fails_the_image(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", line("a.jpg"), line("b.jpg"))
    source.open()
    write(tmp_path / "p.jsonl", line("c.jpg"), line("d.jpg"))
    with pytest.raises(PromptError, match="changed during the run"):
        source.prompts(picture("b.jpg"))


# --- fingerprints


def fingerprint(source: File, key: str = "a.jpg") -> str:
    return source.fingerprint(ImageRef(key, key))


def test_a_fingerprint_is_of_this_images_prompts_alone(tmp_path: Path) -> None:
    before = write(tmp_path / "p.jsonl", line("a.jpg"), line("b.jpg"))
    after = write(tmp_path / "q.jsonl", line("b.jpg", []), line("a.jpg", [{"box": B}]), line("a.jpg"))
    assert fingerprint(before) == fingerprint(after)
    assert fingerprint(before, "b.jpg") != fingerprint(after, "b.jpg")


def test_equal_prompts_have_one_fingerprint_in_every_format(tmp_path: Path) -> None:
    rows = write(tmp_path / "p.csv", "image,label,x1,y1,x2,y2", "a.jpg,,10,20,30,40")
    assert fingerprint(rows) == fingerprint(write(tmp_path / "p.jsonl", line()))


def test_unknown_empty_and_wrong_have_fingerprints_of_their_own(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", line("a"), line("b", []), line("c", [{"box": 3}]))
    assert len({fingerprint(source, key) for key in "abcd"}) == 4


def test_relative_units_change_the_fingerprint(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", line(prompts=[{"box": [0, 0, 1, 1]}]))
    relative = File.from_options({"path": str(source.path), "units": "relative"})
    assert fingerprint(source) != fingerprint(relative)


def test_a_reader_holds_no_lines_in_memory(tmp_path: Path) -> None:
    source = write(tmp_path / "p.jsonl", *(line(f"{n}.jpg", note="x" * 500) for n in range(200)))
    source.open()
    held = vars(source._reader)
    assert sum(value.nbytes for value in held.values() if hasattr(value, "nbytes")) == 16 * 200
    assert not any(isinstance(value, (dict, list)) for value in held.values())
