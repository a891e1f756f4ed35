"""The model thread: opens the backend, computes embeddings and masks with it, closes it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np

from maskmill import Backend, Box, Image, ImageError, Prompt, StopRun
from maskmill.chain.contract import compute_masks
from maskmill.chain.plugin_call import StepError, Trace
from maskmill_plugins._shared.http.wire import Multimask

from ..errors import ApiError
from ..metrics import Metrics
from ..settings import Settings
from .byte_cache import ByteCache
from .image_store import ImageStore
from .jobs import Job, JobGroup, JobQueue, JobResult, JobTimes, Part, Prefetch, refuse

T = TypeVar("T")
State = Literal["loading", "ready", "failed", "closed"]
_log = logging.getLogger("maskmill.server")


class ModelThread:
    """A backend that computes the jobs of a queue, in a thread of its own.

    Attributes:
        state: of the backend.
        error: why it could not be opened.
        jobs: the queue.
        embeddings: of the most recently used images, by `key`.

    Args:
        backend: not yet open.
        name: its registered name.
        settings: limits.
        images: the source of pixels.
        metrics: where prompts and times are counted.
    """

    def __init__(self, backend: Backend, name: str, settings: Settings, images: ImageStore, metrics: Metrics) -> None:
        self.state: State = "loading"
        self.error: BaseException | None = None
        self.model_id = ""
        self._digest = ""
        self._times = JobTimes()
        self.embeddings: ByteCache[tuple[str, ...], Any] = ByteCache(settings.embeddings, size_of)
        self.jobs = JobQueue(settings, self._times, self._has_embedding)
        self._backend = backend
        self._name = name
        self._images = images
        self._metrics = metrics
        self._embeds = True
        self._threads: list[threading.Thread] = []

    def start(self, on_state_change: Callable[[], None]) -> None:
        """Start to open the backend.

        Args:
            on_state_change: called in the model thread when `state` has changed.
        """
        for target in (partial(self._run, on_state_change), partial(self.jobs.decode, self._images.load)):
            thread = threading.Thread(target=target, name="maskmill-server", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self, patience: float = 30.0) -> None:
        """Stop the threads after their current job, waiting at most `patience` seconds for each."""
        self.jobs.close()
        for thread in self._threads:
            thread.join(patience)

    def key(self, image: str) -> tuple[str, ...]:
        """The cache key of an embedding: the image, the model, and the digest of the backend's options."""
        return image, self.model_id, self._digest

    def _has_embedding(self, image: str) -> bool:
        return not self._embeds or self.key(image) in self.embeddings

    def _run(self, on_state_change: Callable[[], None]) -> None:
        try:
            self.model_id, self._digest = self._backend.model_id(), self._backend.digest()
            self._backend.open()
            self._warm_up()
        except BaseException as error:
            self.state, self.error = "failed", error
            on_state_change()
            return
        self.state = "ready"
        on_state_change()
        while (group := self.jobs.next_group()) is not None:
            if group.prefetch is not None:
                self._prefetch(group.prefetch)
            self._compute(group)
        self._backend.close()
        self.state = "closed"

    def _warm_up(self) -> None:
        """Run the model once on noise, so that the first request is fast and the first estimate is measured."""
        # New noise each time: a cache on disk must not have it.
        noise = np.random.default_rng().integers(0, 255, (480, 640, 3), dtype=np.uint8)
        image = Image.from_array(noise, "warm-up")
        try:
            embedding = self._measure("embed", 1, lambda: self._backend.embed(image))
            self._embeds = embedding is not None
            if "box" in self._backend.accepts():
                prompt = Prompt(box=Box(160, 120, 480, 360))
                self._measure("prompts", 1, lambda: self._backend.masks(image, [prompt], embedding))
        except ImageError as error:
            _log.info("the warm-up on noise returned no mask: %s", error)

    def _measure(self, part: Part, count: int, call: Callable[[], T]) -> T:
        """Call, and record the time per prompt."""
        started = time.perf_counter()
        answer = call()
        seconds = time.perf_counter() - started
        self._times.add(part, seconds / count)
        self._metrics.job_seconds.labels(part).observe(seconds)
        return answer

    def _compute(self, group: JobGroup) -> None:
        assert group.image is not None, "the queue gives decoded images"
        for job in group.jobs:
            if time.monotonic() > job.deadline:
                refuse(job, ApiError("deadline-exceeded", "the job did not start before its deadline", retry_after=5))
            elif job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(self._compute_masks(job, group.image))
                except BaseException as error:
                    job.future.set_exception(self._to_client_error(error))
            self.jobs.mark_finished(job)

    def _prefetch(self, prefetch: Prefetch) -> None:
        if prefetch.future.set_running_or_notify_cancel():
            try:
                self._embed(prefetch.image, prefetch.stored.id)
                prefetch.future.set_result(None)
            except BaseException as error:
                prefetch.future.set_exception(self._to_client_error(error))

    def _compute_masks(self, job: Job, image: Image) -> JobResult:
        started = time.monotonic()
        count = len(job.prompts)
        _log.info(
            "processing %d prompt%s on %.19s", count, "s" * (count > 1), job.stored.id, extra={"request": job.name}
        )
        embedding = self._embed(image, job.stored.id)
        embedded = time.monotonic()
        backend = with_multimask(self._backend, job.multimask)
        call = partial(compute_masks, backend.masks, image, job.prompts, embedding)
        masks = self._measure(
            job.part, len(job.prompts), lambda: Trace().step("backend", self._name, call, image.sha256)
        )
        seconds = {
            "queue": round(started - job.queued, 6),
            "embed": round(embedded - started, 6),
            "masks": round(time.monotonic() - embedded, 6),
        }
        self._metrics.prompts.inc(len(job.prompts))
        return JobResult(job.prompts, masks, seconds)

    def _embed(self, image: Image, name: str) -> Any:
        """The embedding, computed if it is not cached; None if the backend has none."""
        key = self.key(name)
        if not self._embeds:
            return None
        if (known := self.embeddings.get(key)) is not None:
            self._metrics.embedding_hits.inc()
            return known
        call = partial(self._backend.embed, image)
        embedding = self._measure("embed", 1, lambda: Trace().step("backend", self._name, call, image.sha256))
        if embedding is None:
            self._embeds = False
            return None
        self._metrics.encoder_passes.inc()
        self.embeddings.put(key, embedding)
        return embedding

    def _to_client_error(self, error: BaseException) -> Exception:
        """The exception that the client gets for one raised by the backend."""
        if isinstance(error, StopRun):
            return ApiError("internal-error", f"the backend {self._name!r} cannot continue: {error}")
        if not isinstance(error, StepError):
            return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
        failure = error.failure
        if failure.traceback:
            _log.error("%s", failure.traceback)
        if "OutOfMemory" in failure.type or failure.type == "MemoryError":
            return ApiError("out-of-memory", f"{failure.type}: {failure.message}", retry_after=10)
        kind = "internal-error" if failure.traceback else "image-failed"
        return ApiError(kind, f"{failure.type}: {failure.message}")


def with_multimask(backend: Backend, multimask: Multimask | None) -> Backend:
    """The open backend with another value of its option `multimask`; model and state are shared."""
    return backend if multimask is None else backend.model_copy(update={"multimask": multimask})


def size_of(embedding: Any) -> int:
    """Bytes of an embedding; 1 MB for a type without a known size."""
    if isinstance(embedding, (list, tuple)):
        return sum(size_of(part) for part in embedding)
    if isinstance(embedding, dict):
        return sum(size_of(part) for part in embedding.values())
    return int(getattr(embedding, "nbytes", 0)) or 1_000_000
