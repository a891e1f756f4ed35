"""Undamaged image files of every kind: those that open, and those that are refused for what they are."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import PIL.Image
from PIL import features

File = tuple[str, bytes]
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
#: Colour type of PNG: its bit depths, its channels.
DEPTHS = {0: ((1, 2, 4, 8, 16), 1), 2: ((8, 16), 3), 3: ((1, 2, 4, 8), 1), 4: ((8, 16), 2), 6: ((8, 16), 4)}
PLAIN = ("PPM", "TGA", "PCX", "DDS", "SGI", "ICO", "MSP", "XBM", "EPS", "SPIDER", "QOI", "DIB")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA")


def picture(mode: str = "RGB", width: int = 40, height: int = 24) -> PIL.Image.Image:
    """A gradient with noise."""
    noise = np.random.default_rng(5).integers(0, 40, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    colours = np.stack([x * 215 // width, y * 215 // height, (x + y) % 215], axis=2) + noise
    made = PIL.Image.fromarray(colours.astype(np.uint8))
    if mode in ("LA", "RGBA", "PA"):
        made.putalpha(made.convert("L"))
    return made.convert(mode)


def encoded(made: PIL.Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    made.save(buffer, kind, **options)
    return buffer.getvalue()


def good_kinds() -> Iterator[File]:
    """(name, content) of files that must open."""
    yield from _pngs()
    yield from _jpegs()
    yield from _tiffs()
    yield from _bitmaps()
    yield from _animations()
    for number, size in enumerate([(1, 1), (1, 65_535), (65_500, 1), (3, 9000)]):
        thin = PIL.Image.new("RGB", size, "green")
        yield f"thin{number}.png", encoded(thin, "PNG")
        yield f"thin{number}.jpg", encoded(thin.resize((min(size[0], 65_500), min(size[1], 65_500))), "JPEG")
        yield f"thin{number}.tif", encoded(thin, "TIFF", compression="tiff_lzw")


def _pngs() -> Iterator[File]:
    for mode in MODES:
        yield f"{mode}.png", encoded(picture(mode), "PNG")
        yield f"{mode} optimized.PNG", encoded(picture(mode), "PNG", optimize=True)
    for colour, (depths, channels) in DEPTHS.items():
        for depth in depths:
            values = np.random.default_rng(depth).integers(0, 1 << depth, (13, 21, channels))
            palette = [(b"PLTE", bytes(range(3)) * (1 << depth))] if colour == 3 else []
            for interlaced in (False, True):
                name = f"colour {colour} depth {depth}{' interlaced' * interlaced}.png"
                yield name, _png(values, depth, colour, interlaced, palette)
    yield "clear gray.png", png_file(2, 1, 8, 0, b"\0\1\2", (b"tRNS", b"\0\1"))
    yield "clear colour.png", png_file(1, 1, 8, 2, b"\0\1\2\3", (b"tRNS", bytes((0, 1, 0, 2, 0, 3))))
    yield "clear index.png", encoded(picture("P"), "PNG", transparency=3)
    yield "clear indices.png", encoded(picture("P"), "PNG", transparency=bytes(range(256)))
    yield "resolution.png", encoded(picture(), "PNG", dpi=(0.001, 1e6))


def _jpegs() -> Iterator[File]:
    for mode in ("L", "RGB", "CMYK", "YCbCr"):
        for progressive in (False, True):
            yield f"{mode}{' progressive' * progressive}.jpg", encoded(picture(mode), "JPEG", progressive=progressive)
    for sampling in ("4:4:4", "4:2:2", "4:2:0"):
        yield f"{sampling.replace(':', '')}.JPEG", encoded(picture(), "JPEG", subsampling=sampling, quality=3)
    for orientation in range(1, 9):
        exif = PIL.Image.Exif()
        exif[274] = orientation
        for kind, suffix in (("JPEG", "jpg"), ("PNG", "png"), ("TIFF", "tiff"), ("WEBP", "webp")):
            yield f"orientation {orientation}.{suffix}", encoded(picture(), kind, exif=exif)
    yield "two pictures.jpg", encoded(picture(), "MPO", save_all=True, append_images=[picture("L").convert("RGB")])
    yield "restarts.jpg", encoded(picture(), "JPEG", restart_marker_blocks=1)
    yield "comment.jpg", encoded(picture(), "JPEG", comment="图片" * 5000)
    yield "profile.jpg", encoded(picture(), "JPEG", icc_profile=bytes(300_000))


def _tiffs() -> Iterator[File]:
    for compression in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd", "lzma"):
        for mode in (*MODES, "CMYK", "I;16"):
            made = picture(mode) if mode != "I;16" else PIL.Image.fromarray(np.asarray(picture("L")) * np.uint16(257))
            try:
                yield f"{mode.replace(';', '')} {compression}.tif", encoded(made, "TIFF", compression=compression)
            except (OSError, KeyError, RuntimeError):  # this build of libtiff has not got it
                continue
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield f"{compression}.tif", encoded(picture("1"), "TIFF", compression=compression)
    yield "jpeg inside.tif", encoded(picture(), "TIFF", compression="jpeg")
    yield "strips.tif", encoded(picture(), "TIFF", compression="tiff_lzw", tiffinfo={278: 2})
    yield "big.tif", encoded(picture(), "TIFF", big_tiff=True)
    yield "big endian 16.tif", encoded(PIL.Image.frombytes("I;16B", (4, 4), bytes(range(32))), "TIFF")
    yield "tiles.tif", _tiled_tiff()


def _bitmaps() -> Iterator[File]:
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield f"{mode}.bmp", encoded(picture(mode), "BMP")
    data = encoded(picture(), "BMP")
    flipped = struct.pack("<i", -struct.unpack_from("<i", data, 22)[0])
    yield "top down.bmp", data[:22] + flipped + data[26:]


def _animations() -> Iterator[File]:
    frames = [picture().rotate(90 * turn) for turn in range(3)]
    for kind, suffix in (("GIF", "gif"), ("WEBP", "webp"), ("PNG", "png")):
        yield f"moving.{suffix}", encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=1)
    yield "interlaced.gif", encoded(picture("P"), "GIF", interlace=1)
    yield "clear.gif", encoded(picture("P"), "GIF", transparency=7)
    for mode in ("RGB", "RGBA", "L"):
        for lossless in (False, True):
            yield f"{mode}{' lossless' * lossless}.webp", encoded(picture(mode), "WEBP", lossless=lossless)
    if features.check("avif"):
        for mode in ("RGB", "RGBA", "L"):
            yield f"{mode}.avif", encoded(picture(mode), "AVIF")
        yield "avif.jpg", encoded(frames[0], "AVIF")
    yield "described.webp", encoded(picture(), "WEBP", exif=b"no exif", xmp=b"<x", icc_profile=b"no profile")


def refused_kinds() -> Iterator[File]:
    """(name, content) of files that must fail: without a fixed range of values, or of another format."""
    yield "pages.tif", encoded(picture(), "TIFF", save_all=True, append_images=[picture("L"), picture("1")])
    yield "float.tif", encoded(PIL.Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    yield "32 bit.tif", encoded(PIL.Image.fromarray(np.ones((4, 4), np.int32)), "TIFF")
    PIL.Image.init()
    there = ["JPEG2000"] if features.check("jpg_2000") else []
    for kind in (*PLAIN, *there):
        if kind in PIL.Image.SAVE:
            mode = {"MSP": "1", "XBM": "1", "SPIDER": "F"}.get(kind, "RGB")
            yield f"{kind}.jpg", encoded(picture(mode), kind)
    yield "P5.png", encoded(picture("L"), "PPM")
    yield "P4.png", encoded(picture("1"), "PPM")
    yield "P3.png", b"P3 1 1 255 1 2 3\n"
    yield "P1.png", b"P1 2 2 0 1 1 0\n"


# --- written by hand, because no library here writes them


def _png(values: np.ndarray, depth: int, colour: int, interlaced: bool, chunks: list[tuple[bytes, bytes]]) -> bytes:
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    raw = b""
    for top, left, down, right in passes:
        part = values[top::down, left::right]
        if part.size:
            raw += b"".join(b"\0" + _packed(row.reshape(-1), depth) for row in part)
    height, width = values.shape[:2]
    return png_file(width, height, depth, colour, raw, *chunks, interlaced=interlaced)


def _packed(row: np.ndarray, depth: int) -> bytes:
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
    return np.packbits(bits.reshape(-1)).tobytes()


def png_file(
    width: int, height: int, depth: int, colour: int, raw: bytes, *chunks: tuple[bytes, bytes], interlaced: bool = False
) -> bytes:
    """A PNG of these numbers, whatever they are; `raw` is its rows before compression."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    data = zlib.compress(raw, 9)
    body = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in body
    )


def png_chunks(data: bytes) -> list[bytes]:
    """Its chunks, whole."""
    parts, place = [], 8
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        parts.append(data[place : place + length + 12])
        place += length + 12
    return parts


def _tiled_tiff() -> bytes:
    """Four tiles of 16 × 16, of which 20 × 20 pixels belong to the picture."""
    tags = [
        (256, 4, 1, 20), (257, 4, 1, 20), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1),
        (322, 4, 1, 16), (323, 4, 1, 16), (324, 4, 4, 0), (325, 4, 4, 0),
    ]  # fmt: skip
    after = 8 + 2 + 12 * len(tags) + 4
    tags[8], tags[9] = (324, 4, 4, after), (325, 4, 4, after + 16)
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    places = struct.pack("<8I", *(after + 32 + 256 * tile for tile in range(4)), *[256] * 4)
    return struct.pack("<2sHI", b"II", 42, 8) + directory + places + bytes(range(256)) * 4
