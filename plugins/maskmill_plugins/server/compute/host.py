"""One server: a backend, its queue, the images, and what all routes need of them."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time
from collections.abc import Sequence
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request

from maskmill import Backend, Prompt, PromptError
from maskmill.plugins.stage import worker_threads
from maskmill_plugins._shared.http.wire import Limits, ModelInfo, Multimask

from ..http.log import log
from ..http.metrics import Metrics
from ..http.problems import ApiError
from ..settings import Settings
from .image_store import ImageStore, Stored
from .jobs import Done, Job
from .model_thread import Computing

#: Seconds between two looks whether the caller is still there.
LOOK = 0.5
#: Multimask values that `sam` knows; other backends have no such option.
MULTIMASK: tuple[Multimask, ...] = ("auto", "all", "off")


class Host:
    """What the routes work with.

    Attributes:
        settings: limits and access.
        metrics: what is counted.
        images: uploaded images.
        computing: the backend behind its queue.
        draining: True from the moment on when the server shall end: what was begun is finished, nothing is begun.

    Args:
        backend: not yet open.
        name: its registered name.
        settings: limits and access.
    """

    def __init__(self, backend: Backend, name: str, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.images = ImageStore(settings)
        self.computing = Computing(backend, name, settings, self.images, self.metrics)
        self.draining = False
        self._backend = backend
        self._name = name
        self._register_gauges()

    def title(self) -> str:
        """The model in words, such as `sam vit_b`."""
        model = getattr(self._backend, "model", None)
        return f"{self._name} {model}" if isinstance(model, str) else self._name

    def check_ready(self) -> None:
        """Only a server with a loaded model goes on.

        Raises:
            ApiError: it is still loading.
        """
        if self.computing.state != "ready":
            raise ApiError("loading", "the model is being loaded", retry_after=2)

    def check_open(self) -> None:
        """A server that ends takes nothing new.

        Raises:
            ApiError: it ends.
        """
        if self.draining:
            raise ApiError("draining", "the server ends; another one, or a later try, will answer", retry_after=5)

    def door(self, method: str) -> None:
        """Asked when a request comes, before its body: what came before the end is still done.

        Raises:
            ApiError: the server ends.
        """
        if method == "POST":
            self.check_open()

    def model(self) -> ModelInfo:
        """What computes here.

        Raises:
            ApiError: it is still loading.
        """
        self.check_ready()
        return ModelInfo(
            backend=self._name,
            name=self.title(),
            model_id=self.computing.model_id,
            digest=self._backend.digest(),
            accepts=sorted(self.computing.accepts()),
            multimask=list(self._multimask()),
            limits=Limits(
                image_bytes=self.settings.upload,
                image_pixels=self.settings.pixels,
                wait_seconds=self.settings.wait,
                deadline_seconds=self.settings.deadline,
            ),
            versions=versions(self._backend),
            threads=worker_threads(),
        )

    async def masks(
        self,
        request: Request,
        stored: Stored,
        prompts: Sequence[Prompt],
        multimask: Multimask | None = None,
        timeout: float | None = None,
    ) -> Done:
        """Queue a job and wait for it.

        Args:
            request: whose answer this is; if the caller goes away, the job is dropped.
            stored: the image.
            prompts: as the caller gave them.
            multimask: instead of the backend's own.
            timeout: seconds that the caller waits.

        Raises:
            ApiError: it cannot be done, now or at all.
            ClientDisconnect: nobody waits for the answer any more.
        """
        self.check_ready()
        if multimask is not None and multimask not in self._multimask():
            raise ApiError("unsupported-prompt", f"the backend {self._name!r} has no option `multimask`")
        seconds = min(timeout or self.settings.deadline, self.settings.deadline)
        job = Job(
            stored, self._fitted(stored, prompts), multimask, time.monotonic() + seconds, request.scope["state"]["name"]
        )
        self.computing.jobs.submit(job)
        return await self._outcome(request, job, seconds)

    async def _outcome(self, request: Request, job: Job, seconds: float) -> Done:
        future = asyncio.wrap_future(job.future)
        try:
            while not future.done():
                left = job.deadline - time.monotonic()
                await asyncio.wait({future}, timeout=max(0.0, min(LOOK, left)))
                if future.done():
                    break
                if left <= 0:
                    raise ApiError("deadline-exceeded", f"no result after {seconds:g} s")
                if await request.is_disconnected():
                    raise ClientDisconnect
            return future.result()
        finally:
            if not future.done():
                self.computing.jobs.withdraw(job)
                future.add_done_callback(_forget)

    def _fitted(self, stored: Stored, prompts: Sequence[Prompt]) -> list[Prompt]:
        accepted = self.computing.accepts()
        for prompt in prompts:
            if unknown := prompt.needs - accepted:
                text = f"{self._name!r} takes {', '.join(sorted(accepted))}, not {', '.join(sorted(unknown))}"
                raise ApiError("unsupported-prompt", text)
        try:
            return [prompt.fit(*stored.size) for prompt in prompts]
        except PromptError as error:
            raise ApiError("unsuitable-prompt", str(error)) from None

    def _multimask(self) -> tuple[Multimask, ...]:
        return MULTIMASK if "multimask" in type(self._backend).model_fields else ()

    def _register_gauges(self) -> None:
        gauge, computing, images = self.metrics.gauge, self.computing, self.images
        gauge("jobs_waiting", "Jobs in the queue.", lambda: len(computing.jobs))
        gauge("wait_seconds", "Time that a new job would wait.", computing.jobs.expected_wait)
        gauge("images", "Images kept.", lambda: len(images.files))
        gauge("image_bytes", "Bytes of the files of images kept.", lambda: images.files.bytes)
        gauge("decoded_bytes", "Bytes of decoded images kept.", lambda: images.decoded.bytes)
        gauge("embeddings", "Embeddings kept.", lambda: len(computing.embeddings))
        gauge("embedding_bytes", "Bytes of embeddings kept.", lambda: computing.embeddings.bytes)
        gauge("ready", "1 if the model is loaded and the server does not end.", self._is_ready)

    def _is_ready(self) -> float:
        return float(self.computing.state == "ready" and not self.draining)

    def close(self) -> None:
        """End the threads."""
        log.info("closing")
        self.computing.close(patience=30.0 if self.computing.state == "ready" else 0.0)
        self.images.close()


def versions(backend: Backend) -> dict[str, str]:
    """Of maskmill, and of the packages that decode and compute."""
    found = {}
    for name in ("maskmill", "pillow", "numpy", "opencv-python", *backend.requires):
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name.replace("_", "-"))
    return found


def _forget(future: asyncio.Future[Done]) -> None:
    if not future.cancelled():
        future.exception()
