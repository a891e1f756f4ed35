from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from maskmill import DatasetError, ImageReadError, ImageRef
from maskmill.dataset import walk as folders
from maskmill.dataset.dataset import Dataset
from maskmill.dataset.listing import SharedListing
from maskmill.dataset.walk import Pattern
from maskmill.testing import write_picture

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="the file system refuses it")


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def keys(base: Path, *spec: str) -> list[str]:
    return [ref.key for ref in Dataset(spec, base)]


def write(file: Path, *lines: str, encoding: str = "utf-8") -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("\n".join([*lines, ""]).encode(encoding))
    return file.name


def refused(base: Path, *spec: str) -> str:
    with pytest.raises(DatasetError) as caught:
        list(Dataset(spec, base))
    return str(caught.value)


# --- folders


def test_a_folder_is_listed_one_directory_at_a_time_each_sorted(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "b.jpg", "a.png", "z/2.jpg", "z/1.jpg", "m/k/deep.jpg", "m/c.jpg", "B.jpg")
    assert keys(tmp_path, "photos") == ["B.jpg", "a.png", "b.jpg", "m/c.jpg", "m/k/deep.jpg", "z/1.jpg", "z/2.jpg"]


def test_a_key_leads_to_its_file(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "sub/a.jpg")
    ref = next(iter(Dataset(("photos",), tmp_path)))
    assert ref == ImageRef(str(tmp_path / "photos/sub/a.jpg"), "sub/a.jpg")
    assert ref.read() == b"x"


def test_suffixes_count_in_any_case_and_nothing_else_is_an_image(tmp_path: Path) -> None:
    images = ["a.JPG", "b.jPeG", "c.PNG", "d.bmp", "e.tif", "f.TIFF", "g.webp", "h.gif", "i.avif"]
    fill(tmp_path, *images, "notes.txt", "x.json", "noext", "jpg", "i.jpg.bak", "j.jxl")
    assert keys(tmp_path, ".") == images


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", ".hidden.jpg", ".thumbs/b.jpg", "sub/.c.jpg", "._a.jpg")
    assert keys(tmp_path, ".") == ["a.jpg"]


def test_same_stems_stay_apart(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "a.png", "sub/a.jpg", "a/a.jpg")
    assert keys(tmp_path, ".") == ["a.jpg", "a.png", "a/a.jpg", "sub/a.jpg"]


@pytest.mark.parametrize(
    "name",
    ["照片 (1).jpg", "a b.jpg", "é.jpg", "e\u0301.jpg", "[x].jpg", "#1.jpg", "名" * 83 + "x.jpg", "a%20b.jpg"],
    ids=ascii,
)
def test_names_of_every_kind_are_keys_as_the_file_system_gives_them(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "图 片", name)
    assert keys(tmp_path, "图 片") == os.listdir(tmp_path / "图 片")  # noqa: PTH208


def test_a_dot_dot_in_an_entry_is_resolved(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "a.jpg")
    (tmp_path / "pipelines").mkdir()
    ref = next(iter(Dataset(("../photos",), tmp_path / "pipelines")))
    assert ref == ImageRef(str(tmp_path.resolve() / "photos" / "a.jpg"), "a.jpg")


def test_an_absolute_entry_ignores_the_base(tmp_path: Path) -> None:
    fill(tmp_path / "photos", "a.jpg")
    assert keys(Path("elsewhere"), str(tmp_path / "photos")) == ["a.jpg"]


def test_a_folder_starts_without_listing_those_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.jpg", *(f"{number}/b.jpg" for number in range(20)))
    listed = []
    original = os.scandir
    monkeypatch.setattr(folders.os, "scandir", lambda path: listed.append(path) or original(path))
    images = iter(Dataset((".",), tmp_path))
    assert next(images).key == "a.jpg" and len(listed) == 1
    assert next(images).key == "0/b.jpg" and len(listed) == 2


def test_listing_again_gives_the_same(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "s/b.jpg")
    dataset = Dataset((".",), tmp_path)
    assert list(dataset) == list(dataset)


@POSIX
def test_links_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "store", "real.jpg", "album/b.jpg")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/link.jpg").symlink_to("../store/real.jpg")
    (tmp_path / "photos/album").symlink_to("../store/album")
    assert keys(tmp_path, "photos") == ["link.jpg", "album/b.jpg"]


@POSIX
def test_a_link_to_a_folder_above_ends_with_a_warning(tmp_path: Path) -> None:
    fill(tmp_path, "photos/a.jpg", "photos/sub/b.jpg")
    (tmp_path / "photos/sub/up").symlink_to("..")
    (tmp_path / "photos/self").symlink_to(".")
    dataset = Dataset(("photos",), tmp_path)
    assert [ref.key for ref in dataset] == ["a.jpg", "sub/b.jpg"]
    assert len(dataset.warnings) == 2
    assert all("links back to a folder above" in text for text in dataset.warnings)


@POSIX
def test_two_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    fill(tmp_path, "x/1.jpg", "y/2.jpg")
    (tmp_path / "x/to_y").symlink_to("../y")
    (tmp_path / "y/to_x").symlink_to("../x")
    assert keys(tmp_path, ".") == ["x/1.jpg", "x/to_y/2.jpg", "y/2.jpg", "y/to_x/1.jpg"]


@POSIX
def test_a_link_to_nothing_is_an_image_that_fails(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "me.jpg").symlink_to("me.jpg")
    gone, me = Dataset((".",), tmp_path)
    assert (gone.key, me.key) == ("gone.jpg", "me.jpg")
    with pytest.raises(ImageReadError, match=r"gone\.jpg: No such file"):
        gone.read()


@POSIX
def test_pipes_sockets_and_devices_are_left_out_with_a_warning_each(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(tmp_path / "socket.jpg"))  # the whole path may be too long for a socket
        dataset = Dataset((".",), tmp_path)
        assert [ref.key for ref in dataset] == ["a.jpg"]
    for name in ("pipe.jpg", "endless.jpg", "socket.jpg"):
        assert sum(f"{name} is a pipe, socket or device" in text for text in dataset.warnings) == 1
    assert len(dataset.warnings) == 3


@POSIX
@pytest.mark.parametrize("name", ["pipe.jpg", "pipe.txt", "pipe.csv"])
def test_a_pipe_is_no_entry_of_a_dataset(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert f"{name}' is neither a folder nor" in refused(tmp_path, name)
    assert "neither" in str(Dataset((name,), tmp_path).check()[0])


@POSIX
def test_a_pipe_in_a_list_fails_as_an_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    write(tmp_path / "l.txt", "pipe.jpg")
    (ref,) = Dataset(("l.txt",), tmp_path)
    with pytest.raises(ImageReadError, match=r"pipe.jpg is a pipe, socket or device"):
        ref.read()


@POSIX
def test_a_folder_that_vanishes_during_the_listing_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "b/1.jpg", "c/d/2.jpg", "z/3.jpg")
    dataset = Dataset((".",), tmp_path)
    images = iter(dataset)
    assert next(images).key == "a.jpg"
    shutil.rmtree(tmp_path / "b")
    shutil.rmtree(tmp_path / "c")
    (tmp_path / "c").write_bytes(b"a file by now")
    assert [ref.key for ref in images] == ["z/3.jpg"]
    assert ["b: No such file" in dataset.warnings[0], "c: Not a directory" in dataset.warnings[1]] == [True, True]


@POSIX
def test_all_that_is_below_may_vanish_during_the_listing(tmp_path: Path) -> None:
    fill(tmp_path, "p/a.jpg", "p/b/1.jpg")
    images = iter(Dataset(("p",), tmp_path))
    next(images)
    shutil.rmtree(tmp_path / "p")
    assert list(images) == []


@POSIX
def test_folders_deeper_than_a_path_can_be_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    place = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=place)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = below
    os.close(place)
    dataset = Dataset((".",), tmp_path)
    assert [ref.key for ref in dataset] == ["a.jpg"]
    assert len(dataset.warnings) == 1 and "File name too long" in dataset.warnings[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
@pytest.mark.parametrize(
    "name", ["a\nb.jpg", "\x1b[31m.jpg", "\t.jpg", " .jpg", "a\\b.jpg", "\u202egpj.jpg"], ids=ascii
)
def test_names_with_control_characters_are_names(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "p", name)
    (ref,) = Dataset(("p",), tmp_path)
    assert ref.read() == b"x" and ref.uri == str(tmp_path / "p" / ref.key)


def test_an_unreadable_folder_is_named_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a/1.jpg", "locked/2.jpg", "z/3.jpg")
    original = os.scandir

    def guarded(path: Any) -> Any:  # not by permissions: these do not hold for root
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return original(path)

    monkeypatch.setattr(folders.os, "scandir", guarded)
    dataset = Dataset((".",), tmp_path)
    assert [ref.key for ref in dataset] == ["a/1.jpg", "z/3.jpg"]
    assert len(dataset.warnings) == 1
    assert "locked: Permission denied" in dataset.warnings[0]
    assert "cannot read the folder" in refused(tmp_path, "locked")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_names_that_are_no_text_are_left_out_with_one_warning(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "caf\udce9.jpg", "\udcff.jpg", "\udcfe.txt")
    dataset = Dataset((".",), tmp_path)
    assert [ref.key for ref in dataset] == ["a.jpg"]
    assert len(dataset.warnings) == 1
    assert "2 names are not UTF-8" in dataset.warnings[0] and r"caf\xe9.jpg; rename" in dataset.warnings[0]
    dataset.warnings[0].encode()


def test_the_output_of_a_run_inside_the_dataset_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg", "out/ledger.sqlite", "out/cutout/a.jpg/0.png")
    dataset = Dataset((".",), tmp_path)
    assert [ref.key for ref in dataset] == ["a.jpg"]
    assert "out is the output folder of a run" in dataset.warnings[0]
    assert "cannot be a dataset" in refused(tmp_path, "out")
    assert keys(tmp_path, "out/cutout") == ["a.jpg/0.png"]


# --- patterns


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("photos/*.jpg", ["a.jpg"]),
        ("photos/**/*.jpg", ["a.jpg", "x/b.jpg", "x/y/c.jpg"]),
        ("photos/**", ["a.jpg", "d.png", "x/b.jpg", "x/y/c.jpg"]),
        ("photos/**/**/*.png", ["d.png"]),
        ("photos/*/*.jpg", ["x/b.jpg"]),
        ("photos/x/**/*.jpg", ["b.jpg", "y/c.jpg"]),
        ("photos/?.[jp]*", ["a.jpg", "d.png"]),
        ("ph*/x/*.jpg", ["photos/x/b.jpg"]),
        ("photos/.h/*.jpg", ["e.jpg"]),
        ("photos/.*/*.jpg", [".h/e.jpg"]),
        ("photos/*", ["a.jpg", "d.png"]),
    ],
)
def test_a_pattern_names_files_keyed_from_its_first_wildcard_on(
    tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    fill(tmp_path / "photos", "a.jpg", "d.png", "x/b.jpg", "x/y/c.jpg", ".h/e.jpg", "n.txt")
    assert keys(tmp_path, pattern) == expected


PARTS = st.lists(st.sampled_from(["**", "*", "a", "b*", "?"]), min_size=1, max_size=4)
NAMES = st.lists(st.sampled_from(["a", "b", "ab", "bb"]), min_size=1, max_size=5)


@given(PARTS, NAMES)
def test_a_pattern_means_what_it_says(parts: list[str], names: list[str]) -> None:
    def matches(parts: list[str], names: list[str]) -> bool:
        if not parts:
            return not names
        if parts[0] == "**":
            return any(matches(parts[1:], names[skip:]) for skip in range(len(names) + 1))
        return bool(names) and one(parts[0], names[0]) and matches(parts[1:], names[1:])

    def one(part: str, name: str) -> bool:
        return {"*": True, "?": len(name) == 1, "b*": name[0] == "b"}.get(part, name == part)

    pattern = Pattern(parts)
    state = pattern.start
    for name in names:
        state = pattern.step(state, name)
    assert (pattern.end in state) == matches(parts, names)


def test_a_folder_or_file_whose_name_looks_like_a_pattern_is_meant_itself(tmp_path: Path) -> None:
    fill(tmp_path, "trip [2024]/a.jpg", "b[1].jpg")
    assert keys(tmp_path, "trip [2024]") == ["a.jpg"]
    assert keys(tmp_path, "b[1].jpg") == ["b[1].jpg"]


@POSIX
def test_a_deep_pattern_does_not_follow_loops(tmp_path: Path) -> None:
    fill(tmp_path, "photos/a.jpg")
    (tmp_path / "photos/loop").symlink_to(".")
    assert keys(tmp_path, "photos/**/*.jpg") == ["a.jpg"]


# --- single images, packages, several entries


def test_one_image(tmp_path: Path) -> None:
    fill(tmp_path, "some where/a.jpg")
    assert list(Dataset(("some where/a.jpg",), tmp_path)) == [ImageRef(str(tmp_path / "some where/a.jpg"), "a.jpg")]


def test_a_file_inside_a_package(tmp_path: Path) -> None:
    uri = "package:skimage/data/coffee.png"
    (ref,) = Dataset((uri,), tmp_path)
    assert ref == ImageRef(uri, "skimage/data/coffee.png")
    assert ref.path.is_file()


@pytest.mark.parametrize("spec", ["package:skimage/data", "package:skimage/data/", "package:skimage/data/c*.png"])
def test_a_folder_or_pattern_inside_a_package(tmp_path: Path, spec: str) -> None:
    refs = {ref.key: ref for ref in Dataset((spec,), tmp_path)}
    assert refs["skimage/data/coffee.png"].uri == "package:skimage/data/coffee.png"
    assert all(ref.path.is_file() for ref in refs.values())


def test_entries_of_every_kind_are_listed_in_their_order(tmp_path: Path) -> None:
    fill(tmp_path, "one/b.jpg", "two/a.png", "c.gif")
    write(tmp_path / "list.txt", "package:skimage/data/coins.png")
    assert keys(tmp_path, "two/*.png", "c.gif", "list.txt", "one") == [
        "a.png", "c.gif", "skimage/data/coins.png", "b.jpg",
    ]  # fmt: skip


def test_one_key_in_two_folders_is_refused_naming_both(tmp_path: Path) -> None:
    fill(tmp_path, "one/x/a.jpg", "two/x/a.jpg", "two/b.jpg")
    text = refused(tmp_path, "one", "two")
    assert "two images have the key 'x/a.jpg'" in text
    assert "entry 1 of the dataset (one)" in text and "entry 2 of the dataset (two)" in text


def test_the_same_entry_twice_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a.jpg")
    assert "entry 1 of the dataset (a.jpg) and entry 2" in refused(tmp_path, "a.jpg", "a.jpg")


def test_equal_hashes_of_different_keys_are_no_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskmill.dataset.dataset.hash", lambda key: 1, raising=False)
    fill(tmp_path, "one/a.jpg", "two/b.jpg", "two/c.jpg")
    assert keys(tmp_path, "one", "two") == ["a.jpg", "b.jpg", "c.jpg"]
    fill(tmp_path, "two/a.jpg")
    assert "'a.jpg'" in refused(tmp_path, "one", "two")


# --- lists


def images(base: Path, *spec: str) -> dict[str, str]:
    return {ref.key: ref.uri for ref in Dataset(spec, base)}


def test_a_text_list_has_comments_blank_lines_and_crlf(tmp_path: Path) -> None:
    write(
        tmp_path / "l.txt", "\ufeff# mine\r", "", "  a.jpg  \r", "sub/照片 1.jpg", "#b.jpg", "./c.jpg", "sub/../d.jpg"
    )
    assert images(tmp_path, "l.txt") == {
        key: str(tmp_path / key) for key in ["a.jpg", "sub/照片 1.jpg", "c.jpg", "d.jpg"]
    }


def test_rows_are_relative_to_the_lists_folder_not_to_the_pipelines(tmp_path: Path) -> None:
    write(tmp_path / "data/l.txt", "a.jpg", "../data/b.jpg")
    assert images(tmp_path, "data/l.txt") == {key: str(tmp_path / "data" / key) for key in ("a.jpg", "b.jpg")}


def test_rows_below_the_list_and_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path.parent / "elsewhere" / "x.jpg"
    write(tmp_path / "l.txt", str(tmp_path / "sub" / "a.jpg"), str(elsewhere), "package:skimage/data/coffee.png")
    below, outside, package = Dataset(("l.txt",), tmp_path)
    assert below.key == "sub/a.jpg"
    assert outside == ImageRef(str(elsewhere), elsewhere.as_posix().split(":")[-1].lstrip("/"))
    assert package == ImageRef("package:skimage/data/coffee.png", "skimage/data/coffee.png")


def test_a_row_above_the_list_needs_a_key(tmp_path: Path) -> None:
    write(tmp_path / "d/l.txt", "a.jpg", "../up.jpg")
    assert "l.txt:2: ../up.jpg is outside the list's folder: give it a `key`" in refused(tmp_path, "d/l.txt")
    write(tmp_path / "d/l.csv", "key,image", "up.jpg,../up.jpg")
    assert images(tmp_path, "d/l.csv") == {"up.jpg": str(tmp_path / "up.jpg")}


def test_a_csv_list(tmp_path: Path) -> None:
    write(tmp_path / "l.csv", "\ufeffId, Path ,key", '1,"a, b.jpg",', "2,c.jpg,cat/c.jpg", "", '3,"say ""x"".jpg",')
    assert list(images(tmp_path, "l.csv")) == ["a, b.jpg", "cat/c.jpg", 'say "x".jpg']


def test_a_jsonl_list_may_be_a_prompts_file(tmp_path: Path) -> None:
    rows = [{"image": "a.jpg", "prompts": []}, {"path": "b.jpg", "key": "照/b.jpg"}]
    write(tmp_path / "l.jsonl", *(json.dumps(row) for row in rows), "")
    assert images(tmp_path, "l.jsonl") == {"a.jpg": str(tmp_path / "a.jpg"), "照/b.jpg": str(tmp_path / "b.jpg")}


BROKEN = {
    "url": ("l.txt", ["ftp://x.org/a.jpg"], "l.txt:1: ftp://x.org/a.jpg: images are read from paths, s3://"),
    "file url": ("l.txt", ["file:///a.jpg"], "l.txt:1: .*read from paths"),
    "no column": ("l.csv", ["name,size", "a.jpg,1"], "l.csv:1: the first line has no column `image` or `path`"),
    "semicolons": ("l.csv", ["image;key", "a.jpg;b"], "separate the columns with commas"),
    "short row": ("l.csv", ["image,key", "a.jpg,", "b.jpg"], "l.csv:3: expected 2 columns, found 1"),
    "no image": ("l.csv", ["image,key", ",b"], "l.csv:2: no image"),
    "open quote": ("l.csv", ["image", '"a.jpg'], "l.csv:2: not CSV"),
    "not json": ("l.jsonl", ['{"image": "a.jpg"}', "{oops"], "l.jsonl:2: not a JSON object"),
    "no object": ("l.jsonl", ["[1]"], "l.jsonl:1: expected a JSON object"),
    "no field": ("l.jsonl", ['{"file": "a.jpg"}'], "l.jsonl:1: no image"),
    "number": ("l.jsonl", ['{"image": 3}'], "l.jsonl:1: no image"),
    "number key": ("l.jsonl", ['{"image": "a.jpg", "key": 3}'], "l.jsonl:1: `key` must be a text, not 3"),
    "key up": ("l.jsonl", ['{"image": "a.jpg", "key": "../a.jpg"}'], "l.jsonl:1: '../a.jpg' cannot be a key"),
    "key root": ("l.jsonl", ['{"image": "a.jpg", "key": "/a.jpg"}'], "l.jsonl:1: '/a.jpg' cannot be a key"),
    "key slashes": ("l.jsonl", ['{"image": "a.jpg", "key": "a//b"}'], "cannot be a key"),
    "surrogate": ("l.jsonl", [r'{"image": "a.jpg", "key": "\ud800.jpg"}'], "cannot be a key"),
    "null byte": ("l.jsonl", [r'{"image": "a\u0000.jpg"}'], "cannot be a key"),
    "package up": ("l.txt", ["package:skimage/../../x.jpg"], "l.txt:1: '../x.jpg' cannot be a key"),
    "twins": ("l.txt", ["a.jpg", "b.jpg", "./a.jpg"], r"two images have the key 'a.jpg': .*l.txt:1 and .*l.txt:3"),
}


@pytest.mark.parametrize("name, lines, message", BROKEN.values(), ids=BROKEN)
def test_a_broken_list_is_refused_at_its_line(tmp_path: Path, name: str, lines: list[str], message: str) -> None:
    write(tmp_path / name, *lines)
    with pytest.raises(DatasetError, match=message):
        list(Dataset((name,), tmp_path))
    with pytest.raises(DatasetError, match=message):
        raise DatasetError(*Dataset((name,), tmp_path).check())


@pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
@pytest.mark.parametrize("name", ["l.txt", "l.csv", "l.jsonl"])
def test_a_list_that_is_not_utf_8_says_so_with_its_line(tmp_path: Path, name: str, encoding: str) -> None:
    write(tmp_path / name, "image", "照片.jpg", encoding=encoding)
    line = 1 if encoding == "utf-16" else 2
    problems = Dataset((name,), tmp_path).check()
    assert any(f"{name}:{line}: this line is not UTF-8" in str(problem) for problem in problems)


def test_everything_before_a_broken_line_is_listed(tmp_path: Path) -> None:
    write(tmp_path / "l.jsonl", '{"image": "a.jpg"}', "{", '{"image": "b.jpg"}')
    listed: Iterator[ImageRef] = iter(Dataset(("l.jsonl",), tmp_path))
    assert next(listed).key == "a.jpg"
    with pytest.raises(DatasetError, match=r"l\.jsonl:2"):
        next(listed)


# --- check


def test_a_good_dataset_has_no_problem(tmp_path: Path) -> None:
    fill(tmp_path, "photos/sub/a.jpg", "one.png")
    write(tmp_path / "l.txt", "one.png", "gone.png")
    assert Dataset(("photos", "photos/**/*.jpg", "one.png", "l.txt", "package:skimage/data"), tmp_path).check() == []


@pytest.mark.parametrize(
    "spec, message",
    [
        ("photos", "photos' does not exist"),
        ("a.jpg", "a.jpg' does not exist"),
        ("gone/*.jpg", "gone' (the folder of the pattern 'gone/*.jpg') does not exist"),
        ("empty", "there is no image in 'empty'"),
        ("empty/*.jpg", "there is no image in 'empty/*.jpg'"),
        ("e*", "`folder/**/*.jpg`"),
        ("data.zip", "data.zip' is neither a folder nor an image nor a list"),
        ("none.txt", "the list names no image"),
        ("wrong.txt", "none of the first 2 images exists, beginning with"),
        ("package:no_such_thing/a", "'no_such_thing' is not installed"),
        ("package:skimage/data/none.png", "does not exist"),
        ("package:skimage/../x", "no '..'"),
    ],
)
def test_what_cannot_work_is_found_without_a_run(tmp_path: Path, spec: str, message: str) -> None:
    fill(tmp_path, "empty/notes.md", "data.zip")
    write(tmp_path / "none.txt", "# nothing")
    write(tmp_path / "wrong.txt", "x/a.jpg", "package:no_such_thing/b.jpg")
    problems = Dataset((spec,), tmp_path).check()
    assert len(problems) == 1 and message in str(problems[0])


def test_all_entries_are_checked_at_once(tmp_path: Path) -> None:
    write(tmp_path / "l.jsonl", "{", "{")
    assert len(Dataset(("gone", "l.jsonl", "none.jpg"), tmp_path).check()) == 4
    assert "empty" in str(Dataset((), tmp_path).check()[0])


def test_many_mistakes_are_counted_not_all_told(tmp_path: Path) -> None:
    write(tmp_path / "l.jsonl", *itertools.repeat("{", 50))
    problems = Dataset(("l.jsonl",), tmp_path).check()
    assert len(problems) == 21 and "and 30 more" in str(problems[-1])


def test_a_dataset_of_real_pictures_can_be_read(tmp_path: Path) -> None:
    write_picture(tmp_path / "photos/深/a b.png")
    (ref,) = Dataset(("photos",), tmp_path)
    assert ref.key == "深/a b.png" and ref.read()[:4] == b"\x89PNG"


# --- one listing for several readers


def test_readers_of_a_shared_listing_each_see_all_images(tmp_path):
    names = sorted(f"{number:04}.png" for number in range(600))
    fill(tmp_path / "d", *names)
    drawn = []

    class Counted(Dataset):
        def __iter__(self):
            for ref in super().__iter__():
                drawn.append(ref.key)
                yield ref

    with SharedListing(Counted(("d",), tmp_path)) as listed:
        first = iter(listed)
        assert [next(first).key for _ in range(300)] == names[:300]
        assert len(drawn) < 600, "no more than needed is listed"
        assert [ref.key for ref in listed] == names
        assert [ref.key for ref in first] == names[300:]
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda _: [ref.key for ref in listed], range(4))
        assert all(keys == names for keys in found)
    assert drawn == names


def test_an_error_of_the_listing_reaches_every_reader(tmp_path):
    fill(tmp_path / "d", "a.png")
    (tmp_path / "list.txt").write_text("d/a.png\nd/a.png\n", encoding="utf-8")
    with SharedListing(Dataset(("list.txt",), tmp_path)) as listed:
        for _ in range(2):
            with pytest.raises(DatasetError):
                list(listed)
