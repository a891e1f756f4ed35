"""The queue and the one thread that computes.

Jobs of the same image are done one after another, so that its embedding is made once. A second
thread decodes the images that come next. How many jobs may wait follows from how long they take.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from maskmill import Image, Mask, Prompt
from maskmill_plugins._shared.http.wire import Multimask

from ..http.problems import ApiError
from ..settings import Settings
from .costs import Costs, Part
from .image_store import Stored

#: Seconds without a job after which embeddings are made that nobody waits for: a drag has gaps.
QUIET = 1.0
#: Images that are decoded ahead of the one being worked on.
AHEAD = 2


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a job.

    Attributes:
        prompts: that were asked.
        masks: the backend's, each of one of these prompts.
        seconds: {"queue", "embed", "masks"}.
    """

    prompts: Sequence[Prompt]
    masks: list[Mask]
    seconds: dict[str, float]


@dataclass(eq=False)
class Job:
    """One request for masks.

    Attributes:
        stored: the image.
        prompts: that fit it.
        multimask: instead of the backend's own option, None to leave that as it is.
        deadline: by `time.monotonic`; a job that has not begun by then is dropped.
        name: the request's, for the log.
        future: of the result.
    """

    stored: Stored
    prompts: Sequence[Prompt]
    multimask: Multimask | None
    deadline: float
    name: str = ""
    future: Future[Done] = field(default_factory=Future)
    came: float = field(default_factory=time.monotonic)

    @property
    def part(self) -> Part:
        """Which measure of time it counts under."""
        return "grid" if any(prompt.grid is not None for prompt in self.prompts) else "prompts"


@dataclass(eq=False)
class Wish:
    """An image whose embedding may be made while nobody waits for masks.

    Attributes:
        stored: the image.
        image: its pixels.
        future: done when it is made; cancelled when it is not wanted any more.
    """

    stored: Stored
    image: Image
    future: Future[None] = field(default_factory=Future)


@dataclass(eq=False)
class Group:
    """Waiting jobs of one image.

    Attributes:
        jobs: in the order they came.
        image: None until it was decoded.
        wish: instead of jobs.
    """

    jobs: list[Job] = field(default_factory=list)
    image: Image | None = None
    wish: Wish | None = None


class Jobs:
    """What waits and what is being worked on.

    Args:
        settings: how long, and how many.
        costs: what was measured.
        embedded: whether the embedding of the image of this id is there already, or is not needed.
    """

    def __init__(self, settings: Settings, costs: Costs, embedded: Callable[[str], bool]) -> None:
        self._settings = settings
        self._costs = costs
        self._embedded = embedded
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, Group] = OrderedDict()
        self._working: list[Job] = []
        self._wishes: deque[Wish] = deque()
        self._last = -QUIET
        self._until = 0.0
        self._closed = False

    def __len__(self) -> int:
        """Jobs that wait."""
        with self._changed:
            return self._count()

    @property
    def busy(self) -> bool:
        """Whether any job waits or is being worked on."""
        with self._changed:
            return bool(self._waiting or self._working)

    def expected_wait(self) -> float:
        """Seconds until a job on a new image would begin."""
        with self._changed:
            return self._wait_for("")

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            ApiError: it would wait too long, or too many wait; says when to try again.
        """
        with self._changed:
            wait = self._wait_for(job.stored.id)
            if wait > self._settings.wait or self._count() >= self._settings.most_jobs:
                pause = max(wait - self._settings.wait, wait / 4, 1.0)
                text = f"{self._count()} jobs wait, about {wait:.1f} s of work; at most {self._settings.wait:g} s may"
                raise ApiError("too-busy", text, retry_after=min(pause, 60.0))
            self._waiting.setdefault(job.stored.id, Group()).jobs.append(job)
            self._last = time.monotonic()
            self._changed.notify_all()

    def wish(self, stored: Stored, image: Image) -> Future[None]:
        """Have an embedding made while nobody waits for masks; a job waits for one such pass at most."""
        wish = Wish(stored, image)
        with self._changed:
            if self._closed:
                wish.future.cancel()
            self._wishes.append(wish)
            self._changed.notify_all()
        return wish.future

    async def quiet(self) -> None:
        """Wait until there has been no job for a while."""
        while (pause := self._pause()) > 0:
            await asyncio.sleep(pause)

    def withdraw(self, job: Job) -> None:
        """Forget a job that nobody waits for any more; one that is being worked on is finished."""
        job.future.cancel()
        with self._changed:
            group = self._waiting.get(job.stored.id)
            if group is not None and job in group.jobs:
                group.jobs.remove(job)
                if not group.jobs:
                    del self._waiting[job.stored.id]

    def close(self) -> None:
        """Let the threads end; what waits is refused."""
        with self._changed:
            self._closed = True
            left = [job for group in self._waiting.values() for job in group.jobs]
            self._waiting.clear()
            wishes = list(self._wishes)
            self._changed.notify_all()
        for wish in wishes:
            wish.future.cancel()
        for job in left:
            refuse(job, ApiError("draining", "the server ends", retry_after=10))

    def next(self) -> Group | None:
        """The jobs of the image whose turn it is, or a wish; waits; None at the end. For the thread that computes."""
        with self._changed:
            self._working = []
            while (name := self._ready()) is None:
                if self._closed:
                    return None
                if self._wishes and not self._waiting and self._pause() <= 0:
                    wish = self._wishes.popleft()
                    return Group(image=wish.image, wish=wish)
                self._changed.wait(max(self._pause(), 0.01) if self._wishes and not self._waiting else None)
            group = self._waiting.pop(name)
            self._until = time.monotonic() + self._cost(name, group)
            self._working = list(group.jobs)
            self._changed.notify_all()
            return group

    def finished(self, job: Job) -> None:
        """Note that a job of the group last given is over."""
        with self._changed:
            self._working.remove(job)
            self._last = time.monotonic()

    def decode(self, load: Callable[[Stored], Image]) -> None:
        """Decode the images that come next, until the end. For the thread that decodes."""
        while (stored := self._next_to_decode()) is not None:
            try:
                image = load(stored)
            except Exception as error:
                with self._changed:
                    group = self._waiting.pop(stored.id, Group())
                for job in group.jobs:
                    refuse(job, error)
                continue
            with self._changed:
                if (waiting := self._waiting.get(stored.id)) is not None:
                    waiting.image = image
                self._changed.notify_all()

    def _pause(self) -> float:
        """Seconds until it has been quiet long enough."""
        with self._changed:
            return QUIET if self._waiting or self._working else self._last + QUIET - time.monotonic()

    def _next_to_decode(self) -> Stored | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._undecoded() is not None)
            return self._undecoded()

    def _undecoded(self) -> Stored | None:
        for _, group in zip(range(AHEAD), self._waiting.values(), strict=False):
            if group.image is None:
                return group.jobs[0].stored
        return None

    def _ready(self) -> str | None:
        """The first image that is decoded."""
        for _, (name, group) in zip(range(AHEAD), self._waiting.items(), strict=False):
            if group.image is not None:
                return name
        return None

    def _count(self) -> int:
        return sum(len(group.jobs) for group in self._waiting.values())

    def _wait_for(self, image: str) -> float:
        """Seconds until a job on this image would begin; the embedding of its own image is part of its work."""
        seconds = 0.0
        if self._working:
            own = self._working[0].stored.id == image
            seconds = self._prompts(self._working) if own else max(0.0, self._until - time.monotonic())
        for name, group in self._waiting.items():
            if name == image:
                return seconds + self._prompts(group.jobs)
            seconds += self._cost(name, group)
        return seconds

    def _cost(self, name: str, group: Group) -> float:
        coming = any(job.stored.id == name for job in self._working)
        embed = 0.0 if coming or self._embedded(name) else self._costs.of("embed")
        return embed + self._prompts(group.jobs)

    def _prompts(self, jobs: Sequence[Job]) -> float:
        return sum(self._costs.of(job.part) * len(job.prompts) for job in jobs)


def refuse(job: Job, error: Exception) -> None:
    """Answer a job with an error, unless nobody waits for it any more."""
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
