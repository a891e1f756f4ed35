"""Pictures for the review page: previews of the run's images, and crops of single objects."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import threading

import numpy as np
import numpy.typing as npt
import PIL.Image
from starlette.concurrency import run_in_threadpool

from maskmill import Image, ImageReadError, ImageRef, ImageResult, Mask
from maskmill.colors import nth
from maskmill.decoding.decoder import convert_picture
from maskmill.stored.originals import OriginalImages, load_unchanged
from maskmill_plugins._shared.drawing.canvas import Canvas
from maskmill_plugins._shared.drawing.pixels import encode_jpeg

from ..annotate.session import PREVIEW_BYTES, Region, make_preview, shrink
from ..server.compute.byte_cache import ByteCache
from ..server.errors import ApiError

#: Pixels of a crop's sides on the page.
CROP = 192
#: Around an object, as a part of its longer side; never less than this many pixels.
MARGIN, LEAST_MARGIN = 0.25, 8
#: Images that are decoded at once; thumbnails one after the other beside them.
AT_ONCE = 2
#: Pixels of the longer side up to which a picture is a thumbnail; bytes of thumbnails kept in memory.
THUMBNAIL, THUMBNAIL_BYTES = 128, 24_000_000
#: The first bytes of a JPEG file.
JPEG = b"\xff\xd8\xff"


class Pictures:
    """Reads the images of a run and keeps what it sent.

    Args:
        originals: finds them.
    """

    def __init__(self, originals: OriginalImages) -> None:
        self._originals = originals
        self._finding = threading.Lock()  # its list of images is made at the first use
        self._made: ByteCache[tuple[str, ...], tuple[bytes, str]] = ByteCache(PREVIEW_BYTES, lambda made: len(made[0]))
        self._small: ByteCache[tuple[str, ...], tuple[bytes, str]] = ByteCache(
            THUMBNAIL_BYTES, lambda made: len(made[0])
        )
        self._last: Image | None = None
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._small_gate = asyncio.Semaphore(1)

    async def preview(self, result: ImageResult, most: int, region: Region | None = None) -> tuple[bytes, str]:
        """The upright image or a region of it, its longer side at most `most` pixels, and its media type.

        Raises:
            ApiError: the image cannot be read, or is not that of the result any more.
        """
        if region is not None:
            x, y, width, height = region
            image = await self._decode(result)
            return await run_in_threadpool(make_preview, image.pixels[y : y + height, x : x + width], most)
        name, is_small = (result.sha256, str(most)), most <= THUMBNAIL
        cache, gate = (self._small, self._small_gate) if is_small else (self._made, self._gate)
        if (kept := cache.get(name)) is None:
            make = self._make_thumbnail if is_small else self._make_preview
            async with gate:
                kept = await run_in_threadpool(make, result, most)
            cache.put(name, kept)
        return kept

    async def read(self, result: ImageResult) -> tuple[bytes, Image]:
        """The image's file, and its pixels as the run saw them.

        Raises:
            ApiError: as `preview`.
        """
        image = await self._decode(result)
        return await run_in_threadpool(image.ref.read), image

    async def _decode(self, result: ImageResult) -> Image:
        """The image; the one that was decoded last is kept, since its parts are looked at one after the other."""
        async with self._gate:
            if self._last is None or self._last.sha256 != result.sha256:
                self._last = await run_in_threadpool(self._load, result)
            return self._last

    async def crop(self, result: ImageResult, mask: Mask) -> tuple[bytes, str]:
        """A square around a mask of the result, with its outline, and the media type.

        Raises:
            ApiError: as `preview`.
        """
        name = (result.sha256, "crop", mask.counts)
        if (kept := self._made.get(name)) is None:
            async with self._gate:
                kept = await run_in_threadpool(lambda: draw_crop(self._load(result), mask)), "image/jpeg"
            self._made.put(name, kept)
        return kept

    def _make_preview(self, result: ImageResult, most: int) -> tuple[bytes, str]:
        return make_preview(self._load(result).pixels, most)

    def _make_thumbnail(self, result: ImageResult, most: int) -> tuple[bytes, str]:
        """Like a preview; a JPEG file is decoded at a fraction of its size, which takes a fraction of the time."""
        ref = self._find(result)
        with contextlib.suppress(OSError, ImageReadError):
            if ref is not None and (data := ref.read()).startswith(JPEG):
                picture = PIL.Image.open(io.BytesIO(data), formats=["JPEG"])
                picture.draft("RGB", (most, most))
                if hashlib.sha256(data).hexdigest() == result.sha256:
                    return _encode_thumbnail(convert_picture(picture), most)
        return _encode_thumbnail(self._load(result).pixels, most)

    def _find(self, result: ImageResult) -> ImageRef | None:
        with self._finding:
            return self._originals.find(result.key)

    def _load(self, result: ImageResult) -> Image:
        try:
            return load_unchanged(result, self._find(result), self._originals.max_pixels)
        except (ImageReadError, OSError) as error:
            raise ApiError("unreadable-image", f"{result.key}: {error}") from None


def _encode_thumbnail(pixels: npt.NDArray[np.uint8], most: int) -> tuple[bytes, str]:
    height, width = shrink(pixels.shape[:2], most)
    picture = PIL.Image.fromarray(pixels).resize((width, height), PIL.Image.Resampling.BICUBIC, reducing_gap=2.0)
    return encode_jpeg(picture, 80), "image/jpeg"


def draw_crop(image: Image, mask: Mask) -> bytes:
    """The bytes of a JPEG file: a mask in its surroundings, square, its outline drawn."""
    x1, y1, x2, y2 = mask.box.xyxy if mask.box else (0.0, 0.0, float(image.width), float(image.height))
    half = max(x2 - x1, y2 - y1) / 2
    half += max(LEAST_MARGIN, MARGIN * 2 * half)
    left, right = _clip((x1 + x2) / 2, half, image.width)
    top, bottom = _clip((y1 + y2) / 2, half, image.height)
    canvas = Canvas(np.ascontiguousarray(image.pixels[top:bottom, left:right]), CROP, CROP)
    canvas.draw_mask(Mask.from_array(mask.array[top:bottom, left:right]), nth(0), alpha=0.2)
    square = np.full((CROP, CROP, 3), 128, np.uint8)
    height, width = canvas.pixels.shape[:2]
    y, x = (CROP - height) // 2, (CROP - width) // 2
    square[y : y + height, x : x + width] = canvas.pixels
    return encode_jpeg(square, 85)


def _clip(middle: float, half: float, length: int) -> tuple[int, int]:
    """The part of an image's side around an object, moved inwards at its ends."""
    size = min(length, max(1, round(2 * half)))
    start = min(max(0, round(middle - half)), length - size)
    return start, start + size
