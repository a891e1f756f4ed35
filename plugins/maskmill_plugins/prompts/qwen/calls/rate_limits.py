"""Limits for calls at once, calls per minute and tokens per minute.

The rates are token buckets in their virtual-scheduling form (GCRA, ITU-T I.371 annex A): instead of a
level that is topped up, each bucket keeps the time from which it has room again. Calls are thus evenly
spread, as DashScope requires, and never exceed the rate in any minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from maskmill import StopRun


class TokenBucket:
    """One rate.

    Args:
        per_minute: units allowed per minute; None for no limit.
    """

    def __init__(self, per_minute: float | None) -> None:
        self._seconds_each = 60.0 / per_minute if per_minute else 0.0
        self._free_at = 0.0

    def next_free(self, now: float) -> float:
        """Return the earliest time at which something may pass."""
        return max(now, self._free_at)

    def book(self, at: float, amount: float) -> None:
        """Let this amount pass at this time, which must not be before `next_free`."""
        self._free_at = at + amount * self._seconds_each

    def correct(self, amount: float) -> None:
        """Add what passed beyond the booked amount; negative if it was less."""
        self._free_at += amount * self._seconds_each


class RateLimiter:
    """Paces the calls of all threads.

    Args:
        concurrency: calls at the same time.
        rpm: calls per minute, None for no limit.
        tpm: tokens per minute, None for no limit.
        clock: seconds, monotonic.
    """

    def __init__(
        self, concurrency: int, rpm: float | None, tpm: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.concurrency = concurrency
        self._slots = threading.BoundedSemaphore(concurrency)
        self._calls = TokenBucket(rpm)
        self._tokens = TokenBucket(tpm)
        self._clock = clock
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._reason = ""

    @contextmanager
    def acquire(self, tokens: int) -> Iterator[Callable[[int], None]]:
        """Wait until a call may start, and count it as running while the context is open.

        Args:
            tokens: expected for this call.

        Yields:
            A function to call with the number of tokens actually used.

        Raises:
            StopRun: the run was stopped meanwhile.
        """
        with self._slots:
            self.raise_if_stopped()
            with self._lock:
                now = self._clock()
                at = max(self._calls.next_free(now), self._tokens.next_free(now))
                self._calls.book(at, 1)
                self._tokens.book(at, tokens)
            self.wait(at - now)
            yield lambda actual: self._correct(actual - tokens)

    def stop(self, reason: str) -> None:
        """Refuse every further call, and wake up all waiting threads."""
        self._reason = self._reason or reason
        self._stopped.set()

    def wait(self, seconds: float) -> None:
        """Sleep until the time is over or the run is stopped.

        Raises:
            StopRun: the run was stopped.
        """
        if seconds > 0:
            self._stopped.wait(seconds)
        self.raise_if_stopped()

    def raise_if_stopped(self) -> None:
        """Raise if the run was stopped.

        Raises:
            StopRun: it was.
        """
        if self._stopped.is_set():
            raise StopRun(self._reason)

    def _correct(self, tokens: int) -> None:
        with self._lock:
            self._tokens.correct(tokens)
