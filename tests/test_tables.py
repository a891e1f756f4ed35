"""CSV files for people: Excel sees UTF-8, no text becomes a formula, and every text can be read back."""

import csv
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from maskmill import Image, ImageRef, testing
from maskmill.api import Pipeline
from maskmill.dataset.dataset import Dataset
from maskmill.tables import PROMPTS_CSV, escape_cell, read_table, unescape_cell, write_table
from maskmill_plugins.prompts.file import File

FORMULAS = [
    "=1+1",
    "=cmd|' /C calc'!A0",
    "+SUM(A1)",
    "-2+3",
    "@x",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1+1",
    "＋1",
    "－a",
    "＠a",
]
FORMULAS += ["-", "+", "-a.jpg", "+-1", "'=1", "''=1", "1-", "-1-1"][:6]
PLAIN = [
    "cat",
    "猫",
    "a=b",
    "a-1.jpg",
    "'quoted'",
    "'",
    "",
    "-5",
    "+1",
    "-.5e3",
    "007",
    " =1",
    "#N/A",
    "a,b",
    'a"b',
    "1.5",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_gets_an_apostrophe(text) -> None:
    assert escape_cell(text) == f"'{text}"
    assert unescape_cell(escape_cell(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_any_other_text_stays_as_it_is(text) -> None:
    assert escape_cell(text) == text
    assert unescape_cell(text) == text


@given(st.text(alphabet=st.sampled_from("'=+-@\t\n\r1.ea＝,\";猫"), max_size=8) | st.text())
def test_every_text_comes_back_and_none_begins_like_a_formula(text) -> None:
    cell = escape_cell(text)
    assert unescape_cell(cell) == text
    assert not cell.startswith(("=", "@", "\t")) and (cell[:1] not in ("+", "-") or float(cell) is not None)


def test_a_table_is_utf_8_with_the_mark_that_excel_needs(tmp_path: Path) -> None:
    with write_table(tmp_path / "t.csv", ("label", "x")) as write:
        for text in [*FORMULAS, *PLAIN]:
            write((text, -3.5))
    assert (tmp_path / "t.csv").read_bytes().startswith(b"\xef\xbb\xbflabel,x\n'=1+1,-3.5\n")
    assert [row["label"] for row in read_table(tmp_path / "t.csv")] == [*FORMULAS, *PLAIN]


def test_a_table_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,label\na.jpg,猫\n", encoding="utf-8")
    assert list(read_table(tmp_path / "t.csv")) == [{"key": "a.jpg", "label": "猫"}]


def run(folder: Path) -> Path:
    """A run over images and labels that look like formulas; its `prompts.csv`."""
    for name in ("=1+1.png", "-a.png", "猫.png"):
        testing.write_picture(folder / "photos" / name)
    (folder / "plugins").mkdir()
    (folder / "plugins" / "fakes.py").write_text(f"import maskmill\n{testing.DROP_IN}", encoding="utf-8")
    (folder / "boxes.csv").write_text(
        "image,label,x1,y1,x2,y2\n=1+1.png,=HYPERLINK(1),1,2,20,22\n-a.png,@SUM,2,3,20,22\n猫.png,猫,3,4,20,22\n",
        "utf-8",
    )
    pipeline = (
        "dataset: photos\nprompts: [{use: file, path: boxes.csv}]\nbackend: fake-backend\nwriters: [{use: yolo}]\n"
    )
    (folder / "p.yaml").write_text(f"{pipeline}output: out\n", encoding="utf-8")
    report = Pipeline.load(folder / "p.yaml").run(quiet=True)
    assert report.exit_code == 0
    return folder / "out" / "prompts.csv"


def test_the_tables_of_a_run_and_their_readers(tmp_path: Path) -> None:
    file = run(tmp_path)
    with file.open(encoding="utf-8-sig", newline="") as lines:
        cells = [(row["image"], row["label"]) for row in csv.DictReader(lines)]
    assert cells == [("'=1+1.png", "'=HYPERLINK(1)"), ("'-a.png", "'@SUM"), ("猫.png", "猫")]

    # prompts.csv is a prompts file itself
    source = File(path=file)
    source.open()
    for name, label, x in (("=1+1.png", "=HYPERLINK(1)", 1), ("-a.png", "@SUM", 2), ("猫.png", "猫", 3)):
        (prompt,) = source.prompts(Image.load(ImageRef(str(tmp_path / "photos" / name), name))) or []
        assert (prompt.label, prompt.box.x1) == (label, x)
    # and a list of images
    (tmp_path / "photos" / "prompts.csv").write_bytes(file.read_bytes())
    listed = [ref.key for ref in Dataset((str(tmp_path / "photos" / "prompts.csv"),), tmp_path)]
    assert listed == ["=1+1.png", "-a.png", "猫.png"]

    images = tmp_path / "out" / "yolo" / "images.csv"
    assert images.read_bytes().startswith("\ufeffkey".encode())
    assert {row["key"] for row in read_table(images)} == set(listed)


def test_an_apostrophe_in_a_table_of_somebody_else_stays(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("image,label\n'=1.png,x\n", encoding="utf-8")
    assert [ref.key for ref in Dataset((str(tmp_path / "list.csv"),), tmp_path)] == ["'=1.png"]
    assert len(PROMPTS_CSV) == 13
