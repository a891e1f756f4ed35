"""Which images are open on whose page, so that no two people review the same one."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import astuple, dataclass
from pathlib import Path

from maskmill.files import atomic_path

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
        file: keeps them, so that a server that was killed and started again knows what is open; None for none.
        clock: seconds, which go on between two servers.
    """

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._mutex = threading.Lock()
        self._leases: dict[str, _Lease] = {}
        if file is not None:
            with contextlib.suppress(
                OSError, ValueError, TypeError, AttributeError
            ):  # none yet, or damaged: all are free
                read = json.loads(file.read_text(encoding="ascii"))
                self._leases = {key: _Lease(str(one[0]), str(one[1]), float(one[2])) for key, one in read.items()}

    def take(self, key: str, holder: str, who: str) -> bool:
        """Take or renew an image; False if another page has it."""
        with self._mutex:
            found = self._find(key)
            if found is not None and found.holder != holder:
                return False
            self._leases[key] = _Lease(holder, who, self._clock() + LEASE)
            self._write()
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
            self._write()

    def find_other(self, key: str, holder: str) -> str | None:
        """Who has an image open on another page; None if nobody has."""
        with self._mutex:
            found = self._find(key)
            return found.who if found is not None and found.holder != holder else None

    def _write(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError), atomic_path(self._file) as unfinished:
                content = {key: astuple(lease) for key, lease in self._leases.items()}
                unfinished.write_text(json.dumps(content), encoding="ascii")

    def _find(self, key: str) -> _Lease | None:
        found = self._leases.get(key)
        if found is not None and found.until < self._clock():
            del self._leases[key]
            return None
        return found
