"""The service behind the routes: a backend with its queue, and the uploaded images."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import time
from collections.abc import Sequence
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request

from maskmill import Backend, Prompt, PromptError
from maskmill.chain.contract import fit_prompts
from maskmill.plugins.optional import input_side
from maskmill.plugins.threads import worker_threads
from maskmill_plugins._shared.http.wire import ModelInfo, Multimask, ServerLimits

from ..errors import ApiError
from ..metrics import Metrics
from ..settings import Settings
from .image_store import ImageStore, StoredImage
from .jobs import Job, JobResult
from .model_thread import ModelThread

#: Seconds between two checks whether the client is still connected.
DISCONNECT_CHECK = 0.5
#: Values of `sam`'s option `multimask`; other backends have no such option.
MULTIMASK: tuple[Multimask, ...] = ("auto", "all", "off")
_log = logging.getLogger("maskmill.server")


class ModelService:
    """What the routes work with.

    Attributes:
        settings: limits and access.
        metrics: counters and gauges.
        images: uploaded images.
        model_thread: the backend and its queue.
        draining: True once the server is shutting down: started requests are finished, new ones refused.

    Args:
        backend: not yet open.
        name: its registered name.
        settings: limits and access.
    """

    def __init__(self, backend: Backend, name: str, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.images = ImageStore(settings)
        self.model_thread = ModelThread(backend, name, settings, self.images, self.metrics)
        self.draining = False
        self._backend = backend
        self._name = name
        self._register_gauges()

    def title(self) -> str:
        """Backend and model, such as `sam vit_b`."""
        model = getattr(self._backend, "model", None)
        return f"{self._name} {model}" if isinstance(model, str) else self._name

    def check_ready(self) -> None:
        """Check that the model is loaded.

        Raises:
            ApiError: it is still loading.
        """
        if self.model_thread.state != "ready":
            raise ApiError("loading", "the model is still loading", retry_after=2)

    def check_open(self) -> None:
        """Check that the server is not shutting down.

        Raises:
            ApiError: it is.
        """
        if self.draining:
            raise ApiError("draining", "the server is shutting down; try another server or retry later", retry_after=5)

    def admit(self, method: str) -> None:
        """Check a request before its body is read; other methods than POST are answered until the end.

        Raises:
            ApiError: the server is shutting down.
        """
        if method == "POST":
            self.check_open()

    def describe_model(self) -> ModelInfo:
        """The model, what it accepts, and the limits.

        Raises:
            ApiError: it is still loading.
        """
        self.check_ready()
        return ModelInfo(
            backend=self._name,
            name=self.title(),
            model_id=self.model_thread.model_id,
            digest=self._backend.digest(),
            accepts=sorted(self._backend.accepts()),
            multimask=list(self._multimask_values()),
            limits=ServerLimits(
                image_bytes=self.settings.upload,
                image_pixels=self.settings.pixels,
                wait_seconds=self.settings.wait,
                deadline_seconds=self.settings.deadline,
            ),
            versions=find_versions(self._backend),
            threads=worker_threads(),
            input_side=input_side(self._backend),
        )

    async def compute_masks(
        self,
        request: Request,
        stored: StoredImage,
        prompts: Sequence[Prompt],
        multimask: Multimask | None = None,
        timeout: float | None = None,
    ) -> JobResult:
        """Queue a job and wait for its result.

        Args:
            request: the request to answer; if its client disconnects, the job is dropped.
            stored: the image.
            prompts: as the client sent them.
            multimask: replaces the backend's own option.
            timeout: seconds that the client waits.

        Raises:
            ApiError: it cannot be done, now or at all.
            ClientDisconnect: the client no longer waits.
        """
        self.check_ready()
        if multimask is not None and multimask not in self._multimask_values():
            raise ApiError("unsupported-prompt", f"the backend {self._name!r} has no option `multimask`")
        seconds = min(timeout or self.settings.deadline, self.settings.deadline)
        job = Job(
            stored,
            self._fit(prompts, stored.size),
            multimask,
            time.monotonic() + seconds,
            request.scope["state"]["name"],
        )
        self.model_thread.jobs.submit(job)
        return await self._wait(request, job, seconds)

    def _fit(self, prompts: Sequence[Prompt], size: tuple[int, int]) -> Sequence[Prompt]:
        try:
            return fit_prompts(self._name, self._backend, prompts, size)
        except PromptError as error:
            unsupported = any(prompt.needs - self._backend.accepts() for prompt in prompts)
            raise ApiError("unsupported-prompt" if unsupported else "unsuitable-prompt", str(error)) from None

    async def _wait(self, request: Request, job: Job, seconds: float) -> JobResult:
        future = asyncio.wrap_future(job.future)
        try:
            while not future.done():
                left = job.deadline - time.monotonic()
                await asyncio.wait({future}, timeout=max(0.0, min(DISCONNECT_CHECK, left)))
                if future.done():
                    break
                if left <= 0:
                    raise ApiError("deadline-exceeded", f"no result after {seconds:g} s")
                if await request.is_disconnected():
                    raise ClientDisconnect
            return future.result()
        finally:
            if not future.done():
                self.model_thread.jobs.withdraw(job)
                future.add_done_callback(_ignore_exception)

    def _multimask_values(self) -> tuple[Multimask, ...]:
        return MULTIMASK if "multimask" in type(self._backend).model_fields else ()

    def _register_gauges(self) -> None:
        gauge, model, images = self.metrics.gauge, self.model_thread, self.images
        gauge("jobs_waiting", "Jobs in the queue.", lambda: len(model.jobs))
        gauge("wait_seconds", "Seconds that a new job would wait.", model.jobs.estimate_wait)
        gauge("images", "Stored images.", lambda: len(images.files))
        gauge("image_bytes", "Bytes of stored image files.", lambda: images.files.bytes)
        gauge("decoded_bytes", "Bytes of decoded images in memory.", lambda: images.decoded.bytes)
        gauge("embeddings", "Embeddings in memory.", lambda: len(model.embeddings))
        gauge("embedding_bytes", "Bytes of embeddings in memory.", lambda: model.embeddings.bytes)
        gauge("ready", "1 if the model is loaded and the server is not shutting down.", self._is_ready)

    def _is_ready(self) -> float:
        return float(self.model_thread.state == "ready" and not self.draining)

    def close(self) -> None:
        """Stop the threads."""
        _log.info("closing")
        self.model_thread.close(patience=30.0 if self.model_thread.state == "ready" else 0.0)
        self.images.close()


def find_versions(backend: Backend) -> dict[str, str]:
    """The installed versions of maskmill and of the packages that decode and compute."""
    found = {}
    for name in ("maskmill", "pillow", "numpy", "opencv-python", *backend.requires):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name.replace("_", "-"))
    return found


def _ignore_exception(future: asyncio.Future[JobResult]) -> None:
    if not future.cancelled():
        future.exception()
