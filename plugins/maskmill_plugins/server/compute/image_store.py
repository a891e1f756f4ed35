"""Uploaded images: kept by the SHA-256 that the server computes, decoded in threads of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from maskmill import Image, ImageReadError, ImageRef
from maskmill_plugins._shared.http.wire import ImageInfo, image_id

from ..http.problems import ApiError
from ..settings import Settings
from .byte_cache import ByteCache


@dataclass(frozen=True, slots=True)
class Stored:
    """An uploaded file that could be decoded.

    Attributes:
        id: `sha256-...`.
        data: its bytes.
        size: (height, width) of the upright image.
    """

    id: str
    data: bytes
    size: tuple[int, int]

    @property
    def sha256(self) -> str:
        """Of the bytes, hexadecimal."""
        return self.id.removeprefix("sha256-")

    def info(self) -> ImageInfo:
        """What the caller is told."""
        return ImageInfo(id=self.id, height=self.size[0], width=self.size[1])


class ImageStore:
    """Keeps files and, of those used last, their pixels; both bounded by bytes.

    A file that made room has to be uploaded again; pixels that did are decoded again.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_pixels = settings.pixels
        self.files: ByteCache[str, Stored] = ByteCache(settings.stored, settings.most_images)
        self.decoded: ByteCache[str, Image] = ByteCache(settings.decoded, settings.most_images)
        # The decoder works on one image at a time; the second thread hashes meanwhile.
        self._threads = ThreadPoolExecutor(2, "maskmill-decode")

    def get(self, id_: str) -> Stored:
        """The file of this id.

        Raises:
            ApiError: it is not here, or not any more.
        """
        stored = self.files.get(id_)
        if stored is None:
            raise ApiError("unknown-image", f"{id_} is not here (any more); upload it with POST /v1/images")
        return stored

    async def add(self, data: bytes, sha256: str) -> tuple[Stored, bool]:
        """Keep a file, once it was decoded.

        Args:
            data: its bytes.
            sha256: of these, hexadecimal.

        Returns:
            The file, and whether it is new.

        Raises:
            ApiError: it is no image that can be decoded.
        """
        id_ = image_id(sha256)
        if (known := self.files.get(id_)) is not None:
            return known, False
        image = await self._in_thread(lambda: self.decoded.get(id_) or self._decode(id_, data))
        stored = Stored(id_, data, image.size)
        new = self.files.get(id_) is None
        self.files.put(id_, stored, len(data))
        return stored, new

    def image(self, stored: Stored) -> Image:
        """The pixels of a file; decodes in the calling thread if need be.

        Raises:
            ApiError: it cannot be decoded now, for want of memory.
        """
        return self.decoded.get(stored.id) or self._decode(stored.id, stored.data)

    async def image_soon(self, stored: Stored) -> Image:
        """As `image`, without holding up the event loop."""
        return self.decoded.get(stored.id) or await self._in_thread(lambda: self.image(stored))

    def remove(self, id_: str) -> bool:
        """Forget an image; False if it was not here."""
        self.decoded.remove(id_)
        return self.files.remove(id_)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _decode(self, id_: str, data: bytes) -> Image:
        try:
            image = Image.from_bytes(data, ImageRef(id_, id_), self._max_pixels)
        except ImageReadError as error:
            raise ApiError("unreadable-image", str(error).removeprefix(f"{id_}: ")) from None
        self.decoded.put(id_, image, image.pixels.nbytes)
        return image

    async def _in_thread(self, call: Callable[[], Image]) -> Image:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
