"""The job queue of the model thread, and the estimate of how long a new job would wait.

Jobs on the same image run one after another, so that its embedding is computed once. A second
thread decodes the next images. The estimated time of the waiting jobs bounds the queue.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from maskmill import Image, Mask, Prompt
from maskmill.wording import count_noun
from maskmill_plugins._shared.http.wire import Multimask

from ..errors import ApiError
from ..settings import Settings
from .image_store import StoredImage

Part = Literal["embed", "prompts", "grid"]
#: Weight of the newest measurement.
NEWEST = 0.2
#: Everything mode asks about a thousand points, in batches: the time of this many prompts until it was measured.
GRID_IN_PROMPTS = 100
#: Seconds without a job after which embeddings are prefetched: a person who draws pauses between prompts.
QUIET = 1.0
#: Images decoded ahead of the one being computed.
AHEAD = 2


@dataclass
class JobTimes:
    """Moving averages of measured times, weighted to the newest; 0 before the first measurement.

    Attributes:
        seconds: by part of a job: the embedding of an image, one prompt, everything mode once.
    """

    seconds: dict[Part, float] = field(default_factory=dict)

    def add(self, part: Part, seconds: float) -> None:
        """Add a measurement."""
        before = self.seconds.get(part)
        self.seconds[part] = seconds if before is None else before + NEWEST * (seconds - before)

    def estimate(self, part: Part) -> float:
        """Seconds that one such part is expected to take."""
        guess = GRID_IN_PROMPTS * self.estimate("prompts") if part == "grid" else 0.0
        return self.seconds.get(part, guess)


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job.

    Attributes:
        prompts: of the job.
        masks: from the backend, each for one of these prompts.
        seconds: {"queue", "embed", "masks"}.
    """

    prompts: Sequence[Prompt]
    masks: Sequence[Mask]
    seconds: dict[str, float]


@dataclass(eq=False)
class Job:
    """One request for masks.

    Attributes:
        stored: the image.
        prompts: fitted to the image.
        multimask: replaces the backend's own option; None keeps that.
        deadline: by `time.monotonic`; a job that has not started by then is dropped.
        name: the request's, for the log.
        future: of the result.
        queued: when it was made, by `time.monotonic`.
    """

    stored: StoredImage
    prompts: Sequence[Prompt]
    multimask: Multimask | None
    deadline: float
    name: str = ""
    future: Future[JobResult] = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)

    @property
    def part(self) -> Part:
        """The kind of measurement that it counts as."""
        return "grid" if any(prompt.grid is not None for prompt in self.prompts) else "prompts"


@dataclass(eq=False)
class Prefetch:
    """An image whose embedding may be computed while no job waits.

    Attributes:
        stored: the image.
        image: its pixels.
        future: done when the embedding is there; cancelled when it is no longer needed.
    """

    stored: StoredImage
    image: Image
    future: Future[None] = field(default_factory=Future)


@dataclass(eq=False)
class JobGroup:
    """Waiting jobs on one image, or one prefetch.

    Attributes:
        jobs: in the order of arrival.
        image: None until it is decoded.
        prefetch: set instead of jobs.
    """

    jobs: list[Job] = field(default_factory=list)
    image: Image | None = None
    prefetch: Prefetch | None = None


class JobQueue:
    """The jobs that wait, and the group that is being computed.

    Args:
        settings: how long jobs may wait, and how many.
        times: measured times.
        has_embedding: whether the embedding of the image with this id is there already, or is not needed.
    """

    def __init__(self, settings: Settings, times: JobTimes, has_embedding: Callable[[str], bool]) -> None:
        self._settings = settings
        self._times = times
        self._has_embedding = has_embedding
        self._changed = threading.Condition()
        self._waiting: dict[str, JobGroup] = {}
        self._working: list[Job] = []
        self._prefetches: deque[Prefetch] = deque()
        self._last = -QUIET
        self._until = 0.0
        self._closed = False

    def __len__(self) -> int:
        """Number of waiting jobs."""
        with self._changed:
            return self._count()

    def estimate_wait(self) -> float:
        """Seconds until a job on a new image would start."""
        with self._changed:
            return self._estimate_wait("")

    def submit(self, job: Job) -> None:
        """Queue a job.

        Raises:
            ApiError: it would wait too long, or too many jobs wait; with the time of a retry.
        """
        with self._changed:
            wait = self._estimate_wait(job.stored.id)
            if wait > self._settings.wait or self._count() >= self._settings.most_jobs:
                pause = max(wait - self._settings.wait, wait / 4, 1.0)
                limit = f"(limit {self._settings.wait:g} s)"
                text = (
                    f"the queue is full: {count_noun(self._count(), 'job')} waiting, about {wait:.1f} s of work {limit}"
                )
                raise ApiError("too-busy", text, retry_after=min(pause, 60.0))
            self._waiting.setdefault(job.stored.id, JobGroup()).jobs.append(job)
            self._last = time.monotonic()
            self._changed.notify_all()

    def prefetch(self, stored: StoredImage, image: Image) -> Future[None]:
        """Compute an embedding while no job waits; a new job waits for at most one such computation."""
        prefetch = Prefetch(stored, image)
        with self._changed:
            if self._closed:
                prefetch.future.cancel()
            self._prefetches.append(prefetch)
            self._changed.notify_all()
        return prefetch.future

    async def wait_until_quiet(self) -> None:
        """Wait until there has been no job for `QUIET` seconds."""
        while (pause := self._quiet_time_left()) > 0:
            await asyncio.sleep(pause)

    def withdraw(self, job: Job) -> None:
        """Remove a job whose client no longer waits; one that is already being computed is finished."""
        job.future.cancel()
        with self._changed:
            group = self._waiting.get(job.stored.id)
            if group is not None and job in group.jobs:
                group.jobs.remove(job)
                if not group.jobs:
                    del self._waiting[job.stored.id]

    def close(self) -> None:
        """Let the threads end; waiting jobs are refused."""
        with self._changed:
            self._closed = True
            left = [job for group in self._waiting.values() for job in group.jobs]
            self._waiting.clear()
            prefetches = list(self._prefetches)
            self._changed.notify_all()
        for prefetch in prefetches:
            prefetch.future.cancel()
        for job in left:
            refuse(job, ApiError("draining", "the server is shutting down", retry_after=10))

    def next_group(self) -> JobGroup | None:
        """Wait for the next jobs or prefetch; None once the queue is closed. Called by the model thread."""
        with self._changed:
            self._working = []
            while (name := self._first_decoded()) is None:
                if self._closed:
                    return None
                timeout = None
                # A prefetch starts only after a quiet time, as a job that arrives during it has to wait for its end.
                if self._prefetches and not self._waiting:
                    timeout = self._quiet_time_left()
                    if timeout <= 0:
                        prefetch = self._prefetches.popleft()
                        return JobGroup(image=prefetch.image, prefetch=prefetch)
                self._changed.wait(timeout)
            group = self._waiting.pop(name)
            self._until = time.monotonic() + self._estimate(name, group)
            self._working = list(group.jobs)
            self._changed.notify_all()
            return group

    def mark_finished(self, job: Job) -> None:
        """Remove a job of the current group that is finished."""
        with self._changed:
            self._working.remove(job)
            self._last = time.monotonic()

    def decode(self, load: Callable[[StoredImage], Image]) -> None:
        """Decode the next images until the queue is closed. Called by the decoding thread."""
        while (stored := self._next_to_decode()) is not None:
            try:
                image = load(stored)
            except Exception as error:
                with self._changed:
                    group = self._waiting.pop(stored.id, JobGroup())
                for job in group.jobs:
                    refuse(job, error)
                continue
            with self._changed:
                if (waiting := self._waiting.get(stored.id)) is not None:
                    waiting.image = image
                self._changed.notify_all()

    def _quiet_time_left(self) -> float:
        """Seconds until there has been no job for `QUIET` seconds."""
        with self._changed:
            return QUIET if self._waiting or self._working else self._last + QUIET - time.monotonic()

    def _next_to_decode(self) -> StoredImage | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._first_undecoded() is not None)
            return self._first_undecoded()

    def _first_undecoded(self) -> StoredImage | None:
        for _, group in zip(range(AHEAD), self._waiting.values(), strict=False):
            if group.image is None:
                return group.jobs[0].stored
        return None

    def _first_decoded(self) -> str | None:
        for _, (name, group) in zip(range(AHEAD), self._waiting.items(), strict=False):
            if group.image is not None:
                return name
        return None

    def _count(self) -> int:
        return sum(len(group.jobs) for group in self._waiting.values())

    def _estimate_wait(self, image: str) -> float:
        """Seconds until a job on this image would start, not counting the embedding of its own image."""
        seconds = 0.0
        if self._working:
            own = self._working[0].stored.id == image
            seconds = self._estimate_prompts(self._working) if own else max(0.0, self._until - time.monotonic())
        for name, group in self._waiting.items():
            if name == image:
                return seconds + self._estimate_prompts(group.jobs)
            seconds += self._estimate(name, group)
        return seconds

    def _estimate(self, name: str, group: JobGroup) -> float:
        coming = any(job.stored.id == name for job in self._working)
        embed = 0.0 if coming or self._has_embedding(name) else self._times.estimate("embed")
        return embed + self._estimate_prompts(group.jobs)

    def _estimate_prompts(self, jobs: Sequence[Job]) -> float:
        return sum(self._times.estimate(job.part) * len(job.prompts) for job in jobs)


def refuse(job: Job, error: Exception) -> None:
    """Answer a job with an error, unless its client no longer waits."""
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
