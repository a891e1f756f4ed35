"""Prompts of one image decoded side by side, in Python threads with one torch thread each.

Decoding a prompt consists of many small operations, which torch's own threads hardly speed up. Besides, with
one torch thread per prompt a mask has the same bits whatever the number of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import loky
import torch

T = TypeVar("T")
R = TypeVar("R")
#: Numbers in an embedding (tokens × channels) from which on decoding one prompt takes long enough for several threads:
#: with fewer, the threads mostly wait for Python's lock. Measured in docs/performance.md.
LEAST_NUMBERS = 2**16


class DecodingThreads:
    """Threads that stay until they are closed.

    With a count of 1, there are none, and the caller's thread does the work; torch has to use one thread there.

    Args:
        count: how many prompts are decoded at the same time, if there are as many cores; 1 for a model on a GPU.
    """

    def __init__(self, count: int) -> None:
        self._pool = None
        count = min(count, int(loky.cpu_count()))
        # Builds of torch without OpenMP cannot set the number for each thread.
        if count > 1 and "parallel backend: OpenMP" in torch.__config__.parallel_info():
            self._pool = _start(count)

    def map(self, function: Callable[[T], R], items: Iterable[T], numbers: int = LEAST_NUMBERS) -> list[R]:
        """The results of a function for each item, in their order.

        Args:
            function: is called in several threads.
            items: what it is called with.
            numbers: in the embedding that each call works on; with few, one thread does all the work.
        """
        if self._pool is None:
            return [function(item) for item in items]
        if numbers < LEAST_NUMBERS:
            return self.run(lambda: [function(item) for item in items])
        return list(self._pool.map(function, items))

    def run(self, function: Callable[[], R]) -> R:
        """The result of a function, computed with one torch thread."""
        return function() if self._pool is None else self._pool.submit(function).result()

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def _start(count: int) -> ThreadPoolExecutor:
    """Start all threads at once, and leave the number that other threads of this process use as it was."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "decoding", initializer=_use_one_thread)
    all_there = threading.Barrier(count)
    list(pool.map(lambda _: all_there.wait(), range(count)))
    torch.set_num_threads(before)
    return pool


def _use_one_thread() -> None:
    """Have torch use one thread in the calling thread."""
    torch.get_num_threads()  # at its first use in a thread, torch takes over the process's number
    torch.set_num_threads(1)
