"""Uploaded images: stored by the SHA-256 that the server computes, decoded in separate threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from maskmill import Image, ImageReadError, ImageRef
from maskmill_plugins._shared.http.wire import ImageInfo, image_id

from ..errors import ApiError
from ..settings import Settings
from .byte_cache import ByteCache


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An uploaded file that was decoded successfully.

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
        """SHA-256 of the bytes, hexadecimal."""
        return self.id.removeprefix("sha256-")

    def info(self) -> ImageInfo:
        """The response to an upload."""
        return ImageInfo(id=self.id, height=self.size[0], width=self.size[1])


class ImageStore:
    """Files and the pixels of the most recently used ones, both of bounded size.

    A file that was evicted has to be uploaded again; evicted pixels are decoded again.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_pixels = settings.pixels
        most = settings.most_images
        self.files: ByteCache[str, StoredImage] = ByteCache(settings.stored, lambda stored: len(stored.data), most)
        self.decoded: ByteCache[str, Image] = ByteCache(settings.decoded, lambda image: image.pixels.nbytes, most)
        # The decoder handles one image at a time; meanwhile the second thread computes hashes.
        self._threads = ThreadPoolExecutor(2, "maskmill-decode")

    def get(self, id_: str) -> StoredImage:
        """The file with this id.

        Raises:
            ApiError: it is not stored, or no longer.
        """
        stored = self.files.get(id_)
        if stored is None:
            raise ApiError(
                "unknown-image", f"the server does not have the image {id_} (any more); upload it with POST /v1/images"
            )
        return stored

    async def add(self, data: bytes, sha256: str) -> tuple[StoredImage, bool]:
        """Store a file after decoding it.

        Args:
            data: its bytes.
            sha256: of the bytes, hexadecimal.

        Returns:
            The file, and whether it is new.

        Raises:
            ApiError: it cannot be decoded.
        """
        id_ = image_id(sha256)
        if (known := self.files.get(id_)) is not None:
            return known, False
        image = await self._in_thread(lambda: self.decoded.get(id_) or self._decode(id_, data))
        stored = StoredImage(id_, data, image.size)
        new = self.files.get(id_) is None
        self.files.put(id_, stored)
        return stored, new

    def load(self, stored: StoredImage) -> Image:
        """The pixels of a file; decodes in the calling thread if needed.

        Raises:
            ApiError: it cannot be decoded this time: out of memory.
        """
        return self.decoded.get(stored.id) or self._decode(stored.id, stored.data)

    async def load_async(self, stored: StoredImage) -> Image:
        """Like `load`, without blocking the event loop."""
        return self.decoded.get(stored.id) or await self._in_thread(lambda: self.load(stored))

    def remove(self, id_: str) -> bool:
        """Remove an image; False if it was not stored."""
        self.decoded.remove(id_)
        return self.files.remove(id_)

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _decode(self, id_: str, data: bytes) -> Image:
        try:
            image = Image.from_bytes(data, ImageRef(id_, id_), self._max_pixels)
        except ImageReadError as error:
            raise ApiError("unreadable-image", str(error).removeprefix(f"{id_}: ")) from None
        self.decoded.put(id_, image)
        return image

    async def _in_thread(self, call: Callable[[], Image]) -> Image:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
