"""Stopping a run: who may ask for it, what it means, and the signals that ask for it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: Signals that the driver answers, not its workers. A closed terminal sends SIGHUP, which Windows does not have.
DRIVER_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
if sys.platform != "win32":
    DRIVER_SIGNALS |= {signal.SIGHUP}


class Stopped(BaseException):
    """The driver's own work was ended because the run has to stop.

    No `Exception`: it is raised while a plugin's `finish` runs, whose `except Exception` must not catch it.
    """


class Stop:
    """The request to stop a run: no new images are started; those under way finish.

    Attributes:
        reason: why, for the user; "" while nobody asked.
        interrupted: a person or the system asked, not a plugin or a limit.
        at_once: asked a second time: the workers are ended without waiting for them.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.interrupted = False
        self.at_once = False
        self._requested = threading.Event()
        self._raises = False

    @property
    def requested(self) -> bool:
        """Whether the run has to stop."""
        return self._requested.is_set()

    def request(self, reason: str) -> None:
        """Stop after the images that are under way; the first reason is kept."""
        if not self.requested:
            self.reason = reason
            self._requested.set()

    def interrupt(self) -> None:
        """Answer a signal: the first drains, the second ends the workers, or what `interruptible` encloses, at once."""
        if self.interrupted:
            self.at_once = True
            if self._raises:
                raise Stopped
        self.interrupted = True
        self.request("interrupted")

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the run has to stop."""
        end = time.monotonic() + seconds
        while not self.requested and (left := end - time.monotonic()) > 0:
            self._requested.wait(min(left, 0.2))  # Windows answers Ctrl-C only between two waits

    def check(self) -> None:
        """Raise `Stopped` if the run has to stop."""
        if self.requested:
            raise Stopped

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """While this is open, only the driver itself is working: a second signal raises `Stopped` in it."""
        self._raises = True
        try:
            yield
        finally:
            self._raises = False


@contextmanager
def handle_signals(stop: Stop) -> Iterator[None]:
    """While this is open, `Stop.interrupt` answers Ctrl-C, SIGTERM and, unless `nohup` had it ignored, SIGHUP."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only; the program around us decides
        return

    def answer(number: int, frame: FrameType | None) -> None:
        stop.interrupt()

    before = {number: signal.signal(number, answer) for number in DRIVER_SIGNALS if not _is_ignored_hangup(number)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_ignored_hangup(number: signal.Signals) -> bool:
    return sys.platform != "win32" and number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
