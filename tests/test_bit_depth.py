"""Pictures of more than 8 bits: how they become 8 bits, that dark ones are doubted, pages and bands of TIFF files."""

import io
import json
import re
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from maskmill import Image, ImageReadError, ImageRef, Pipeline, Run, read_run
from maskmill.cli import main
from maskmill.decoding.bit_depth import DEFAULT, Conversion, measure_integers
from maskmill.decoding.decoder import decode, decode_with_range

RNG = np.random.default_rng(0)
#: 12-bit data in 16 bits, as microscopes and cameras write them: nearly black when divided by 257.
DARK = RNG.integers(300, 4001, (40, 60)).astype(np.uint16)
DARK[0, :2] = 300, 4000
MINMAX, PERCENTILE = Conversion("minmax"), Conversion("percentile")


def encoded(values, kind="TIFF", **options):
    buffer = io.BytesIO()
    PIL.Image.fromarray(values).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(bands, bits=16, kind=1, photometric=1, extra=None, order="<"):
    """An uncompressed TIFF file of any bands, which Pillow cannot write: (H, W, bands)."""
    height, width, count = bands.shape
    data = bands.astype(bands.dtype.newbyteorder(order)).tobytes()
    tags = {256: [width], 257: [height], 258: [bits] * count, 259: [1], 262: [photometric], 273: [8]}
    tags |= {277: [count], 278: [height], 279: [len(data)], 339: [kind] * count}
    if extra is not None:
        tags[338] = extra
    start = 8 + len(data)
    after = start + 2 + 12 * len(tags) + 4
    directory, rest = struct.pack(f"{order}H", len(tags)), b""
    for tag, values in sorted(tags.items()):
        raw = struct.pack(f"{order}{len(values)}{'I' if tag in (273, 279) else 'H'}", *values)
        code = 4 if tag in (273, 279) else 3
        if len(raw) > 4:
            raw, rest = struct.pack(f"{order}I", after + len(rest)), rest + raw
        directory += struct.pack(f"{order}HHI", tag, code, len(values)) + raw.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + data + directory + struct.pack(f"{order}I", 0) + rest


def stretched(values, black, white):
    part = (values.astype(float) - black) / (white - black)
    return np.floor(np.clip(part, 0, 1) * 255 + 0.5)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_minmax_uses_the_whole_range_of_gray(kind):
    pixels, found = decode_with_range(encoded(DARK, kind), conversion=MINMAX)
    np.testing.assert_array_equal(pixels[..., 0], stretched(DARK, 300, 4000))
    assert (found.type, found.lowest, found.highest, found.black, found.white) == ("uint16", 300, 4000, 300, 4000)
    assert not found.doubt


def test_full_is_what_it_was_and_says_that_the_picture_is_dark():
    pixels, found = decode_with_range(encoded(DARK))
    np.testing.assert_array_equal(pixels[..., 0], np.rint(DARK / 257))
    assert (found.lowest, found.highest, found.black, found.white) == (300, 4000, 0, 65535)
    assert found.used == pytest.approx(3700 / 65535, abs=0.002)
    assert "images: {high_bit_depth: minmax} stretches it" in found.doubt


def test_percentile_is_not_misled_by_hot_pixels():
    values = DARK.copy()
    values[5, 5] = 65535
    pixels, found = decode_with_range(encoded(values), conversion=MINMAX)
    assert "high_bit_depth: percentile" in found.doubt
    pixels, found = decode_with_range(encoded(values), conversion=PERCENTILE)
    low, high = np.percentile(values, [1, 99], method="inverted_cdf")
    assert (found.black, found.white, found.doubt) == (low, high, "")
    np.testing.assert_array_equal(pixels[..., 0], stretched(values, low, high))


COLOURS = np.stack([DARK, DARK // 2, DARK[::-1]], axis=2)
ALPHA = np.full((*DARK.shape, 1), 65535, np.uint16)
ALPHA[:, :30] = 0


def png_16(values):
    """A PNG of 16-bit colours, which Pillow cannot write."""
    height, width, bands = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[bands], 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    "data",
    [
        png_16(COLOURS),
        tiff(COLOURS, photometric=2),
        tiff(COLOURS, photometric=2, order=">"),
        tiff(np.concatenate([COLOURS, ALPHA], axis=2), photometric=2, extra=[0]),
    ],
    ids=["PNG", "TIFF", "big-endian TIFF", "TIFF with a fourth band"],
)
def test_colours_of_16_bits_are_stretched_without_losing_their_low_bytes(data):
    pixels, found = decode_with_range(data, conversion=MINMAX)
    lowest, highest = COLOURS.min(), COLOURS.max()
    np.testing.assert_array_equal(pixels, stretched(COLOURS, lowest, highest))
    assert (found.lowest, found.highest) == (lowest, highest)
    plain, found = decode_with_range(data)
    assert np.abs(plain.astype(int) - COLOURS // 256).max() == 0
    assert found.doubt


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_compressed_colours_of_16_bits(compression):
    """Compressed by libtiff through Pillow's own writer of raw data, here by way of gray rows."""
    gray = encoded(DARK, compression=compression)
    np.testing.assert_array_equal(decode_with_range(gray, conversion=MINMAX)[0][..., 0], stretched(DARK, 300, 4000))


def test_transparency_of_16_bits_is_blended_with_white():
    pixels = decode_with_range(png_16(np.concatenate([COLOURS, ALPHA], axis=2)), conversion=MINMAX)[0]
    assert (pixels[:, :30] == 255).all()
    np.testing.assert_array_equal(pixels[:, 30:], stretched(COLOURS, COLOURS.min(), COLOURS.max())[:, 30:])


FLOATS = np.linspace(-3.5, 12.25, 40 * 60).reshape(40, 60)


@pytest.mark.parametrize(
    ("data", "type_", "lowest", "highest"),
    [
        (encoded(FLOATS.astype(np.float32)), "float32", -3.5, 12.25),
        (encoded((FLOATS * 1e6).astype(np.int32)), "int32", -3500000, 12250000),
        (tiff(((FLOATS + 3.5) * 2.6e8).astype(np.uint32)[..., None], bits=32), "uint32", 0, 4095000000),
        (tiff((FLOATS * 1000).astype(np.int16)[..., None], kind=2), "int16", -3500, 12250),
    ],
    ids=["float", "signed", "unsigned", "signed 16"],
)
def test_values_without_a_fixed_range_take_it_from_the_picture(data, type_, lowest, highest):
    pixels, found = decode_with_range(data, conversion=MINMAX)
    assert found.type == type_
    assert (found.lowest, found.highest) == pytest.approx((lowest, highest), rel=1e-6)
    np.testing.assert_allclose(pixels[..., 0], np.linspace(0, 255, 2400).reshape(40, 60), atol=0.52)
    with pytest.raises(ImageReadError, match=re.escape("images: {high_bit_depth: minmax}")):
        decode(data)


def test_nan_and_infinity_do_not_count():
    values = FLOATS.astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    pixels, found = decode_with_range(encoded(values), conversion=MINMAX)
    assert (found.lowest, found.highest) == (values[0, 3], np.float32(12.25))
    assert pixels[0, :3, 0].tolist() == [0, 255, 0]
    with pytest.raises(ImageReadError, match="none of its values is a finite number"):
        decode_with_range(encoded(np.full((4, 4), np.nan, np.float32)), conversion=MINMAX)


@pytest.mark.parametrize("conversion", [DEFAULT, MINMAX, PERCENTILE], ids=["full", "minmax", "percentile"])
def test_8_bit_pictures_are_never_changed(conversion):
    values = RNG.integers(40, 60, (20, 30, 3)).astype(np.uint8)
    pixels, found = decode_with_range(encoded(values, "PNG"), conversion=conversion)
    np.testing.assert_array_equal(pixels, values)
    assert found is None


@pytest.mark.parametrize(
    ("top", "doubted"), [(4095, True), (16383, True), (30000, False), (65535, False)], ids=["12", "14", "15", "16 bits"]
)
def test_which_ranges_are_low(top, doubted):
    counts = np.bincount(np.linspace(0, top, 10_000).astype(int), minlength=65536)
    assert bool(measure_integers("uint16", 65535, counts, "full").doubt) is doubted


def rotated(values, orientation):
    exif = PIL.Image.Exif()
    exif[274] = orientation
    return encoded(values, exif=exif)


def test_rotation_is_applied_to_stretched_pictures():
    pixels = decode_with_range(rotated(DARK, 6), conversion=MINMAX)[0]
    np.testing.assert_array_equal(pixels[..., 0], np.rot90(stretched(DARK, 300, 4000), -1))


def pages(*pictures, **options):
    first, *others = [PIL.Image.fromarray(picture) for picture in pictures]
    buffer = io.BytesIO()
    first.save(buffer, "TIFF", save_all=True, append_images=others, **options)
    return buffer.getvalue()


RED, GREEN, BLUE = (np.full((8, 8, 3), color, np.uint8) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))


def test_of_several_pages_one_has_to_be_named():
    data = pages(RED, GREEN, BLUE)
    with pytest.raises(ImageReadError, match=re.escape("several pages; name the one to use, as images: {page: 1}")):
        decode(data)
    for number, color in enumerate((RED, GREEN, BLUE), 1):
        np.testing.assert_array_equal(decode_with_range(data, conversion=Conversion(page=number))[0], color)
    with pytest.raises(ImageReadError, match=re.escape("a TIFF file with 3 pages; there is no page 4")):
        decode_with_range(data, conversion=Conversion(page=4))


def test_a_preview_is_no_page():
    small = PIL.Image.fromarray(GREEN[:4, :4])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    buffer = io.BytesIO()
    PIL.Image.fromarray(RED).save(buffer, "TIFF", save_all=True, append_images=[small])
    np.testing.assert_array_equal(decode(buffer.getvalue()), RED)
    with pytest.raises(ImageReadError, match="a TIFF file with 1 page; there is no page 2"):
        decode_with_range(buffer.getvalue(), conversion=Conversion(page=2))


def test_a_page_says_nothing_of_other_formats():
    np.testing.assert_array_equal(decode_with_range(encoded(RED, "PNG"), conversion=Conversion(page=2))[0], RED)


def test_a_damaged_second_page_does_not_spoil_the_first():
    data = encoded(RED)
    place = int.from_bytes(data[4:8], "little")
    end = place + 2 + 12 * int.from_bytes(data[place : place + 2], "little")
    broken = data[:end] + (len(data) + 999).to_bytes(4, "little") + data[end + 4 :]
    np.testing.assert_array_equal(decode(broken), RED)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(RNG.integers(0, 9, (4, 4, 8)).astype(np.uint16)), "a TIFF file of 8 bands of 16-bit unsigned values"),
        (tiff(np.ones((4, 4, 3), np.float32), 32, 3, 2), "a TIFF file of 3 bands of 32-bit floating-point values"),
        (tiff(FLOATS[..., None], 64, 3), "a TIFF file of 1 band of 64-bit floating-point values"),
        (tiff(np.ones((4, 4, 5), np.uint8), 8), "a TIFF file of 5 bands of 8-bit unsigned values"),
    ],
    ids=["multispectral", "float colours", "double", "five bands"],
)
def test_many_bands_are_named(data, message):
    with pytest.raises(ImageReadError, match=message):
        decode(data)


@pytest.fixture
def dark(project):
    """A project with a dark 16-bit picture and an ordinary one."""
    project.photos("b.png")
    (project.folder / "photos" / "a.tif").write_bytes(encoded(DARK))
    return project


def run(project, **request):
    return Pipeline.load(project.file).run(quiet=True, **request)


def test_the_range_is_in_the_result_and_dark_pictures_are_doubted(dark, capsys):
    report = run(dark)
    assert (report.exit_code, report.doubts) == (0, {"low_range": 1})
    first, second = read_run(dark.output)
    assert (first.value_range.lowest, first.value_range.highest) == (300, 4000)
    assert [(doubt.code, doubt.stage) for doubt in first.doubts] == [("low_range", "read")]
    assert (second.value_range, second.doubts) == (None, ())
    with pytest.raises(SystemExit, match="0"):
        main(["explain", str(dark.output), "a.tif"])
    shown = capsys.readouterr().out
    assert "uint16 values from 300 to 4000; 0 to 65535 became black to white (full)" in shown
    assert "  doubtful (low_range, read): uint16 values from 300 to 4000" in shown


def test_another_conversion_makes_the_images_again_and_the_default_none(dark):
    run(dark)
    before = {row.key: row.fingerprint for row in Run(dark.output).rows()}
    dark.write(extra="images: {high_bit_depth: full, page: null}")
    assert run(dark).ran == 0
    dark.write(extra="images: {high_bit_depth: minmax}")
    report = run(dark)
    assert (report.ran, report.doubts) == (2, {})
    with Run(dark.output) as opened:
        assert all(row.fingerprint != before[row.key] for row in opened.rows())
        result = opened.result(opened.find("a.tif"))
    assert (result.value_range.black, result.value_range.white) == (300, 4000)
    assert result.provenance["images"] == {"high_bit_depth": "minmax"}


def test_an_export_reads_the_images_as_the_run_did(dark, tmp_path, capsys):
    (dark.folder / "photos" / "c.tif").write_bytes(pages(RED, GREEN))
    dark.write(extra="images: {high_bit_depth: minmax, page: 2}")
    text = dark.file.read_text(encoding="utf-8").replace("{use: areas}", "{use: overlay}")
    dark.file.write_text(text, encoding="utf-8")
    assert run(dark).counts["failed"] == 1  # a.tif has no second page
    (dark.folder / "photos" / "a.tif").write_bytes(pages(DARK, DARK // 2))
    assert run(dark).exit_code == 0
    with pytest.raises(SystemExit, match="0"):
        main(["export", str(dark.output), "--to", "overlay", "-o", str(tmp_path / "x")])
    made = sorted(path.relative_to(dark.output / "overlay") for path in (dark.output / "overlay").rglob("*.*"))
    assert len(made) == 3
    for path in made:
        assert (tmp_path / "x" / path).read_bytes() == (dark.output / "overlay" / path).read_bytes()


@pytest.mark.parametrize("engine", ["inline", "joblib"])
def test_fail_on_low_range(dark, engine):
    dark.write(run=f"{{engine: {engine}, jobs: 1, fail_on: [low_range]}}")
    assert run(dark).exit_code == 1
    assert dark.statuses() == {"a.tif": "failed", "b.png": "done"}
    assert dark.failures()["a.tif"]["message"].startswith("low_range: uint16 values from 300 to 4000")


def test_check_says_it_for_the_first_images(dark, capsys):
    (dark.folder / "photos" / "b.tif").write_bytes(pages(RED, GREEN))
    with pytest.raises(SystemExit) as ended:
        main(["check", str(dark.file)])
    assert not ended.value.code
    shown = capsys.readouterr()
    assert "warning: a.tif: uint16 values from 300 to 4000" in shown.err
    assert "b.tif: a TIFF file with several pages" in shown.err
    assert "images: {high_bit_depth: full, page: null}" in shown.out


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ("{high_bit_depth: minmx}", "high_bit_depth: expected"),
        ("{page: 0}", "page: expected"),
        ("{pages: 1}", "did you mean 'page'?"),
        ("minmax", "images: expected a mapping"),
    ],
    ids=["spelling", "from 1", "another key", "no mapping"],
)
def test_a_mistake_in_the_options_is_located(project, images, text):
    project.photos("a.png")
    project.write(extra=f"images: {images}")
    with pytest.raises(Exception, match=re.escape(text)) as caught:
        Pipeline.load(project.file)
    assert "p.yaml:9" in str(caught.value)


def test_a_stored_range_comes_back(dark):
    run(dark)
    stored = json.loads((dark.output / "results" / "a.tif.json").read_bytes())
    assert stored["value_range"]["type"] == "uint16"
    assert "value_range" not in json.loads((dark.output / "results" / "b.png.json").read_bytes())


@pytest.mark.parametrize(
    ("data", "conversion", "is_file"),
    [
        (encoded(DARK), DEFAULT, True),
        (encoded(DARK), MINMAX, False),
        (encoded(RED, "PNG"), MINMAX, True),
        (pages(RED, GREEN), Conversion(page=1), False),
    ],
    ids=["default", "stretched", "8 bits", "page"],
)
def test_caches_tell_converted_pixels_from_the_files_own(data, conversion, is_file):
    image = Image.from_bytes(data, ImageRef("a", "a"), conversion=conversion)
    assert (image.pixels_id == image.sha256) is is_file
    assert re.fullmatch("[0-9a-f]{64}", image.pixels_id)


def test_conversions_have_pixels_of_their_own():
    ids = {
        Image.from_bytes(pages(DARK, DARK), ImageRef("a", "a"), conversion=Conversion(how, page)).pixels_id
        for how in ("full", "minmax", "percentile")
        for page in (1, 2)
    }
    assert len(ids) == 6
