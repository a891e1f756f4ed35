"""The loop that keeps the slots of an engine busy, and what happens when a worker dies: blame, retry, quarantine.

A death of a process counts against the image that was alone in it, and only that one: an engine's
slot holds one image at a time. An image is quarantined after MAX_TRIES deaths, counted across
restarts of the driver. The prompt lane follows the same rule for its own process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..images import ImageRef
from ..plugins.engine import Engine, Outcome
from ..plugins.messages import LaneAnswers, OpenFailure, Task, WorkerDied
from ..work import Work
from .stop import Stop

MAX_TRIES = 3
#: How many other images are started before an image whose worker died is tried again: what killed it
#: may have been something else, such as another program that used up the memory, and may be over by then.
APART = 16


@dataclass
class QueuedImage:
    """An image on its way through the lane and the engine.

    Attributes:
        task: what the worker gets.
        attempts: tries in earlier runs.
        lost: how often it took its process down so far.
        work: what the plan expects to be done for it.
    """

    task: Task
    attempts: int = 0
    lost: int = 0
    work: Work = "new"

    @property
    def ref(self) -> ImageRef:
        """Where it is."""
        return self.task.ref

    @property
    def key(self) -> str:
        """Its key in the dataset."""
        return self.task.ref.key

    @property
    def is_spent(self) -> bool:
        """Whether it has had all its tries and is to be quarantined."""
        return self.lost >= MAX_TRIES

    def blame(self) -> None:
        """Count a death of the process in which it was alone."""
        self.lost += 1
        self.task = replace(self.task, careful=True)

    def add_answers(self, answers: LaneAnswers) -> None:
        """Attach what the prompt lane found."""
        self.task = replace(self.task, answers=answers)


@dataclass(frozen=True, slots=True)
class SlotGivenUp:
    """A slot was given up, and its image goes to another: its processes died while they were starting.

    Attributes:
        slots: how many are left.
        reason: what is known of the last death, for the user.
    """

    slots: int
    reason: str


def dispatch(
    engine: Engine,
    images: Iterator[QueuedImage | None],
    slots: int,
    timeout: float,
    stop: Stop,
    running: dict[int, QueuedImage] | None = None,
) -> Iterator[tuple[QueuedImage, Outcome | SlotGivenUp] | None]:
    """Run images through an engine that has been started.

    Args:
        engine: the engine.
        images: drawn only when a slot is free; None means "nothing yet, come back".
        slots: how many run at once; one that cannot start is given up while another works.
        timeout: seconds an image may take, 0 for no limit.
        stop: requested from outside, or by the caller between two results. If no image has begun, because the
            engine still opens its chains, nothing is waited for.
        running: receives the images in progress, for display.

    Yields:
        Each image with its outcome, as they end; `WorkerDied` at every death, counted in `lost`: an image
        that is spent is not tried again. None now and then, so that the caller can look at the clock.
    """
    running = {} if running is None else running
    again: deque[tuple[int, QueuedImage]] = deque()  # with the token from which on it is due
    started = 0
    works = False  # a slot got ready once
    more = True
    while not stop.at_once:
        while len(running) < slots and not stop.requested and (again or more):
            image: QueuedImage | None = None
            if more and not (again and again[0][0] <= started):
                try:
                    image = next(images)
                except StopIteration:
                    more = False
            if image is None and again:  # nothing else to do meanwhile: it need not wait its turn
                _, image = again.popleft()
            if image is None:
                break
            started += 1
            running[started] = image
            engine.submit(started, image.task, timeout)
        if not running or (stop.requested and engine.is_opening()):
            if stop.requested or not (more or again):
                return
            yield None
            continue
        for token, outcome in engine.wait(0.2):
            image = running.pop(token)
            if isinstance(outcome, OpenFailure) and outcome.died and works and slots > 1:
                slots -= 1
                again.appendleft((started, image))
                yield image, SlotGivenUp(slots, outcome.message)
                continue
            works = works or not isinstance(outcome, OpenFailure)
            if isinstance(outcome, WorkerDied):
                image.blame()
                if not image.is_spent:
                    again.append((started + APART, image))
            yield image, outcome
        yield None


def describe_death(death: WorkerDied, stack: str, timeout: float) -> tuple[str, str]:
    """(type, message) of a death, for the failure record.

    Args:
        death: what the engine or the lane reported.
        stack: written when the time limit ended the process, else "".
        timeout: the limit in seconds.
    """
    if stack or death.timed_out:
        return "Timeout", f"exceeded the time limit of {timeout:g} s ({MAX_TRIES} tries)"
    return "WorkerLost", f"its worker process died: {explain_exit(death.reason)} ({MAX_TRIES} tries)"


def explain_exit(reason: str) -> str:
    """A death's exit code, and what it usually means."""
    killed = "-9" in reason or "SIGKILL" in reason
    return f"{reason} (killed by the system, usually because it ran out of memory)" if killed else reason
