"""The loop that keeps the slots of an engine busy: window, retry, quarantine, stop.

A lost process counts against the image that was in it, and only that one: an engine's slot
holds one image at a time. The third loss quarantines the image.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ..plugins.engine import Engine, OpenFailure, WorkerDied

MAX_TRIES = 3
#: So many other images come before one that lost its process is tried again: what killed it
#: may have been something else, such as another program's hunger for memory, and may pass.
APART = 16


@dataclass
class QueuedImage:
    """An image on its way through the engine.

    Attributes:
        task: plain data for the worker.
        lost: how often it took its process down so far.
    """

    task: dict[str, Any]
    lost: int = 0


@dataclass(frozen=True, slots=True)
class SlotGivenUp:
    """A slot was given up, and its image goes to another: its processes died while they got ready.

    Attributes:
        slots: how many are left.
        reason: what is known of the last death, for the user.
    """

    slots: int
    reason: str


@dataclass
class Stop:
    """The order to stop: no new images; `now` also ends the workers at once.

    Attributes:
        message: why, for the user.
        now: end the workers at once.
        interrupted: a person or the system asked, not a plugin.
        alone: no worker is running any more; a second signal ends the driver's own work at once.
    """

    message: str = ""
    now: bool = False
    interrupted: bool = False
    alone: bool = False
    _asked: threading.Event = field(default_factory=threading.Event)

    def ask(self, message: str) -> None:
        """Stop after the images that are in work."""
        if not self._asked.is_set():
            self.message = message
            self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether somebody asked."""
        return self._asked.is_set()


def dispatch(
    engine: Engine, items: Iterator[QueuedImage | None], slots: int, timeout: float, stop: Stop
) -> Iterator[tuple[QueuedImage, dict[str, Any] | WorkerDied | OpenFailure | SlotGivenUp] | None]:
    """Run items through an engine that has been started.

    Args:
        engine: the engine.
        items: drawn only when a slot is free; None means "nothing yet, come back".
        slots: how many run at once; one that cannot get ready is given up while another works.
        timeout: seconds an image may take, 0 for no limit.
        stop: asked from outside, or by the caller between two results.

    Yields:
        Each item with its outcome, as they end; `WorkerDied` at every death, and `item.lost` counts
        them: after MAX_TRIES the item is not tried again. None now and then, so that the
        caller can look at the clock.
    """
    running: dict[int, QueuedImage] = {}
    again: deque[tuple[int, QueuedImage]] = deque()  # with the token from which on it is due
    started = 0
    works = False  # a slot got ready once
    more = True
    while not stop.now:
        while len(running) < slots and not stop.asked and (again or more):
            item: QueuedImage | None = None
            if more and not (again and again[0][0] <= started):
                try:
                    item = next(items)
                except StopIteration:
                    more = False
            if item is None and again:
                _, item = again.popleft()
            if item is None:
                break
            started += 1
            running[started] = item
            engine.submit(started, item.task, timeout)
        if not running:
            if stop.asked or not (more or again):
                return
            yield None
            continue
        for token, outcome in engine.wait(0.2):
            item = running.pop(token)
            if isinstance(outcome, OpenFailure) and outcome.died and works and slots > 1:
                slots -= 1
                again.appendleft((started, item))
                yield item, SlotGivenUp(slots, outcome.reason)
                continue
            works = works or not isinstance(outcome, OpenFailure)
            if isinstance(outcome, WorkerDied):
                item.lost += 1
                if item.lost < MAX_TRIES:
                    again.append((started + APART, item))
            yield item, outcome
        yield None


@contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """While this is open, the first Ctrl-C or SIGTERM drains, the second ends the workers at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only; the program around us decides
        return

    def asked(number: int, frame: FrameType | None) -> None:
        if stop.interrupted:
            stop.now = True
            if stop.alone:
                raise KeyboardInterrupt
        stop.interrupted = True
        stop.ask("interrupted")

    wanted = [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, asked) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def lost_reason(lost: WorkerDied, trace: str, timeout: float) -> tuple[str, str]:
    """(type, message) of a death, for the failure record.

    Args:
        lost: what the engine knows.
        trace: the stack that the time limit wrote, "" if it was not the time limit.
        timeout: the limit in seconds.
    """
    if trace or lost.timed_out:
        return "Timeout", f"took longer than {timeout:g} s and was ended ({MAX_TRIES} tries)"
    return "WorkerLost", f"its worker process died: {with_hint(lost.reason)} ({MAX_TRIES} tries)"


def with_hint(reason: str) -> str:
    """A death's exit code, and what it usually means."""
    killed = "-9" in reason or "SIGKILL" in reason
    return f"{reason} (killed by the system, usually for want of memory)" if killed else reason
