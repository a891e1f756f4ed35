from __future__ import annotations

import ntpath
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from maskmill import files
from maskmill.files import TEMPORARY_PREFIX, find_leftovers, replace, safe_part, safe_path, write_atomic

ANY = st.text(st.characters(), max_size=300)  # lone surrogates included
AWKWARD = st.text(st.sampled_from('ab.~ /\\:*?"<>|\0\n车é\ud800\udce9'), max_size=12)
TEXT = st.one_of(ANY, AWKWARD, st.sampled_from(["con", "CON.txt", "..", ".", "", "com¹", "nul .x", ".mm-1", "a" * 400]))
SUFFIX = st.sampled_from(["", ".png", ".json", "_车.png"])
WINDOWS_FORBIDS = re.compile(r'[<>:"/|?*\\\x00-\x1f]')


def allowed_everywhere(part: str) -> bool:
    size = len(part.encode("utf-8"))  # raises for what no file system takes
    return 0 < size <= 255 and not WINDOWS_FORBIDS.search(part) and not part.endswith((".", " "))


@given(TEXT, SUFFIX)
def test_a_safe_part_is_allowed_on_every_system(text: str, suffix: str) -> None:
    part = safe_part(text, suffix)
    assert allowed_everywhere(part)
    assert part.endswith(suffix)
    assert not part.startswith(TEMPORARY_PREFIX)


@pytest.mark.parametrize("text", ["con", "CON", "nul.tar.gz", "com1.jpg", "LPT9", "com¹.x", "aux .txt", "conin$"])
def test_device_names_of_windows_are_changed(text: str) -> None:
    assert safe_part(text).startswith("_")


@given(TEXT, TEXT, SUFFIX)
def test_different_texts_never_share_a_name(one: str, other: str, suffix: str) -> None:
    if one != other:
        assert safe_part(one, suffix) != safe_part(other, suffix)


@given(TEXT, SUFFIX)
def test_a_made_name_taken_for_a_text_gets_another_name(text: str, suffix: str) -> None:
    made = safe_part(text)
    if made != text:
        assert safe_part(made, suffix) != safe_part(text, suffix)


@pytest.mark.parametrize(
    "text", ["a.jpg", "照片 1.jpg", "a b (2).JPG", ".hidden.png", "é" * 127 + "x", "x" * 255, "a~b", "..a"], ids=ascii
)
def test_plain_names_stay_as_they_are(text: str) -> None:
    assert safe_part(text) == text


def test_a_name_of_255_bytes_keeps_its_suffix_and_its_characters_whole() -> None:
    part = safe_part("车" * 85, ".json")
    assert part.startswith("车车") and part.endswith(".json")
    assert len(part.encode()) <= 255
    assert part != safe_part("车" * 84 + "辆", ".json")


@pytest.mark.parametrize("suffix", ["/x", "/../x", "\\x", ":s", "x" * 65, ".png.", ".png "])
def test_a_suffix_that_is_no_part_of_a_name_is_refused(suffix: str) -> None:
    with pytest.raises(ValueError, match="cannot end a file name"):
        safe_part("a", suffix)


@given(TEXT, SUFFIX)
def test_a_safe_path_stays_in_its_folder(name: str, suffix: str) -> None:
    path = safe_path(name, suffix)
    assert not path.startswith("/") and not ntpath.splitdrive(path)[0]
    assert len(path.split("/")) == len(name.split("/"))
    for part in path.split("/"):
        assert part not in ("", ".", "..")
        assert allowed_everywhere(part)


@pytest.mark.parametrize("name", ["../../etc/x", "/etc/x", "a/../../x", "C:/x", "a//x", "..\\..\\x", "./x"])
def test_a_path_cannot_escape(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "out"
    write_atomic(folder / safe_path(name), b"1")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and folder not in path.parents] == []


@given(TEXT, TEXT)
def test_different_paths_never_become_one(one: str, other: str) -> None:
    if one != other:
        assert safe_path(one) != safe_path(other)


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "名.json"
    write_atomic(target, b"old")
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["名.json"]


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "taken"
    (target / "inside").mkdir(parents=True)  # a folder cannot be replaced by a file
    with pytest.raises(OSError, match=re.escape(str(target.name))):
        write_atomic(target, b"data")
    assert (target / "inside").is_dir()
    assert list(find_leftovers(tmp_path)) == []


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    write_atomic(tmp_path / safe_part("x" * 400, ".json"), b"1")
    write_atomic(tmp_path / ("y" * 255), b"1")
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_kill_left_is_found_and_no_other_write_touches_it(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    target = tmp_path / "sub" / "a.json"
    write_atomic(target, b"old")
    half = next(iter(_names_while_writing(target)))
    half.write_bytes(b"ha")
    assert list(find_leftovers(tmp_path)) == [half]
    assert target.read_bytes() == b"old"
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new" and list(find_leftovers(tmp_path)) == [half]


def test_temporary_files_of_an_output_are_gathered_where_a_shallow_search_finds_them(tmp_path: Path) -> None:
    files.gather_temporary_files(tmp_path)
    try:
        (deep,) = _names_while_writing(tmp_path / "results" / "a" / "b.json")
        (outside,) = _names_while_writing(tmp_path.parent / "other.json")
        assert outside.parent == tmp_path.parent
        deep.write_bytes(b"ha")
        beside = tmp_path / "png" / ".mm-1"
        beside.parent.mkdir()
        beside.write_bytes(b"ha")
        assert set(find_leftovers(tmp_path, deep=False)) == set(find_leftovers(tmp_path)) == {deep, beside}
        deep.unlink()
    finally:
        files.release_temporary_files(tmp_path)
    assert not deep.parent.exists()


def test_two_processes_that_write_one_file_tear_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_atomic(target, b"0" * 100_000)
    code = "import sys, pathlib; from maskmill.files import write_atomic\n"
    code += "for _ in range(150): write_atomic(pathlib.Path(sys.argv[1]), sys.argv[2].encode() * 100_000)"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(target), sign]) for sign in "12"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        data = target.read_bytes()
        assert len(data) == 100_000
        seen.add(frozenset(data))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert all(len(signs) == 1 for signs in seen)


def _names_while_writing(target: Path) -> list[Path]:
    """The temporary name, seen by letting the rename fail before it happens."""
    seen: list[Path] = []
    original = files.replace
    files.replace = lambda source, _: seen.append(source)  # type: ignore[assignment]
    try:
        write_atomic(target, b"x")
    finally:
        files.replace = original
    for path in seen:
        path.unlink(missing_ok=True)
    return seen


@pytest.mark.parametrize("platform, tries", [("win32", 3), ("linux", 1)])
def test_replacing_is_tried_again_on_windows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, tries: int
) -> None:
    attempts = []

    def held(source: Path, target: Path) -> None:
        attempts.append(source)
        raise PermissionError("in use")

    monkeypatch.setattr(files.sys, "platform", platform)
    monkeypatch.setattr(files.os, "replace", held)
    with pytest.raises(PermissionError):
        replace(tmp_path / "a", tmp_path / "b", tries=3)
    assert len(attempts) == tries
