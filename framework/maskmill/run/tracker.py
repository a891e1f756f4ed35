"""How far the end of a run is: which file is written, how many images of how many it has, how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
#: A time left is shown from so many seconds on, when it means something.
SECONDS_TO_JUDGE = 2.0


class Tracker:
    """Describes the work for the progress, which asks from a thread of its own.

    Args:
        check: called for each item; raises to end the work.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._folder = self._what = ""
        self._done = 0
        self._count: int | None = None
        self._started = time.monotonic()

    def begin(self, folder: str) -> None:
        """A writer with this folder begins."""
        self._folder = folder
        self._start("", None)

    def track(self, items: Iterable[T], what: str, count: int | None) -> Iterator[T]:
        """The items, counted.

        Args:
            items: for each image, or each line of a file.
            what: is written meanwhile: a file in the writer's folder; "" for all of it.
            count: how many there are, None if that is not known.
        """
        self._start(what, count)
        for item in items:
            self._check()
            yield item
            self._done += 1

    def _start(self, what: str, count: int | None) -> None:
        self._what, self._count, self._done, self._started = what, count, 0, time.monotonic()

    def describe(self) -> str:
        """The work in words, such as "writing coco/instances.json: 12000 of 400000, 00:08 left"."""
        place = f"{self._folder}/{self._what}" if self._what else self._folder
        text = f"writing {place}" if place else "writing the files about the dataset"
        if self._count is None:
            return f"{text}: {self._done}" if self._done else text
        seconds = time.monotonic() - self._started
        left = ""
        if self._done and seconds >= SECONDS_TO_JUDGE:
            left = f", {tqdm.format_interval(max(0, self._count - self._done) * seconds / self._done)} left"
        return f"{text}: {self._done} of {self._count}{left}"
