"""The one thread that has the model: opens it, computes with it, closes it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np

from maskmill import Backend, Box, Image, ImageError, Mask, Prompt, StopRun
from maskmill.chain.contract import call_for_list
from maskmill.chain.plugin_call import StepError, Trace
from maskmill_plugins._shared.http.wire import Multimask

from ..http.metrics import Metrics
from ..http.problems import ApiError
from ..settings import Settings
from .byte_cache import ByteCache
from .costs import Costs, Part
from .image_store import ImageStore
from .jobs import Done, Group, Job, Jobs, Wish, refuse

T = TypeVar("T")
State = Literal["loading", "ready", "failed", "closed"]
_log = logging.getLogger("maskmill.server")


class Computing:
    """A backend behind a queue.

    Attributes:
        state: how far the backend is.
        error: why it could not be opened.
        jobs: the queue.
        embeddings: of images used last, by `key`.

    Args:
        backend: not yet open.
        name: its registered name.
        settings: limits.
        images: where pixels come from.
        metrics: what is counted.
    """

    def __init__(self, backend: Backend, name: str, settings: Settings, images: ImageStore, metrics: Metrics) -> None:
        self.state: State = "loading"
        self.error: BaseException | None = None
        self.model_id = ""
        self._digest = ""
        self.costs = Costs()
        self.embeddings: ByteCache[tuple[str, ...], Any] = ByteCache(settings.embeddings)
        self.jobs = Jobs(settings, self.costs, self._embedded)
        self._backend = backend
        self._name = name
        self._images = images
        self._metrics = metrics
        self._embeds = True
        self._threads: list[threading.Thread] = []

    def start(self, changed: Callable[[], None]) -> None:
        """Begin to open the backend.

        Args:
            changed: called, in the thread, when `state` has changed.
        """
        for target in (partial(self._compute, changed), partial(self.jobs.decode, self._images.image)):
            thread = threading.Thread(target=target, name="maskmill-server", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self, patience: float = 30.0) -> None:
        """End the threads after the job they are on; waits so many seconds for it."""
        self.jobs.close()
        for thread in self._threads:
            thread.join(patience)

    def accepts(self) -> frozenset[str]:
        """The kinds of prompt."""
        return self._backend.accepts()

    def key(self, image: str) -> tuple[str, ...]:
        """What decides an embedding: the file, the model, and how it is computed, by the options' digest."""
        return image, self.model_id, self._digest

    def _embedded(self, image: str) -> bool:
        return not self._embeds or self.key(image) in self.embeddings

    def _compute(self, changed: Callable[[], None]) -> None:
        try:
            self.model_id, self._digest = self._backend.model_id(), self._backend.digest()
            self._backend.open()
            self._warm_up()
        except BaseException as error:
            self.state, self.error = "failed", error
            changed()
            return
        self.state = "ready"
        changed()
        while (group := self.jobs.next()) is not None:
            if group.wish is not None:
                self._fulfil(group.wish)
            self._work(group)
        self._backend.close()
        self.state = "closed"

    def _warm_up(self) -> None:
        """Measure once, on noise: the first caller finds a warm model and an honest queue."""
        # New noise each time: a cache on disk must not know it.
        noise = np.random.default_rng().integers(0, 255, (480, 640, 3), dtype=np.uint8)
        image = Image.from_array(noise, "warm-up")
        try:
            embedding = self._timed("embed", 1, lambda: self._backend.embed(image))
            self._embeds = embedding is not None
            if "box" in self._backend.accepts():
                prompt = Prompt(box=Box(160, 120, 480, 360))
                self._timed("prompts", 1, lambda: self._backend.masks(image, [prompt], embedding))
        except ImageError as error:
            _log.info("the first trial, on noise, gave no mask: %s", error)

    def _timed(self, part: Part, count: int, call: Callable[[], T]) -> T:
        """Call, and measure what one of so many prompts takes."""
        started = time.perf_counter()
        answer = call()
        seconds = time.perf_counter() - started
        self.costs.measured(part, seconds / count)
        self._metrics.job_seconds.labels(part).observe(seconds)
        return answer

    def _work(self, group: Group) -> None:
        assert group.image is not None, "the queue gives decoded images"
        for job in group.jobs:
            if time.monotonic() > job.deadline:
                refuse(job, ApiError("deadline-exceeded", "the job's turn did not come in time", retry_after=5))
            elif job.future.set_running_or_notify_cancel():
                try:
                    job.future.set_result(self._done(job, group.image))
                except BaseException as error:
                    job.future.set_exception(self._explained(error))
            self.jobs.finished(job)

    def _fulfil(self, wish: Wish) -> None:
        if wish.future.set_running_or_notify_cancel():
            try:
                self._embedding(wish.image, wish.stored.id)
                wish.future.set_result(None)
            except BaseException as error:
                wish.future.set_exception(self._explained(error))

    def _done(self, job: Job, image: Image) -> Done:
        started = time.monotonic()
        count = len(job.prompts)
        _log.info(
            "processing %d prompt%s on %.19s", count, "s" * (count > 1), job.stored.id, extra={"request": job.name}
        )
        embedding = self._embedding(image, job.stored.id)
        embedded = time.monotonic()
        backend = with_multimask(self._backend, job.multimask)
        call = partial(call_for_list, Mask, backend.masks, image, job.prompts, embedding)
        masks = self._timed(job.part, len(job.prompts), lambda: Trace().step("backend", self._name, call, image.sha256))
        check_masks(masks, image, job)
        seconds = {
            "queue": round(started - job.came, 6),
            "embed": round(embedded - started, 6),
            "masks": round(time.monotonic() - embedded, 6),
        }
        self._metrics.prompts.inc(len(job.prompts))
        return Done(job.prompts, masks, seconds)

    def _embedding(self, image: Image, name: str) -> Any:
        """The embedding, made now if it is not there; None if the backend has none."""
        key = self.key(name)
        if not self._embeds:
            return None
        if (known := self.embeddings.get(key)) is not None:
            self._metrics.embedding_hits.inc()
            return known
        embed = partial(self._backend.embed, image)
        made = self._timed("embed", 1, lambda: Trace().step("backend", self._name, embed, image.sha256))
        if made is None:
            self._embeds = False
            return None
        self._metrics.encoder_passes.inc()
        self.embeddings.put(key, made, size_of(made))
        return made

    def _explained(self, error: BaseException) -> Exception:
        """What the caller is told of an exception out of the backend."""
        if isinstance(error, StopRun):
            return ApiError("internal-error", f"the backend {self._name!r} cannot go on: {error}")
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


def check_masks(masks: list[Mask], image: Image, job: Job) -> None:
    """Hold the backend to its contract.

    Raises:
        ApiError: a mask of another size, or a prompt with points or box without an answer.
    """
    asked = set(job.prompts)
    answered = {mask.prompt for mask in masks}
    wrong = [mask for mask in masks if mask.size != image.size or mask.prompt not in asked]
    missing = [prompt for prompt in asked - answered if prompt.needs <= {"points", "box"}]
    if wrong or missing:
        text = f"the backend gave {len(wrong)} masks of another size or prompt and no mask for {len(missing)} prompts"
        raise ApiError("internal-error", text)


def size_of(embedding: Any) -> int:
    """Bytes that an embedding takes, as far as that shows."""
    if isinstance(embedding, (list, tuple)):
        return sum(size_of(part) for part in embedding)
    if isinstance(embedding, dict):
        return sum(size_of(part) for part in embedding.values())
    return int(getattr(embedding, "nbytes", 0)) or 1_000_000
