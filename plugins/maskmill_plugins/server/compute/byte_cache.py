"""A cache bounded by bytes: what was unused for longest makes room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteCache(Generic[K, V]):
    """Values with their sizes, for any number of threads.

    Args:
        limit: bytes of all values together; a value larger than that is not kept.
        most: values, whatever their size; None for any number.
    """

    def __init__(self, limit: int, most: int | None = None) -> None:
        self.limit = limit
        self.most = most
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, which now counts as just used; None if it is not there."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def __contains__(self, key: K) -> bool:
        """Whether the value is there; that does not count as use."""
        with self._lock:
            return key in self._entries

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value of so many bytes, as far as it fits."""
        with self._lock:
            self._remove(key)
            if size > self.limit:
                return
            self._entries[key] = value, size
            self._bytes += size
            while self._bytes > self.limit or (self.most is not None and len(self._entries) > self.most):
                self._remove(next(iter(self._entries)))

    def remove(self, key: K) -> bool:
        """Forget a value; False if it was not there."""
        with self._lock:
            return self._remove(key)

    def keys(self) -> list[K]:
        """Those that are there, the longest unused first."""
        with self._lock:
            return list(self._entries)

    @property
    def bytes(self) -> int:
        """Of all values together."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._entries)

    def _remove(self, key: K) -> bool:
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._bytes -= entry[1]
        return True
