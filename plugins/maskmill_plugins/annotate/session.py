"""What the annotation routes work with: the images, the file, the pictures, and what is computed ahead."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from starlette.concurrency import run_in_threadpool

from maskmill import ImageReadError, ImageRef

from ..server.compute.byte_cache import ByteCache
from ..server.compute.host import Host
from ..server.compute.image_store import Stored
from ..server.http.log import log
from ..server.http.problems import ApiError
from .image_list import Index
from .previews import USUAL, Previews
from .prompts_file import Store

#: Images that are made ready ahead, at most.
AHEAD = 4
#: Images of which it is remembered what their file is.
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class _Known:
    """What an image's file was when it was last read.

    Attributes:
        stat: (bytes, time of the last change).
        id: of its content.
        size: (height, width).
    """

    stat: tuple[int, int]
    id: str
    size: tuple[int, int]


@dataclass
class Desk:
    """A dataset under annotation.

    Attributes:
        name: what the page calls it.
        index: its images.
        store: the prompts file.
        reviewer: who annotates, unless the page says otherwise.
        given: labels named at the start.
        previews: pictures that were made.
    """

    name: str
    index: Index
    store: Store
    reviewer: str = ""
    given: Sequence[str] = ()
    previews: Previews = field(default_factory=Previews)

    def __post_init__(self) -> None:
        self._known: ByteCache[str, _Known] = ByteCache(REMEMBERED, REMEMBERED)
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def labels(self) -> list[str]:
        """Those named at the start, then those in the file."""
        return list(dict.fromkeys([*self.given, *self.store.labels()]))

    def ref(self, key: str) -> tuple[int, ImageRef]:
        """The number and the place of an image of the dataset.

        Raises:
            ApiError: the dataset has no such image; no file is looked for.
        """
        number = self.index.number(key)
        if number is None:
            raise ApiError("not-found", f"the dataset has no image with the key {key!r}")
        return number, self.index.refs[number]

    def place(self, key: str) -> dict[str, Any]:
        """The image's `index`, and the keys of those that are `previous` and `next` to it.

        Raises:
            ApiError: the dataset has no such image.
        """
        number, _ = self.ref(key)
        before, after = self.index.beside({}, number)
        return {"index": number, "previous": before, "next": after}

    async def image(self, host: Host, key: str) -> Stored:
        """An image of the dataset, read and kept where requests for masks find it.

        Raises:
            ApiError: no such image, or it cannot be read; then the list shows it as failed.
        """
        _, ref = self.ref(key)
        # The page asks for an image and its picture at once: the file is read and decoded for one of them.
        async with self._reading.setdefault(key, asyncio.Lock()):
            return await self._image(host, key, ref)

    async def _image(self, host: Host, key: str, ref: ImageRef) -> Stored:
        try:
            stat = await run_in_threadpool(ref.stat)
            known = self._known.get(key)
            if known is not None and known.stat == stat and (kept := host.images.files.get(known.id)) is not None:
                return kept
            data = await run_in_threadpool(ref.read)
            digest = await run_in_threadpool(lambda: hashlib.sha256(data).hexdigest())
            stored, _ = await host.images.add(data, digest)
        except (OSError, ImageReadError, ApiError) as error:
            text = error.detail if isinstance(error, ApiError) else getattr(error, "strerror", None) or str(error)
            self.index.failed[key] = text
            # With its place, so that the page can go on from it.
            raise ApiError("unreadable-image", f"{key}: {text}", members=self.place(key)) from None
        self.index.failed.pop(key, None)
        self._known.put(key, _Known(stat, stored.id, stored.size), 1)
        return stored

    async def preview(self, host: Host, stored: Stored, most: int) -> tuple[bytes, str]:
        """The picture of an image and its media type."""
        if (kept := self.previews.get(stored.id, most)) is not None:
            return kept
        image = await host.images.image_soon(stored)
        return await run_in_threadpool(self.previews.make, stored.id, image.pixels, most)


class Ahead:
    """Makes ready the images that a person is about to come to: their pixels, pictures and embeddings.

    It works while nobody waits for masks, one image at a time; what is no longer wanted is dropped.

    Args:
        desk: the dataset.
        host: the server.
    """

    def __init__(self, desk: Desk, host: Host) -> None:
        self._desk = desk
        self._host = host
        self._wanted: list[str] = []
        self._now: tuple[str, Future[None]] | None = None
        self._task: asyncio.Task[None] | None = None

    def want(self, keys: Sequence[str]) -> int:
        """Make these ready instead of those wanted before; returns how many of them are taken on."""
        self._wanted = [key for key in dict.fromkeys(keys) if self._desk.index.number(key) is not None][:AHEAD]
        if self._now is not None and self._now[0] not in self._wanted:
            self._now[1].cancel()
        count = len(self._wanted)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())
        return count

    async def _work(self) -> None:
        while self._wanted:
            await self._host.computing.jobs.quiet()
            if not self._wanted:
                return
            key = self._wanted.pop(0)
            try:
                await self._ready(key)
            except ApiError as error:
                log.info("not made ready: %s", error)
            except Exception:
                log.exception("%s could not be made ready", key)

    async def _ready(self, key: str) -> None:
        stored = await self._desk.image(self._host, key)
        if 9 * stored.size[0] * stored.size[1] > self._host.settings.decoded:
            return  # its pixels would push out those of the image that is being worked on
        await self._desk.preview(self._host, stored, USUAL)
        image = await self._host.images.image_soon(stored)
        future = self._host.computing.jobs.wish(stored, image)
        self._now = key, future
        made = asyncio.wrap_future(future)
        await asyncio.wait({made})  # raises nothing when it is not wanted any more, only when the server ends
        self._now = None
        if not made.cancelled():
            made.result()
