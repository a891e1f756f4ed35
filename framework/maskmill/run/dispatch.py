"""The loop that keeps the slots of an engine busy, and what happens when a worker dies: blame, retry, quarantine.

A death of a process counts against the image that was alone in it, and only that one: an engine's
slot holds one image at a time. An image is quarantined after MAX_TRIES deaths, counted across
restarts of the driver. The prompt lane follows the same rule for its own process. A machine that is lost with
everything on it usually says nothing about the images there: that is counted apart, with a higher limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeGuard

from ..errors import StopRun
from ..images import ImageRef
from ..plugins.engine import Engine, Outcome
from ..plugins.messages import HostLost, LaneAnswers, NotBegun, OpenFailure, Task, WorkerDied
from ..work import Work
from .stop import Stop

MAX_TRIES = 3
#: So many machines may be lost with an image on them; a container that runs out of memory is lost as a whole.
MAX_HOSTS_LOST = 8
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
        hosts_lost: how often the machine was lost that had it, in this run.
    """

    task: Task
    attempts: int = 0
    lost: int = 0
    work: Work = "new"
    hosts_lost: int = 0

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
        return self.lost >= MAX_TRIES or self.hosts_lost >= MAX_HOSTS_LOST

    def blame(self) -> None:
        """Count a death of the process in which it was alone."""
        self.lost += 1
        self.task = replace(self.task, careful=True)

    def count_loss(self, outcome: Outcome) -> bool:
        """Count what was lost with it, if an outcome says so; returns whether it has to be tried again.

        After the loss of a machine it is careful, too: an engine sends it alone, and no other image is lost with it.
        """
        if isinstance(outcome, WorkerDied):
            self.blame()
        elif isinstance(outcome, HostLost):
            self.hosts_lost += 1
            self.task = replace(self.task, careful=True)
        return isinstance(outcome, (WorkerDied, HostLost))

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
    timeout: float,
    stop: Stop,
    running: dict[int, QueuedImage] | None = None,
) -> Iterator[tuple[QueuedImage, Outcome | SlotGivenUp] | None]:
    """Run images through an engine that has been started.

    Args:
        engine: the engine.
        images: drawn only when the engine has room; None means "nothing yet, come back".
        timeout: seconds an image may take, 0 for no limit.
        stop: requested from outside, or by the caller between two results. If no image has begun, because the
            engine still opens its chains, nothing is waited for.
        running: receives the images in progress, for display.

    Yields:
        Each image with its outcome, as they end; `WorkerDied` at every death, counted in `lost`, and `HostLost`:
        an image that is spent is not tried again. A slot whose process dies while it starts is given up once another
        has worked; if none does, its `OpenFailure` is the last event.
        None now and then, so that the caller can look at the clock.
    """
    running = {} if running is None else running
    line = _Line(images)
    starts = _Starts(engine)
    while not stop.at_once:
        while not stop.requested and engine.room() > 0 and (image := line.draw()) is not None:
            running[line.started] = image
            engine.submit(line.started, image.task, timeout)
        if stop.requested and (not running or engine.is_opening()):
            return
        if not running and not line.has_more:
            return
        if not running and engine.room() > 0:
            yield None
            continue
        try:
            ended = list(engine.wait(0.2))
        except StopRun as error:
            stop.request(str(error))
            return
        for token, outcome in ended:
            image = running.pop(token)
            if isinstance(outcome, NotBegun):
                line.put_back(image)
            elif starts.may_give_up(outcome, others=bool(running)):
                line.put_back(image)
                starts.died.append((image, outcome.message))
            else:
                starts.works = starts.works or not isinstance(outcome, (OpenFailure, HostLost))
                if image.count_loss(outcome) and not image.is_spent:
                    line.put_back(image, max(APART, engine.slots()))
                yield image, outcome
                if isinstance(outcome, OpenFailure) and not stop.requested:
                    return
            yield from starts.give_up()
        yield None


class _Starts:
    """Which slots died while they started; they are given up once it is known that another one works.

    Attributes:
        works: a slot got ready once.
        died: the images of those that died, and why, until one works.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.works = False
        self.died: list[tuple[QueuedImage, str]] = []

    def may_give_up(self, outcome: Outcome, others: bool) -> TypeGuard[OpenFailure]:
        """Whether the run may go on without the slot: another works, or is at work and may still get ready."""
        died = isinstance(outcome, OpenFailure) and outcome.died
        return died and self._engine.slots() > 0 and (self.works or others)

    def give_up(self) -> Iterator[tuple[QueuedImage, SlotGivenUp]]:
        """The slots that are given up now."""
        while self.works and self.died:
            image, reason = self.died.pop(0)
            yield image, SlotGivenUp(self._engine.slots(), reason)


class _Line:
    """The images that are to be submitted: those that are tried again, and new ones.

    Attributes:
        started: how many were drawn.
    """

    def __init__(self, images: Iterator[QueuedImage | None]) -> None:
        self._images = images
        self._more = True
        self._again: deque[tuple[int, QueuedImage]] = deque()  # with the number from which on it is due
        self.started = 0

    @property
    def has_more(self) -> bool:
        """Whether any is left."""
        return bool(self._more or self._again)

    def draw(self) -> QueuedImage | None:
        """The next one; None if there is none now."""
        image: QueuedImage | None = None
        if self._more and not (self._again and self._again[0][0] <= self.started):
            try:
                image = next(self._images)
            except StopIteration:
                self._more = False
        if image is None and self._again:  # nothing else to do meanwhile: it need not wait its turn
            _, image = self._again.popleft()
        self.started += image is not None
        return image

    def put_back(self, image: QueuedImage, apart: int = 0) -> None:
        """Have an image drawn again: next, or after so many others."""
        if apart:
            self._again.append((self.started + apart, image))
        else:
            self._again.appendleft((self.started, image))


def describe_death(death: WorkerDied, timeout: float) -> tuple[str, str]:
    """(type, message) of a death, for the failure record.

    Args:
        death: what the engine or the lane reported.
        timeout: the limit in seconds.
    """
    if death.timed_out:
        return "Timeout", f"exceeded the time limit of {timeout:g} s ({MAX_TRIES} tries)"
    return "WorkerLost", f"its worker process died: {explain_exit(death.reason)} ({MAX_TRIES} tries)"


def explain_exit(reason: str) -> str:
    """A death's exit code, and what it usually means."""
    killed = "-9" in reason or "SIGKILL" in reason
    return f"{reason} (killed by the system, usually because it ran out of memory)" if killed else reason
