"""The model behind clicks: the run's own backend, opened in the background when it is first needed."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import click
from starlette.requests import Request

from maskmill import Backend, ImageResult, MaskmillError, Problem, Prompt, PromptError, Run, UsageError
from maskmill.plugins.registry import Registry
from maskmill_plugins._shared.http.wire import image_id

from ..server.command import SWITCH_INTERVAL, load_backend, prepare_backend
from ..server.compute.image_store import StoredImage
from ..server.compute.service import ModelService
from ..server.errors import ApiError
from ..server.settings import Settings
from .mask_wire import PromptRequest, ProposalReply, ProposedMask
from .pictures import Pictures

#: What `run.json` has in place of secret options.
MASKED = "**********"
_log = logging.getLogger("maskmill.server")
Loader = Callable[[], tuple[str, Backend]]


def load_run_backend(run: Run) -> tuple[str, Backend]:
    """The name and the stage of the backend that made a run, as it was recorded; not yet open.

    Raises:
        UsageError: it is not known, or there were several.
        MaskmillError: its plugin or an option is not valid any more.
    """
    hint = "name one: maskmill review OUTPUT --backend sam"
    pipelines = [each for each in run.pipelines() if isinstance(each.get("backend"), dict)]
    if not pipelines:
        raise UsageError(Problem("run.json does not say which backend made the masks", hint=hint))
    options = dict(pipelines[0]["backend"])
    if any(each["backend"] != options for each in pipelines):
        raise UsageError(Problem("the run was merged from runs with different backends", hint=hint))
    drop_ins = [Path(path) for each in pipelines for path in each.get("plugins", ())]
    if MASKED in options.values():  # the pipeline file, or the environment, has the secret
        file = run.about.get("file")
        if not isinstance(file, str):
            raise UsageError(Problem(f"run.json does not contain the secrets of {options['use']}", hint=hint))
        return load_backend(Path(file), None, None, (), drop_ins)
    stage = Registry.load(drop_ins).build("backend", options, run.folder)
    assert isinstance(stage, Backend), "the registry gives backends for this role"
    return str(options["use"]), stage


class ProposalModel:
    """Makes masks for points and boxes that a reviewer draws.

    Args:
        load: gives the backend, not yet open; called in a thread.
        settings: limits.
        pictures: of the run.
    """

    def __init__(self, load: Loader, settings: Settings, pictures: Pictures) -> None:
        self._load = load
        self._settings = settings
        self._pictures = pictures
        self._service: ModelService | None = None
        self._problem = ""
        self._thread: threading.Thread | None = None
        self._prepared: Future[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a thread opens the backend or computes with it; after `close`, longer than one waits for."""
        return self._thread is not None and self._find_state() in ("loading", "ready")

    def _find_state(self) -> str:
        if self._problem:
            return "failed"
        return "loading" if self._service is None else self._service.model_thread.state

    async def propose(self, request: Request, result: ImageResult, body: PromptRequest) -> ProposalReply:
        """The model's mask for a prompt; the first call begins to open the model.

        Raises:
            ApiError: the prompt does not fit the image or the model, or the image cannot be read.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._open, name="maskmill-model", daemon=True)
            self._thread.start()
        state = self._find_state()
        if state == "loading":
            return ProposalReply(state="loading")
        if state != "ready" or self._service is None:
            return ProposalReply(state="failed", reason=self._explain())
        stored = await self._store_image(self._service, result)
        try:
            prompt = Prompt.from_json(body.model_dump(exclude_none=True))
        except PromptError as error:
            raise ApiError("invalid-request", f"body: {error}") from None
        found = (await self._service.compute_masks(request, stored, [prompt])).masks
        if not found:
            return ProposalReply(state="ready")
        mask = max(found, key=lambda each: each.score or 0.0)
        box = None if mask.box is None else mask.box.xyxy
        proposed = ProposedMask(counts=mask.counts, score=mask.score, stability=mask.stability, box=box, area=mask.area)
        return ProposalReply(state="ready", mask=proposed)

    async def prepare(self, result: ImageResult) -> None:
        """Let the model encode an image while it has nothing else to do, instead of the image before; if it is open."""
        service = self._service
        if service is None or self._find_state() != "ready":
            return
        with contextlib.suppress(ApiError):  # the page says so where it shows the image
            stored = await self._store_image(service, result)
            image = await service.images.load_async(stored)
            if self._prepared is not None:
                self._prepared.cancel()
            self._prepared = service.model_thread.jobs.prefetch(stored, image)

    def close(self) -> None:
        """End the model's threads."""
        if self._service is not None:
            self._service.close()

    def _explain(self) -> str:
        if self._problem or self._service is None:
            return self._problem
        return _describe(self._service.model_thread.error)

    def _open(self) -> None:
        try:
            name, backend = self._load()
            if not backend.accepts() & {"points", "box"}:
                text = f"the backend {name!r} takes no points and boxes"
                raise UsageError(Problem(text, hint="start the review with one that does: --backend sam"))
            prepare_backend(name, backend)
            sys.setswitchinterval(SWITCH_INTERVAL)
            service = ModelService(backend, name, self._settings)
            service.model_thread.start(lambda: None)
            self._service = service
        except Exception as error:
            if not isinstance(error, MaskmillError):
                _log.exception("the model could not be loaded")
            self._problem = _describe(error)
            click.echo(f"note: {self._problem}", err=True)

    async def _store_image(self, service: ModelService, result: ImageResult) -> StoredImage:
        """The image where the model finds it, with the pixels that the run saw."""
        id_ = image_id(result.sha256)
        stored = service.images.files.get(id_)
        if stored is None or id_ not in service.images.decoded:
            data, image = await self._pictures.read(result)
            stored = StoredImage(id_, data, image.size)
            service.images.files.put(id_, stored)
            service.images.decoded.put(id_, image)
        return stored


def _describe(error: BaseException | None) -> str:
    if error is None:
        return "the server is shutting down"
    text = str(error) if isinstance(error, MaskmillError) else f"{type(error).__name__}: {error}"
    return f"the model could not be loaded: {text}"
