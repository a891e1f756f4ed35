"""What the annotation routes work with: images, the prompts file, previews, and prefetching."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import PIL.Image
from cachetools import LRUCache
from starlette.concurrency import run_in_threadpool

from maskmill import ImageRef, MaskmillError
from maskmill_plugins._shared.drawing.pixels import encode_jpeg, encode_png

from ..server.compute.byte_cache import ByteCache
from ..server.compute.image_store import StoredImage
from ..server.compute.service import ModelService
from ..server.errors import ApiError
from .filter_preview import FilterPreview
from .image_list import ImageList
from .prompts_file import PromptsFile

#: Longer side of a preview in pixels.
SMALLEST, USUAL, LARGEST = 16, 2048, 4096
#: Previews of at most this many pixels are sent as PNG, others as JPEG.
LOSSLESS = 300_000
QUALITY = 90
#: Bytes of previews kept in memory.
PREVIEW_BYTES = 64_000_000
#: Images prefetched at most.
AHEAD = 4
#: Images of whose files the content's id is cached.
CACHED_IDS = 4096
#: x, y, width and height in pixels of the upright image.
Region = tuple[int, int, int, int]
_log = logging.getLogger("maskmill.server")


@dataclass(frozen=True, slots=True)
class _FileContent:
    """An image's file when it was last read.

    Attributes:
        stat: (bytes, time of the last change).
        id: of its content.
    """

    stat: tuple[int, int]
    id: str


class AnnotationSession:
    """A dataset that is being annotated.

    Attributes:
        name: shown on the page.
        images: of the dataset.
        prompts_file: where prompts are saved.
        reviewer: who annotates, unless the page sends another name.
        filters: of the pipeline that is annotated, None if there are none.
        offered: labels in addition to those in the prompts file.

    Args:
        service: the server's model and images.
        labels: becomes `offered`.
    """

    def __init__(
        self,
        name: str,
        images: ImageList,
        prompts_file: PromptsFile,
        service: ModelService,
        reviewer: str = "",
        labels: Sequence[str] = (),
        filters: FilterPreview | None = None,
    ) -> None:
        self.name = name
        self.images = images
        self.prompts_file = prompts_file
        self.reviewer = reviewer
        self.service = service
        self.filters = filters
        self.offered = list(labels)
        self._contents: LRUCache[str, _FileContent] = LRUCache(CACHED_IDS)
        self._previews: ByteCache[tuple[str, int], tuple[bytes, str]] = ByteCache(
            PREVIEW_BYTES, lambda preview: len(preview[0])
        )
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def labels(self) -> list[str]:
        """The labels given at the start, then those in the prompts file."""
        return list(dict.fromkeys([*self.offered, *self.prompts_file.labels()]))

    def find(self, key: str) -> tuple[int, ImageRef]:
        """The number of an image and its reference.

        Raises:
            ApiError: the dataset has no such image; the file system is not searched.
        """
        number = self.images.number(key)
        if number is None:
            raise ApiError("not-found", f"the dataset has no image with the key {key!r}")
        return number, self.images.refs[number]

    def position(self, key: str) -> dict[str, Any]:
        """The image's `index`, and the keys of the `previous` and the `next` image.

        Raises:
            ApiError: the dataset has no such image.
        """
        number, _ = self.find(key)
        before, after = self.images.find_neighbours({}, number)
        return {"index": number, "previous": before, "next": after}

    async def load_image(self, key: str) -> StoredImage:
        """Read an image of the dataset and store it where requests for masks find it.

        Raises:
            ApiError: there is no such image, or it cannot be read; the list then shows it as failed.
        """
        _, ref = self.find(key)
        # The page requests an image and its preview at once: the file is read and decoded only once.
        async with self._reading.setdefault(key, asyncio.Lock()):
            return await self._load_image(key, ref)

    async def _load_image(self, key: str, ref: ImageRef) -> StoredImage:
        store = self.service.images
        try:
            stat = await run_in_threadpool(ref.stat)
            known = self._contents.get(key)
            if known is not None and known.stat == stat and (kept := store.files.get(known.id)) is not None:
                return kept
            data = await run_in_threadpool(ref.read)
            digest = await run_in_threadpool(lambda: hashlib.sha256(data).hexdigest())
            stored, _ = await store.add(data, digest)
        except (OSError, MaskmillError, ApiError) as error:
            text = error.detail if isinstance(error, ApiError) else getattr(error, "strerror", None) or str(error)
            self.images.failed[key] = text
            # With its position, so that the page can move on from it.
            raise ApiError("unreadable-image", f"{key}: {text}", members=self.position(key)) from None
        self.images.failed.pop(key, None)
        self._contents[key] = _FileContent(stat, stored.id)
        return stored

    async def preview(self, stored: StoredImage, most: int, region: Region | None = None) -> tuple[bytes, str]:
        """The preview of an image or a region of it, its longer side at most `most` pixels, and its media type."""
        if region is not None:
            image = await self.service.images.load_async(stored)
            x, y, width, height = region
            return await run_in_threadpool(make_preview, image.pixels[y : y + height, x : x + width], most)
        if (kept := self._previews.get((stored.id, most))) is not None:
            return kept
        image = await self.service.images.load_async(stored)
        made = await run_in_threadpool(make_preview, image.pixels, most)
        self._previews.put((stored.id, most), made)
        return made


def make_preview(pixels: npt.NDArray[np.uint8], most: int) -> tuple[bytes, str]:
    """The file and its media type.

    Args:
        pixels: uint8 (H, W, 3) RGB, upright.
        most: pixels of the longer side.
    """
    height, width = shrink(pixels.shape[:2], most)
    picture = PIL.Image.fromarray(pixels)
    if (width, height) != picture.size:
        # With a reducing gap most of the reduction is done by averaging blocks: a fraction of the time and memory.
        picture = picture.resize((width, height), PIL.Image.Resampling.BICUBIC, reducing_gap=2.0)
    small = width * height <= LOSSLESS
    return (encode_png(picture), "image/png") if small else (encode_jpeg(picture, QUALITY), "image/jpeg")


def shrink(size: tuple[int, ...], most: int) -> tuple[int, int]:
    """(height, width) with the longer side at most `most`, and at least one pixel each."""
    scale = min(1.0, most / max(size))
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


class Prefetcher:
    """Prepares the images that a person is about to open: their pixels, previews and embeddings.

    It works while no job waits, one image at a time; images that are no longer requested are dropped.

    Args:
        session: the dataset.
    """

    def __init__(self, session: AnnotationSession) -> None:
        self._session = session
        self._service = session.service
        self._keys: list[str] = []
        self._current: tuple[str, Future[None]] | None = None
        self._task: asyncio.Task[None] | None = None

    def request(self, keys: Sequence[str]) -> int:
        """Prepare these images in place of those requested before; returns how many are accepted."""
        self._keys = [key for key in dict.fromkeys(keys) if self._session.images.number(key) is not None][:AHEAD]
        if self._current is not None and self._current[0] not in self._keys:
            self._current[1].cancel()
        count = len(self._keys)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        return count

    async def _work(self) -> None:
        while self._keys:
            await self._service.model_thread.jobs.wait_until_quiet()
            if not self._keys:
                return
            key = self._keys.pop(0)
            try:
                await self._prepare(key)
            except ApiError as error:
                _log.info("not prefetched: %s", error)
            except Exception:
                _log.exception("%s could not be prefetched", key)

    async def _prepare(self, key: str) -> None:
        stored = await self._session.load_image(key)
        if 9 * stored.size[0] * stored.size[1] > self._service.settings.decoded:
            return  # its pixels would evict those of the image that is being annotated
        await self._session.preview(stored, USUAL)
        image = await self._service.images.load_async(stored)
        future = self._service.model_thread.jobs.prefetch(stored, image)
        self._current = key, future
        wrapped = asyncio.wrap_future(future)
        await asyncio.wait({wrapped})  # does not raise if the future was cancelled, only if this task is
        self._current = None
        if not wrapped.cancelled():
            wrapped.result()
