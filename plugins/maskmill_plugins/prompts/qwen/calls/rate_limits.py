"""No more than so many calls at once, so many a minute, and so many tokens a minute.

The rates are token buckets in their virtual-scheduling form (GCRA, ITU-T I.371 annex A): instead of a
level that is topped up, each bucket keeps the time from which on it has room again. Calls so come evenly
spread, as DashScope wants them, and never more than the rate allows in any minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from maskmill import StopRun


class Pace:
    """One bucket.

    Args:
        per_minute: units that may pass in a minute; None lets all pass.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 60.0 / per_minute if per_minute else 0.0
        self._free_at = 0.0

    def free_at(self, now: float) -> float:
        """The time from which on something may pass."""
        return max(now, self._free_at)

    def book(self, at: float, amount: float) -> None:
        """That much passes at this time, which is not before `free_at`; the next comes after it."""
        self._free_at = at + amount * self._seconds_each

    def correct(self, amount: float) -> None:
        """So much more (or, negative, less) passed than was booked."""
        self._free_at += amount * self._seconds_each


class Limits:
    """What the calls of all threads have to wait for.

    Args:
        concurrency: calls at the same time.
        rpm: calls a minute, None for any number.
        tpm: tokens a minute, None for any number.
        clock: seconds, monotonic.
    """

    def __init__(
        self, concurrency: int, rpm: float | None, tpm: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.concurrency = concurrency
        self._slots = threading.BoundedSemaphore(concurrency)
        self._calls = Pace(rpm)
        self._tokens = Pace(tpm)
        self._clock = clock
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._why = ""

    @contextmanager
    def turn(self, tokens: int) -> Iterator[Callable[[int], None]]:
        """Wait for one's turn, and keep it while this is open.

        Args:
            tokens: expected of this call.

        Yields:
            A function to be told how many tokens it really took.

        Raises:
            StopRun: the run was stopped meanwhile.
        """
        with self._slots:
            self.go_on()
            with self._lock:
                now = self._clock()
                at = max(self._calls.free_at(now), self._tokens.free_at(now))
                self._calls.book(at, 1)
                self._tokens.book(at, tokens)
            self.wait(at - now)
            yield lambda actual: self._correct(actual - tokens)

    def stop(self, why: str) -> None:
        """Every call that has not begun is refused from now on, and whoever waits wakes up."""
        self._why = self._why or why
        self._over.set()

    def wait(self, seconds: float) -> None:
        """Sleep, unless the run is stopped.

        Raises:
            StopRun: it was.
        """
        if seconds > 0:
            self._over.wait(seconds)
        self.go_on()

    def go_on(self) -> None:
        """Do nothing, unless the run is stopped.

        Raises:
            StopRun: it was.
        """
        if self._over.is_set():
            raise StopRun(self._why)

    def _correct(self, tokens: int) -> None:
        with self._lock:
            self._tokens.correct(tokens)
