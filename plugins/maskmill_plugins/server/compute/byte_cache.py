"""A thread-safe LRU cache with a limit in bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteCache(Generic[K, V]):
    """Values of bounded total size; the least recently used ones are evicted.

    Args:
        limit: bytes of all values together; a larger value is not kept.
        size_of: the bytes of a value.
        most: number of values at most, whatever their size; None for no limit.
    """

    def __init__(self, limit: int, size_of: Callable[[V], int], most: int | None = None) -> None:
        self._values: LRUCache[K, V] = LRUCache(limit, size_of)
        self._most = most
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, now the most recently used; None if it is not kept."""
        with self._lock:
            return self._values.get(key)

    def __contains__(self, key: K) -> bool:
        """Whether the value is kept; does not count as use."""
        with self._lock:
            return key in self._values

    def put(self, key: K, value: V) -> None:
        """Keep a value if it fits."""
        with self._lock:
            self._values.pop(key, None)
            with suppress(ValueError):  # larger than the cache
                self._values[key] = value
            while self._most is not None and len(self._values) > self._most:
                self._values.popitem()

    def remove(self, key: K) -> bool:
        """Remove a value; False if it was not kept."""
        with self._lock:
            return self._values.pop(key, None) is not None

    @property
    def bytes(self) -> int:
        """Total size of the values."""
        return int(self._values.currsize)

    def __len__(self) -> int:
        return len(self._values)
