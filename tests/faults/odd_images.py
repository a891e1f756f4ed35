"""Odd image files, seeded: every format and kind that can be written here, bombs, and damaged ones.

Their folder says what must become of them: `good/` opens, `refused/` must fail, `odd/` may do either.

    python tests/faults/odd_images.py FOLDER 6000
"""

import io
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
from odd_kinds import good_kinds, png_chunks, png_file, refused_kinds

File = tuple[str, bytes]
HUGE = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def odd_images(count: int, seed: int = 0) -> Iterator[File]:
    """(name, content) of so many files: first all kinds and all bombs, then damaged ones."""
    kinds = [*good_kinds()]
    files = [*((f"good/{name}", data) for name, data in kinds), *bombs()]
    files += [(f"refused/{name}", data) for name, data in refused_kinds()]
    yield from files[:count]
    random = np.random.default_rng(seed)
    for number in range(count - len(files)):
        name, data = kinds[random.integers(len(kinds))]
        how = DAMAGES[number % len(DAMAGES)]
        other = kinds[random.integers(len(kinds))][1]
        yield f"odd/{number:05}~{how.__name__}~{name}", how(data, random, other)


def make(folder: Path, count: int, seed: int = 0) -> int:
    """Write them; how many there are."""
    made = 0
    for name, data in odd_images(count, seed):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        made += 1
    return made


# --- bombs and absurdities, one by one


def bombs() -> Iterator[File]:
    """Files that want too much memory or time, or that contradict themselves."""
    small = png_file(8, 8, 8, 2, (b"\0" + bytes(24)) * 8)
    zeros = zlib.compress(bytes(20_000_000), 9)
    bitmap = encoded(PIL.Image.new("RGB", (8, 8), "red"), "BMP")
    jpeg = encoded(PIL.Image.new("RGB", (64, 64), "red"), "JPEG")
    gif = encoded(PIL.Image.new("P", (8, 8)), "GIF")
    yield "refused/empty.jpg", b""
    yield "refused/one byte.png", b"\x89"
    yield "refused/text.jpg", b"no image at all\n"
    yield "refused/bom.jpg", b"\xef\xbb\xbfno image\n"
    yield "refused/page.jpg", b"<!DOCTYPE html><title>404</title>"
    yield "refused/document.jpg", b"%PDF-1.4\n%%EOF\n"
    yield "refused/vector.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    yield "refused/zeros.jpg", bytes(100_000)
    yield "refused/bom before a picture.png", b"\xef\xbb\xbf" + small
    yield "refused/50000 x 50000.png", png_file(50_000, 50_000, 1, 0, bytes(6251) * 2000)
    yield "refused/largest.png", png_file(0x7FFFFFFF, 0x7FFFFFFF, 8, 2, b"")
    yield "refused/no rows.png", png_file(8, 0, 8, 2, b"\0" * 8)
    yield "refused/huge.bmp", bitmap[:18] + struct.pack("<ii", 0x7FFFFFFF, 0x7FFFFFFF) + bitmap[26:]
    yield "refused/negative.bmp", bitmap[:18] + struct.pack("<ii", -8, 8) + bitmap[26:]
    yield "refused/huge.jpg", jpeg_of_size(jpeg, 65_500, 65_500)
    yield "refused/huge screen.gif", gif[:6] + struct.pack("<HH", 0xFFFF, 0xFFFF) + gif[10:]
    yield "refused/no frame.gif", gif[: gif.index(b",")] + b";"
    yield "refused/webp of nothing.webp", b"RIFF\x04\0\0\0WEBP"
    yield "refused/a page of pages.tif", tiff([(330, 4, 1, 8), (256, 4, 1, 8), (257, 4, 1, 8)], following=8)
    yield "refused/endless values.tif", tiff([(256, 4, 0xFFFFFFFF, 8), (257, 4, 1, 8)])
    yield (
        "refused/a million strips.tif",
        tiff([(256, 4, 1, 8), (257, 4, 1, 8), (262, 4, 1, 1), (273, 4, 1_000_000, 8), (279, 4, 1_000_000, 8)]),
    )
    yield "odd/15800 x 15800 cut.jpg", jpeg_of_size(jpeg, 15_800, 15_800)
    yield "good/inflates on.png", png_file(1, 1, 8, 0, bytes(30_000_000))
    yield "good/text bomb.png", png_file(8, 8, 8, 2, (b"\0" + bytes(24)) * 8, (b"zTXt", b"a\0\0" + zeros))
    yield "good/profile bomb.png", png_file(8, 8, 8, 2, (b"\0" + bytes(24)) * 8, (b"iCCP", b"a\0\0" + zeros))
    yield "good/international text bomb.png", with_chunk(small, b"iTXt", b"a\0\1\0\0\0" + zeros)
    yield "good/long text.png", with_chunk(small, b"tEXt", b"a\0" + b"b" * 3_000_000)
    yield "good/many texts.png", with_chunk(small, b"tEXt", b"a\0b", times=20_000)
    yield "good/junk behind.png", small + bytes(100_000)
    yield "good/junk behind.jpg", jpeg + b"\xff\xd8\xff" * 10_000
    yield "good/padded with fill bytes.jpg", jpeg[:2] + b"\xff" * 50_000 + jpeg[2:]
    yield "good/a thousand comments.jpg", jpeg[:2] + b"\xff\xfe\x00\x04ab" * 1000 + jpeg[2:]
    yield "good/a picture in a picture.jpg", jpeg[:2] + segment(0xE1, b"Exif\0\0" + jpeg) + jpeg[2:]
    for name, exif in absurd_exif():
        yield f"good/exif {name}.jpg", jpeg[:2] + segment(0xE1, b"Exif\0\0" + exif) + jpeg[2:]
        yield f"good/exif {name}.png", with_chunk(small, b"eXIf", exif)
    yield "refused/many scans.jpg", many_scans(2000, 3000)


def absurd_exif() -> Iterator[tuple[str, bytes]]:
    """Metadata that lie, loop, or end."""
    yield "empty", b""
    yield "no tiff", b"garbage"
    yield "loop", tiff([(0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8)], following=8)
    yield "count", tiff([(0x0112, 3, 0xFFFFFFFF, 6)])
    yield "offset", tiff([(0x010F, 2, 1000, 0xFFFFFF00)])
    yield "orientation 0", tiff([(0x0112, 3, 1, 0)])
    yield "orientation 9", tiff([(0x0112, 3, 1, 9)])
    yield "orientation text", tiff([(0x0112, 2, 4, 0x00363636)])
    yield "orientation float", tiff([(0x0112, 11, 1, 0x40C00000)])
    yield "orientation fraction", tiff([(0x0112, 5, 1, 8)])
    yield "orientation many", tiff([(0x0112, 3, 2, 0x00060006)])
    yield "unknown type", tiff([(0x0112, 99, 1, 6)])
    yield "tags without end", struct.pack("<2sHIH", b"II", 42, 8, 0xFFFF)


def tiff(tags: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    """A little-endian directory of (tag, type, count, value), followed by the one at an offset."""
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + body + struct.pack("<I", following)


def with_chunk(png: bytes, name: bytes, content: bytes, times: int = 1) -> bytes:
    """The PNG with a chunk put behind its header."""
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return png[:33] + chunk * times + png[33:]


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_of_size(jpeg: bytes, width: int, height: int) -> bytes:
    """The JPEG with another size in its header."""
    place = next(place for mark in (b"\xff\xc0", b"\xff\xc2") if (place := jpeg.find(mark)) > 0) + 5
    return jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]


def many_scans(side: int, scans: int) -> bytes:
    """A progressive JPEG that repeats its last scan, each of which costs a pass over all blocks."""
    data = encoded(PIL.Image.new("RGB", (side, side), "gray"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def encoded(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


# --- damages: (content, random, another file's content) -> content


def truncated(data: bytes, random: np.random.Generator, _: bytes) -> bytes:
    return data[: len(data) * int(random.integers(0, 10)) // 10]


def flipped(data: bytes, random: np.random.Generator, _: bytes) -> bytes:
    damaged = bytearray(data)
    for place in random.integers(0, len(data), 1 << int(random.integers(0, 7))):
        damaged[place] ^= 1 << int(random.integers(8))
    return bytes(damaged)


def flipped_in_the_header(data: bytes, random: np.random.Generator, _: bytes) -> bytes:
    damaged = bytearray(data)
    for place in random.integers(4, min(len(data), 120), 3):
        damaged[place] = int(random.integers(256))
    return bytes(damaged)


def sized(data: bytes, random: np.random.Generator, _: bytes) -> bytes:
    """Width or height, or both, replaced in the header, with a check sum that fits."""
    width, height = (int(value) for value in random.choice(HUGE, 2))
    if data.startswith(b"\x89PNG"):
        header = struct.pack(">II", width, height) + data[24:29]
        return data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]
    if data.startswith(b"BM"):
        return data[:18] + struct.pack("<II", width, height) + data[26:]
    if data.startswith(b"GIF"):
        return data[:6] + struct.pack("<HH", width & 0xFFFF, height & 0xFFFF) + data[10:]
    if data.startswith(b"\xff\xd8"):
        return jpeg_of_size(data, width & 0xFFFF, height & 0xFFFF)
    return with_number(data, random, width)


def with_number(data: bytes, random: np.random.Generator, number: int | None = None) -> bytes:
    """An extreme number in the first bytes, or the last (where TIFF keeps its directory)."""
    place = int(random.integers(4, min(len(data), 300)))
    if random.integers(2):
        place = max(len(data) - place, 4)
    number = int(random.choice(HUGE)) if number is None else number
    return data[:place] + struct.pack(str(random.choice(["<I", ">I"])), number) + data[place + 4 :]


def numbered(data: bytes, random: np.random.Generator, _: bytes) -> bytes:
    return with_number(data, random)


def shuffled(data: bytes, random: np.random.Generator, other: bytes) -> bytes:
    """Chunks of a PNG in another order, one missing and one twice; of others, blocks of bytes."""
    if data.startswith(b"\x89PNG"):
        parts = png_chunks(data)
        order = random.integers(0, len(parts), len(parts))
        return data[:8] + b"".join(parts[place] for place in [0, *order])
    blocks = [data[place : place + 64] for place in range(0, len(data), 64)]
    order = [0, *(1 + random.permutation(len(blocks) - 1))]
    return b"".join(blocks[place] for place in order)


def spliced(data: bytes, random: np.random.Generator, other: bytes) -> bytes:
    return data[: int(random.integers(len(data)))] + other[int(random.integers(len(other))) :]


def joined(data: bytes, _: np.random.Generator, other: bytes) -> bytes:
    return data + other


def disguised(_: bytes, random: np.random.Generator, other: bytes) -> bytes:
    """Another kind of image under this name."""
    return other


def wiped(data: bytes, random: np.random.Generator, _: bytes) -> bytes:
    first, last = sorted(int(place) for place in random.integers(4, len(data), 2))
    return data[:first] + bytes([int(random.choice([0, 0xFF]))]) * (last - first) + data[last:]


def widened(data: bytes, random: np.random.Generator, _: bytes) -> bytes:
    place = int(random.integers(len(data)))
    return data[:place] + random.bytes(int(random.integers(1, 2000))) + data[place:]


def as_text(data: bytes, *_: object) -> bytes:
    """What a transfer in text mode leaves."""
    return data.replace(b"\n", b"\r\n")


def as_utf_8(data: bytes, *_: object) -> bytes:
    """What an editor leaves that took it for Latin-1."""
    return data.decode("latin-1").encode("utf-8")


DAMAGES = (
    truncated, flipped, flipped_in_the_header, sized, numbered, shuffled, spliced,
    joined, disguised, wiped, widened, as_text, as_utf_8, truncated, flipped, sized,
)  # fmt: skip

if __name__ == "__main__":
    print(make(Path(sys.argv[1]), int(sys.argv[2])))
