"""HEIC and AVIF are read; what looks like an image and cannot be read is counted and named."""

import importlib
import io
import json

import numpy as np
import PIL.Image
import pytest

from maskmill import ImageReadError, Pipeline
from maskmill.cli import main
from maskmill.dataset.dataset import Dataset
from maskmill.decoding import formats as image_formats
from maskmill.decoding.decoder import decode, read_size
from maskmill.decoding.formats import SUFFIXES, UNSUPPORTED, describe_left_out, open_heif

heif = pytest.importorskip("pillow_heif.as_plugin")

COLORS = {
    "top left": (255, 0, 0),
    "top right": (0, 255, 0),
    "bottom left": (0, 0, 255),
    "bottom right": (255, 255, 255),
}
KINDS = ["HEIF", "AVIF"]


def corners():
    """64 × 96, each quarter in a colour of its own."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48], pixels[:32, 48:], pixels[32:, :48], pixels[32:, 48:] = COLORS.values()
    return PIL.Image.fromarray(pixels)


def encoded(picture, kind, orientation=None, as_object=False, **options):
    """The bytes of a file; for HEIF without registering the plugin in Pillow."""
    if orientation is not None:
        exif = PIL.Image.Exif()
        exif[274] = orientation
        options["exif"] = exif if as_object else exif.tobytes()
    buffer = io.BytesIO()
    if kind == "HEIF":
        picture.encoderinfo = {"quality": 95, **options}
        heif._save_heif(picture, buffer, "")
    else:
        quality = {} if kind in ("PNG", "TIFF") else {"quality": 95}
        picture.save(buffer, kind, **quality, **options)
    return buffer.getvalue()


def upright(orientation):
    """The corners as EXIF says that they are to be seen, with Pillow's own rotation of a lossless file."""
    exif = PIL.Image.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    corners().save(buffer, "PNG", exif=exif)
    return decode(buffer.getvalue())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_object", [False, True], ids=["rotation of its own", "exif alone"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(kind, orientation, as_object):
    found = decode(encoded(corners(), kind, orientation, as_object))
    wanted = upright(orientation)
    assert found.shape == wanted.shape
    inner = (slice(4, 28), slice(4, 28))
    assert np.abs(found[inner].astype(int) - wanted[inner]).max() < 30
    assert np.abs(found[-28:-4, -28:-4].astype(int) - wanted[-28:-4, -28:-4]).max() < 30


@pytest.mark.parametrize("kind", [*KINDS, "JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("as_object", [False, True], ids=["rotation of its own", "exif alone"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_the_size_is_read_from_the_header(kind, as_object, orientation):
    data = encoded(corners(), kind, orientation, as_object)
    assert read_size(data) == decode(data).shape[:2]


def test_a_size_that_cannot_be_read():
    with pytest.raises(ImageReadError, match="empty"):
        read_size(b"")
    with pytest.raises(ImageReadError, match="not a JPEG"):
        read_size(b"x" * 100)


@pytest.mark.parametrize("kind", KINDS)
def test_transparent_pixels_are_blended_with_white(kind):
    picture = corners().convert("RGBA")
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[:, :48] = 0
    picture.putalpha(PIL.Image.fromarray(alpha))
    found = decode(encoded(picture, kind)).astype(int)
    assert np.abs(found[:, :40] - 255).max() < 20
    assert np.abs(found[4:28, 56:92] - (0, 255, 0)).max() < 30


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.5, 0.9], ids=["half", "the end is missing"])
def test_a_truncated_file_fails(kind, part):
    noise = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(ImageReadError, match="damaged"):
        decode(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_picture_is_refused_by_its_header(kind):
    with pytest.raises(ImageReadError, match="at most 0 million are decoded"):
        decode(encoded(corners(), kind), max_pixels=1000)


def test_reading_heic_leaves_pillow_as_it_was():
    before = dict(PIL.Image.registered_extensions())
    assert open_heif(encoded(corners(), "HEIF")) is not None
    assert PIL.Image.registered_extensions() == before
    assert open_heif(encoded(corners(), "AVIF")) is None


@pytest.fixture
def no_heif(monkeypatch):
    """As if pillow-heif were not installed."""
    caches = (image_formats.reads_heif, image_formats.readable_suffixes, image_formats.left_out_suffixes)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pillow_heif" else found(name))
    for each in caches:
        each.cache_clear()
    yield
    monkeypatch.undo()
    for each in caches:
        each.cache_clear()


def test_without_the_package_a_heic_file_says_what_to_install(no_heif):
    with pytest.raises(ImageReadError) as caught:
        decode(encoded(corners(), "HEIF"))
    assert str(caught.value) == 'a HEIC file, which needs one package more: pip install "maskmill[heic]"'


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\x0a" + b"x" * 50, "a JPEG XL file"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n" + b"x" * 50, "a JPEG XL file"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"x" * 50, "a JPEG 2000 file"),
        (b"8BPS\x00\x01" + b"x" * 50, "a Photoshop file"),
        (b"II*\x00\x10\x00\x00\x00CR\x02\x00" + b"x" * 50, "a camera raw file"),
        (b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01crx isom" + b"x" * 50, "a camera raw file"),
    ],
    ids=["jxl", "jxl container", "jp2", "psd", "cr2", "cr3"],
)
def test_other_kinds_are_named(data, name):
    with pytest.raises(ImageReadError, match=name):
        decode(data)


@pytest.mark.parametrize("tags", [{50706: b"\x01\x04\x00\x00"}, {254: 1, 330: 8}], ids=["dng", "preview of a raw file"])
def test_the_preview_in_a_raw_file_is_not_taken_for_the_picture(tags):
    info = PIL.TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info[tag] = value
        info.tagtype[tag] = 1 if tag == 50706 else 4
    buffer = io.BytesIO()
    corners().save(buffer, "TIFF", tiffinfo=info)
    with pytest.raises(ImageReadError, match="a camera raw file"):
        decode(buffer.getvalue())


@pytest.mark.parametrize(
    ("counts", "complete", "line"),
    [
        ({}, True, ""),
        ({".heic": 1}, True, '1 file left out: .heic; pip install "maskmill[heic]"'),
        (
            {".heic": 1, ".avif": 1},
            True,
            '2 files left out: .avif, .heic; pip install "maskmill[heic]"; pip install --upgrade pillow',
        ),
        ({".dng": 3, ".jxl": 1}, False, "4 files left out so far: .dng, .jxl; convert them to PNG, TIFF or JPEG files"),
        (
            {".hif": 2, ".nef": 3},
            True,
            '5 files left out: .nef, .hif; pip install "maskmill[heic]"; convert .nef to PNG, TIFF or JPEG files',
        ),
    ],
    ids=["none", "heic", "heic and avif", "raw", "both"],
)
def test_what_is_left_out_in_words(counts, complete, line):
    assert describe_left_out(counts, complete) == line


def test_no_ending_is_both():
    assert not SUFFIXES & UNSUPPORTED


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_a_folder_counts_them_once_and_a_pattern_only_its_own(tmp_path):
    fill(tmp_path, "a.DNG", "b/c.dng", "b/.hidden.dng", "b/d.jxl", "e.txt", "f.png", "b/g.heic")
    dataset = Dataset((str(tmp_path),), tmp_path)
    for _ in range(2):
        assert [ref.key for ref in dataset] == ["f.png", "b/g.heic"]
        assert dict(dataset.left_out) == {".dng": 2, ".jxl": 1}
    narrow = Dataset((str(tmp_path / "b" / "*.jxl"), str(tmp_path / "*.png")), tmp_path)
    assert [ref.key for ref in narrow] == ["f.png"]
    assert dict(narrow.left_out) == {".jxl": 1}


@pytest.mark.parametrize("command", ["run", "check", "run --dry-run"])
def test_they_are_named_before_the_run_and_in_the_summary(project, capsys, no_heif, command):
    project.photos("a.png", "b/c.png")
    fill(project.folder / "photos", "b/x.heic", "b/y.dng", "z.HEIC")
    line = '3 files left out: .heic, .dng; pip install "maskmill[heic]"; convert .dng to PNG, TIFF or JPEG files'
    name, *options = command.split()
    with pytest.raises(SystemExit) as ended:
        main([name, str(project.file), *options])
    assert not ended.value.code
    shown = capsys.readouterr()
    if command != "run":
        assert line in shown.err + shown.out
        return
    assert shown.err.index(line) < shown.err.index("p: ")
    assert line in shown.out
    about = json.loads((project.output / "run.json").read_text(encoding="utf-8"))
    assert about["left_out"] == {".heic": 2, ".dng": 1}


def test_a_folder_of_nothing_else_says_what_to_do(project, no_heif):
    fill(project.folder / "photos", "a.heic", "b.heic")
    (problem,) = [p for p in Pipeline.load(project.file).check() if not p.warning]
    assert problem.hint == '2 files left out: .heic; pip install "maskmill[heic]"'


def test_a_run_reads_heic_and_avif(project):
    for name, kind in (("a.heic", "HEIF"), ("b.avif", "AVIF"), ("c.HIF", "HEIF")):
        (project.folder / "photos").mkdir(exist_ok=True)
        (project.folder / "photos" / name).write_bytes(encoded(corners(), kind))
    report = Pipeline.load(project.file).run(quiet=True)
    assert (report.exit_code, report.left_out) == (0, {})
    assert project.statuses() == {"a.heic": "done", "b.avif": "done", "c.HIF": "done"}
