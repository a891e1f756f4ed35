"""Which images are open on whose page, so that no two people review the same one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

#: Seconds after which an image that was opened and left counts as free again.
LEASE = 600.0


@dataclass(slots=True)
class _Lease:
    holder: str
    who: str
    until: float


class Leases:
    """The images that are open; thread-safe. A holder is a page, not a person: one person may have two pages.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = threading.Lock()
        self._leases: dict[str, _Lease] = {}

    def take(self, key: str, holder: str, who: str) -> bool:
        """Take or renew an image; False if another page has it."""
        with self._mutex:
            found = self._find(key)
            if found is not None and found.holder != holder:
                return False
            self._leases[key] = _Lease(holder, who, self._clock() + LEASE)
            return True

    def keep_only(self, holder: str, keys: Collection[str]) -> None:
        """Release what a page holds but for these images, and renew those."""
        with self._mutex:
            for key, lease in list(self._leases.items()):
                if lease.holder == holder:
                    if key in keys:
                        lease.until = self._clock() + LEASE
                    else:
                        del self._leases[key]

    def find_other(self, key: str, holder: str) -> str | None:
        """Who has an image open on another page; None if nobody has."""
        with self._mutex:
            found = self._find(key)
            return found.who if found is not None and found.holder != holder else None

    def _find(self, key: str) -> _Lease | None:
        found = self._leases.get(key)
        if found is not None and found.until < self._clock():
            del self._leases[key]
            return None
        return found
