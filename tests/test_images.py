from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from maskmill import DatasetError, Image, ImageReadError, ImageRef
from maskmill.decoding import decoder
from maskmill.decoding.decoder import decode, find_orientation
from maskmill.decoding.formats import SUFFIXES
from maskmill.images import find_key, package_path


def encoded(picture: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def corners() -> PIL.Image.Image:
    """8 × 16, told apart in every corner: red, green / blue, white."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4, :8] = (255, 0, 0)
    pixels[:4, 8:] = (0, 255, 0)
    pixels[4:, :8] = (0, 0, 255)
    pixels[4:, 8:] = (255, 255, 255)
    return PIL.Image.fromarray(pixels)


UPRIGHT = np.asarray(corners())
#: orientation -> how a camera stores the upright picture (EXIF 2.3, tag 0x0112)
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_comes_upright(orientation: int, kind: str) -> None:
    exif = PIL.Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = PIL.Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    np.testing.assert_array_equal(decode(encoded(stored, kind, exif=exif, **options)), UPRIGHT)


@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_of_a_jpeg_comes_upright(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[274] = orientation
    stored = PIL.Image.fromarray(np.ascontiguousarray(STORED[orientation])).resize(
        STORED[orientation].shape[1::-1], PIL.Image.Resampling.NEAREST
    )
    got = decode(encoded(stored, "JPEG", exif=exif, quality=100, subsampling=0))
    assert np.abs(got.astype(int) - UPRIGHT).max() < 8


def test_orientation_is_applied_although_the_rest_of_the_exif_cannot_be_written_again() -> None:
    tags = [(0x0102, 2, 3, b"abc\0"), (0x0112, 3, 1, b"\6\0\0\0")]  # a text where a number belongs
    directory = b"".join(struct.pack("<HHI", *tag) + value for *tag, value in tags)
    exif = b"Exif\0\0" + struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + directory + bytes(4)
    data = encoded(PIL.Image.fromarray(np.ascontiguousarray(STORED[6])), "JPEG", exif=exif)
    assert decode(data).shape == UPRIGHT.shape


def test_broken_exif_leaves_the_pixels_alone() -> None:
    data = encoded(corners(), "PNG", exif=b"Exif\0\0not exif at all")
    np.testing.assert_array_equal(decode(data), UPRIGHT)


RAMP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_gray_is_divided_by_257_and_not_stretched(kind: str) -> None:
    half = RAMP // 2  # a picture that does not use its whole range stays dark
    got = decode(encoded(PIL.Image.fromarray(half), kind))
    np.testing.assert_array_equal(got, np.repeat(np.rint(half / 257)[:, :, None], 3, axis=2))


def test_16_bit_gray_from_8_bit_gray_comes_back_exactly() -> None:
    gray = np.arange(256, dtype=np.uint16).reshape(16, 16)
    np.testing.assert_array_equal(decode(encoded(PIL.Image.fromarray(gray * 257), "PNG"))[:, :, 0], gray)


def test_big_endian_16_bit_tiff_is_read_alike() -> None:
    little = encoded(PIL.Image.fromarray(RAMP), "TIFF")
    big = encoded(PIL.Image.frombytes("I;16B", (256, 256), RAMP.astype(">u2").tobytes()), "TIFF")
    assert little[:2] == b"II" and big[:2] == b"MM"
    np.testing.assert_array_equal(decode(little), decode(big))


def tiff(tags: dict[int, int], pixels: bytes) -> bytes:
    """The smallest little-endian TIFF with these tags, its pixels in one strip."""
    tags = {259: 1, 273: 8, 277: 1, **tags, 279: len(pixels)}
    directory = struct.pack("<H", len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items())
    )
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + directory + struct.pack("<I", 0)


def test_white_is_zero_in_16_bit_tiff_is_turned_round() -> None:
    values = np.array([[0, 65535, 257]], "<u2")
    data = tiff({256: 3, 257: 1, 258: 16, 262: 0, 278: 1}, values.tobytes())
    assert decode(data)[0, :, 0].tolist() == [255, 0, 254]


def test_12_bit_gray_uses_its_own_range() -> None:
    data = tiff({256: 2, 257: 1, 258: 12, 262: 1, 278: 1}, bytes([0xFF, 0xF8, 0x00]))
    assert decode(data)[0, :, 0].tolist() == [255, 128]


def test_16_bit_planes_that_pillow_garbles_are_refused() -> None:
    data = tiff({256: 1, 257: 1, 258: 16, 262: 1, 278: 1, 284: 2}, b"\0\0")
    with pytest.raises(ImageReadError, match="interleaved"):
        decode(data)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, depth: int, colour: int, raw: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in body)


def test_16_bit_colours_are_at_most_one_level_from_a_257th() -> None:
    row = RAMP.reshape(-1)[::17]
    colours = np.stack([row, row[::-1], np.full_like(row, 300)], axis=1)
    got = decode(png(len(row), 1, 16, 2, b"\0" + colours.astype(">u2").tobytes()))
    assert np.abs(got[0].astype(int) - colours / 257).max() <= 1


def test_a_transparent_gray_of_16_bits_becomes_white() -> None:
    raw = b"\0" + struct.pack(">3H", 0, 1000, 2000)
    assert decode(png(3, 1, 16, 0, raw, (b"tRNS", struct.pack(">H", 1000))))[0, :, 0].tolist() == [0, 255, 8]


def test_transparency_is_laid_on_white() -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 127]]], np.uint8)
    got = decode(encoded(PIL.Image.fromarray(pixels), "PNG"))
    assert got.tolist() == [[[10, 20, 30], [255, 255, 255], [128, 128, 128]]]


def test_an_opaque_alpha_changes_no_pixel() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    opaque = np.dstack([rgb, np.full((64, 64), 255, np.uint8)])
    np.testing.assert_array_equal(decode(encoded(PIL.Image.fromarray(opaque), "PNG")), rgb)


def test_gray_with_alpha() -> None:
    pixels = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert decode(encoded(PIL.Image.fromarray(pixels, "LA"), "PNG"))[0, :, 0].tolist() == [10, 255]


@pytest.mark.parametrize(
    "kind, transparency", [("PNG", 1), ("PNG", bytes([255, 0])), ("GIF", 1)], ids=["index", "alphas", "gif"]
)
def test_a_palette_with_transparency(kind: str, transparency: int | bytes) -> None:
    picture = PIL.Image.new("P", (2, 1))
    picture.putpalette([200, 0, 0, 0, 0, 200])
    picture.putdata([0, 1])
    got = decode(encoded(picture, kind, transparency=transparency))
    assert got.tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_a_transparent_colour_of_an_rgb_png() -> None:
    raw = b"\0" + bytes([1, 2, 3, 4, 5, 6])
    got = decode(png(2, 1, 8, 2, raw, (b"tRNS", struct.pack(">3H", 4, 5, 6))))
    assert got.tolist() == [[[1, 2, 3], [255, 255, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit(kind: str) -> None:
    picture = PIL.Image.fromarray(np.array([[True, False]]))
    assert decode(encoded(picture, kind)).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    got = decode(encoded(PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0)), kind))
    assert got.shape == (8, 8, 3)
    assert np.abs(got[0, 0].astype(int) - (255, 0, 0)).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_of_several_pictures_is_taken(kind: str) -> None:
    first, second = PIL.Image.new("RGB", (8, 8), "red"), PIL.Image.new("RGB", (8, 8), "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    got = decode(encoded(first, kind, save_all=True, append_images=[second], **options))
    assert (got == (255, 0, 0)).all()


def test_a_camera_jpeg_of_two_pictures_gives_the_first() -> None:
    first, second = PIL.Image.new("RGB", (16, 8), "red"), PIL.Image.new("RGB", (16, 8), "blue")
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert PIL.Image.open(io.BytesIO(data)).format == "MPO"
    assert np.abs(decode(data).astype(int) - (255, 0, 0)).max() < 4


@pytest.mark.parametrize(
    "picture",
    [
        PIL.Image.fromarray(np.ones((2, 2), np.float32)),
        PIL.Image.fromarray(np.ones((2, 2), np.int32)),
    ],
    ids=["float", "32 bit"],
)
def test_values_without_a_fixed_range_are_refused(picture: PIL.Image.Image) -> None:
    with pytest.raises(ImageReadError, match="convert the image to 8 or 16 bits"):
        decode(encoded(picture, "TIFF"))


NOISE = PIL.Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_a_truncated_file_fails(kind: str, part: float) -> None:
    data = encoded(NOISE, kind)
    with pytest.raises(ImageReadError):
        decode(data[: int(len(data) * part)])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_damaged_files_raise_nothing_but_image_read_error(kind: str) -> None:
    data = encoded(NOISE.resize((24, 24)), kind)
    random = np.random.default_rng(2)
    for _ in range(150):
        damaged = bytearray(data)
        for place in random.integers(0, min(len(data), 400), 4):
            damaged[place] = random.integers(0, 256)
        try:
            pixels = decode(bytes(damaged), max_pixels=1_000_000)
        except ImageReadError as error:
            assert str(error)
        else:
            assert pixels.ndim == 3 and pixels.shape[2] == 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_strips_join_without_a_seam(mode: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = NOISE.resize((31, 23))
    noise.putalpha(noise.convert("L"))
    made = PIL.Image.fromarray(RAMP[:23, :31]) if mode == "I;16" else noise.convert(mode)
    try:
        data = encoded(made, kind, transparency=3) if mode == "P" else encoded(made, kind)
    except (OSError, ValueError):
        pytest.skip(f"{kind} has no {mode}")
    whole = decode(data)
    monkeypatch.setattr(decoder, "STRIP", 31 * 5)
    np.testing.assert_array_equal(decode(data), whole)
    monkeypatch.setattr(decoder, "STRIP", 1)
    np.testing.assert_array_equal(decode(data), whole)


LONG = zlib.compress(bytes(3_000_000))


@pytest.mark.parametrize(
    "name, content",
    [(b"zTXt", b"a\0\0" + LONG), (b"iTXt", b"a\0\1\0\0\0" + LONG), (b"iCCP", b"a\0\0" + LONG)],
    ids=["text", "international text", "profile"],
)
def test_metadata_that_inflate_to_megabytes_leave_the_pixels_alone(name: bytes, content: bytes) -> None:
    bare = png(1, 1, 8, 2, b"\0\1\2\3")
    chunk = png_chunk(name, content)
    for place in (33, -12):  # behind the header, and before the end
        assert decode(bare[:place] + chunk + bare[place:]).tolist() == [[[1, 2, 3]]]


def progressive(scans: int) -> bytes:
    """A JPEG whose last scan comes so often that there are this many."""
    data = encoded(NOISE, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    more = scans - data.count(b"\xff\xda")
    return data[:-2] + data[last:-2] * more + data[-2:]


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    assert decode(progressive(decoder.MAX_SCANS)).shape == (64, 64, 3)
    with pytest.raises(ImageReadError, match="the JPEG file has 101 scans; at most 100 are decoded"):
        decode(progressive(decoder.MAX_SCANS + 1))


def test_what_only_looks_like_scans_of_a_jpeg_does_no_harm() -> None:
    data = encoded(NOISE, "JPEG", progressive=True, restart_marker_blocks=1)
    looks = b"\xff\xda" * 200
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(looks)) + looks
    for odd in (data[:2] + comment + data[2:], data + looks, data[:2] + b"\xff" * 9 + comment + data[2:]):
        np.testing.assert_array_equal(decode(odd), decode(data))


def test_a_damaged_png_with_texts_fails_for_its_pixels() -> None:
    data = png(8, 8, 8, 2, b"\0" * 10, (b"tEXt", b"a\0b"))
    with pytest.raises(ImageReadError, match="damaged or truncated PNG file: image file is truncated"):
        decode(data)


def test_libtiff_gives_its_reason_in_the_failure_and_not_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(NOISE, "TIFF", compression="tiff_lzw"))
    data[3000:6000] = bytes(3000)
    with pytest.raises(ImageReadError, match=r"damaged or truncated TIFF file: .*(LZW|code|Not enough)"):
        decode(bytes(data))
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_tiff_is_read_by_a_process_without_a_standard_error() -> None:
    code = "import os, sys; os.close(2); from maskmill.decoding.decoder import decode; decode(sys.stdin.buffer.read())"
    data = encoded(NOISE, "TIFF", compression="tiff_lzw")
    assert subprocess.run([sys.executable, "-c", code], input=data, check=False).returncode == 0


def test_pillows_remarks_on_damaged_files_do_not_reach_the_terminal() -> None:
    code = "import sys; from maskmill.decoding.decoder import decode; decode(sys.stdin.buffer.read())"
    data = tiff({256: 1, 257: 1, 258: 8, 262: 1, 277: 65535, 278: 1}, b"\0\0")
    ended = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert b"ImageReadError" in ended.stderr
    assert b"More samples per pixel" not in ended.stderr


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", r"empty \(0 bytes\)"),
        (b"this is a text\n", "not a JPEG, PNG, BMP, TIFF, WebP, GIF, AVIF or HEIC image"),
        (b"<html>404</html>", "not a JPEG"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a PNG file with a damaged"),
        (b"\xff\xd8\xff\xe0\0", "damaged or unsupported header|not a readable image"),
    ],
    ids=["empty", "text", "html", "png", "jpeg"],
)
def test_what_is_no_image_says_so(data: bytes, reason: str) -> None:
    with pytest.raises(ImageReadError, match=reason):
        decode(data)


def test_formats_beyond_the_six_are_refused() -> None:
    with pytest.raises(ImageReadError, match="not a JPEG"):
        decode(encoded(corners(), "PPM"))


def test_a_huge_header_is_refused_before_anything_is_decoded() -> None:
    bomb = png(60_000, 60_000, 8, 2, b"")
    with pytest.raises(ImageReadError, match=r"60000×60000 has 3600 million pixels; at most 250 million.*max_pixels"):
        decode(bomb)


def test_the_limit_is_exact_and_ours() -> None:
    data = encoded(corners(), "PNG")
    before = PIL.Image.MAX_IMAGE_PIXELS
    assert decode(data, max_pixels=128).shape == (8, 16, 3)
    with pytest.raises(ImageReadError, match="16×8"):
        decode(data, max_pixels=127)
    assert before == PIL.Image.MAX_IMAGE_PIXELS


def test_decoding_in_threads_keeps_the_warning_filters() -> None:
    data = [encoded(NOISE, kind) for kind in ("PNG", "TIFF", "JPEG")]
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda i=i: [decode(data[i % 3]) for _ in range(20)]) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def test_an_image_knows_its_file(tmp_path: Path) -> None:
    file = tmp_path / "照片 1.png"
    file.write_bytes(encoded(corners(), "PNG"))
    ref = ImageRef(str(file), "照片 1.png")
    image = Image.load(ref)
    assert (image.ref, image.size, image.width, image.height) == (ref, (8, 16), 16, 8)
    assert image.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert ref.stat() == (file.stat().st_size, file.stat().st_mtime_ns)


@pytest.mark.parametrize("kind, mode", [("PNG", "RGB"), ("PNG", "L"), ("PNG", "I;16"), ("JPEG", "CMYK")])
def test_pixels_are_read_only_and_contiguous(kind: str, mode: str) -> None:
    image = Image.from_bytes(encoded(PIL.Image.new(mode, (3, 2)), kind), ImageRef("a", "a"))
    assert image.pixels.dtype == np.uint8 and image.pixels.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0, 0] = 0


def test_an_array_of_the_callers_stays_writable() -> None:
    array = np.zeros((2, 3, 3), np.uint8)
    Image.from_array(array)
    array[0, 0] = 1


@pytest.mark.parametrize("array", [np.zeros((2, 3)), np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 3))])
def test_an_array_of_another_form_is_refused(array: Any) -> None:
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\)"):
        Image.from_array(array)


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"hello", "not a JPEG"),
        ("gone.jpg", None, "No such file"),
    ],
)
def test_a_file_that_fails_is_named_with_the_reason(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageReadError, match=reason) as caught:
        Image.load(ImageRef(str(tmp_path / name), name))
    assert name in str(caught.value)


def test_a_folder_or_a_null_byte_for_a_path_fails_that_image(tmp_path: Path) -> None:
    for uri in (str(tmp_path), f"{tmp_path}/a\0.jpg"):
        with pytest.raises(ImageReadError, match="cannot read"):
            ImageRef(uri, "a").read()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "endless.jpg"):
        with pytest.raises(ImageReadError, match=f"{name} is a pipe, socket or device, not a file"):
            ImageRef(str(tmp_path / name), name).read()


@pytest.mark.skipif(sys.platform != "linux", reason="needs sparse files")
def test_a_file_beyond_the_memory_fails_alone(tmp_path: Path) -> None:
    with (tmp_path / "vast.jpg").open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(ImageReadError, match="not enough memory to read its 8796093022208 bytes"):
        ImageRef(str(tmp_path / "vast.jpg"), "vast.jpg").read()


def test_a_package_uri_reads_the_file_inside() -> None:
    ref = ImageRef("package:skimage/data/coffee.png", "skimage/data/coffee.png")
    assert Image.load(ref).size == (400, 600)


@pytest.mark.parametrize(
    "uri, reason",
    [
        ("package:no_such_thing/a.png", "'no_such_thing' is not installed"),
        ("package:skimage/../a.png", "no '..'"),
        ("package:skimage/..\\a.png", "no '..'"),
        ("package:skimage//etc/passwd", "relative"),
        ("package:skimage/C:/a.png", "relative"),
        ("package:zlib/a.png", "not installed"),
        ("package:__main__/a.png", "not installed"),
        ("package:", "not installed"),
        ("package:a-b/c.png", "not installed"),
    ],
)
def test_a_package_uri_cannot_leave_its_package(uri: str, reason: str) -> None:
    with pytest.raises(ImageReadError, match=reason):
        package_path(uri)


def test_every_suffix_of_a_dataset_has_a_decoder() -> None:
    known = {**PIL.Image.registered_extensions(), ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF", ".avif": "AVIF"}
    kinds = {"JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "HEIF"}
    assert {known[suffix] for suffix in SUFFIXES} == kinds


COMPOSED, DECOMPOSED = "caf\u00e9.jpg", "cafe\u0301.jpg"
NAMES = {
    "same text": ("a.jpg", ["b.jpg", "a.jpg"], "a.jpg"),
    "none": ("a.jpg", ["b.jpg", "sub/a.jpg"], None),
    "composed": (COMPOSED, ["a.jpg", DECOMPOSED], DECOMPOSED),
    "decomposed": (DECOMPOSED, ["a.jpg", COMPOSED], COMPOSED),
    "same text before same letters": (DECOMPOSED, [COMPOSED, DECOMPOSED], DECOMPOSED),
    "brackets": ("a[1].jpg", ["a1.jpg", "a[1].jpg"], "a[1].jpg"),
    "other case": ("A.JPG", ["b.jpg", "a.jpg"], "a.jpg"),
    "same text before other case": ("A.jpg", ["a.jpg", "A.jpg"], "A.jpg"),
    "same letters before other case": (COMPOSED, ["CAFE\u0301.jpg", DECOMPOSED], DECOMPOSED),
}


@pytest.mark.parametrize(("name", "keys", "expected"), NAMES.values(), ids=NAMES)
def test_a_key_is_found_by_the_name_somebody_wrote(name, keys, expected):
    assert find_key(name, iter(keys), ignore_case=True) == expected


def test_case_counts_where_file_names_differ_by_it():
    assert find_key("A.JPG", ["a.jpg"], ignore_case=False) is None


def test_a_name_that_fits_two_keys_is_refused_with_both():
    with pytest.raises(DatasetError, match=r"'A.JPG' matches several images: 'a.jpg', 'A.jpg'"):
        find_key("A.JPG", ["a.jpg", "A.jpg"], ignore_case=True)
    mixed = ["\u1e69.jpg", "s\u0323\u0307.jpg"]  # one letter, composed and decomposed
    with pytest.raises(DatasetError, match=r"'\\u1e69.jpg', 's\\u0323\\u0307.jpg'"):
        find_key("s\u0307\u0323.jpg", mixed, ignore_case=False)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def leftovers(kind: str) -> bytes:
    """A picture whose XMP, or a text chunk of an editor, says that it lies on its side."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(UPRIGHT))
    if kind == "PNG text":
        exif = PIL.Image.Exif()
        exif[274] = 6
        body = exif.tobytes().hex()
        info = PIL.PngImagePlugin.PngInfo()
        info.add_text("Raw profile type exif", f"\nexif\n{len(body) // 2:8d}\n{body}\n")
        return encoded(picture, "PNG", pnginfo=info)
    if kind == "PNG":
        info = PIL.PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return encoded(picture, "PNG", pnginfo=info)
    return encoded(picture, kind, xmp=XMP, **({"lossless": True} if kind == "WEBP" else {"quality": 100}))


@pytest.mark.parametrize("kind", ["PNG", "PNG text", "WEBP", "JPEG"])
def test_only_exif_turns_a_picture(kind: str) -> None:
    data = leftovers(kind)
    assert PIL.Image.open(io.BytesIO(data)).getexif().get(274) == 6  # that is what Pillow would apply
    assert UPRIGHT.shape[0] != UPRIGHT.shape[1]
    assert decode(data).shape == UPRIGHT.shape
    assert find_orientation(data) == 1
