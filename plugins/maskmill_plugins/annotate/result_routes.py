"""The routes for what a batch run makes of the masks: what the filters do, and files to download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.requests import Request

from maskmill import Image, ImageError, ImageRef, Mask, Prompt, PromptError
from maskmill.chain.contract import check_mask
from maskmill.wording import count_noun
from maskmill_plugins._shared.http.wire import MOST_PROMPTS, PromptModel

from ..server.compute.image_store import StoredImage
from ..server.errors import ApiError
from ..server.http.app import encode_mask
from ..server.http.problems import describe_responses
from .downloads import make_download
from .filter_preview import FilterError, FilterPreview
from .prompts_file import Status
from .session import AnnotationSession
from .wire import FileFormat, FilteredMask, FilterReply, FilterRequest, ResultRequest, SentMask

Key = Annotated[str, Query(max_length=4096, description="the image's key in the dataset")]
FormatQuery = Annotated[FileFormat, Query(alias="format")]
FILE: dict[str, Any] = {"description": "the file", "content": {"image/png": {}, "application/json": {}}}


def add_result_routes(app: FastAPI, session: AnnotationSession) -> None:
    """Add the routes."""
    _add_filter_route(app, session)
    _add_download_routes(app, session)


def _add_filter_route(app: FastAPI, session: AnnotationSession) -> None:
    @app.post(
        "/v1/annotate/filters",
        summary="Apply the pipeline's filters",
        responses=describe_responses({}, "unknown-image"),
    )
    async def apply_filters(body: FilterRequest) -> FilterReply:
        """What a batch run makes of the masks of an image: a filter such as `nms` needs all of them at once."""
        stored = session.service.images.get(body.id)
        prompts = [prompt.fit(*stored.size) for prompt in check_prompts("todo", body.prompts, stored.size)]
        masks = await run_in_threadpool(_to_masks, body.masks, prompts, stored.size)
        if session.filters is None:
            return FilterReply(masks=[FilteredMask(label=mask.label) for mask in masks])
        image = await session.service.images.load_async(stored)
        try:
            filtered = await run_in_threadpool(_filter, session.filters, image, body.key, masks)
        except FilterError as error:
            return FilterReply(masks=[], problem=str(error))
        numbers = [sent.prompt for sent in body.masks]
        return FilterReply(masks=list(map(_describe, masks, filtered, numbers)))


def _to_masks(masks: Sequence[SentMask], prompts: Sequence[Prompt], size: tuple[int, int]) -> list[Mask]:
    return [_to_mask(number, sent, prompts, size) for number, sent in enumerate(masks)]


def _to_mask(number: int, sent: SentMask, prompts: Sequence[Prompt], size: tuple[int, int]) -> Mask:
    try:
        prompt = prompts[sent.prompt]
        return check_mask(Mask(size, sent.counts, sent.score, sent.stability, prompt), size)
    except IndexError:
        raise ApiError("invalid-request", f"body/masks/{number}/prompt: there is no such prompt") from None
    except ImageError as error:
        raise ApiError("invalid-request", f"body/masks/{number}: {error}") from None


def _filter(filters: FilterPreview, image: Image, key: str | None, masks: Sequence[Mask]) -> tuple[Mask, ...]:
    """The masks after the filters, which see the image under its name in the dataset."""
    return filters.apply(image if key is None else replace(image, ref=ImageRef(key, key)), masks)


def _describe(before: Mask, after: Mask, prompt: int) -> FilteredMask:
    changed = after.counts != before.counts
    return FilteredMask(
        dropped_by=after.dropped_by,
        reason=after.reason,
        label=after.label,
        mask=encode_mask(after, prompt, "coco_rle") if changed else None,
    )


def _add_download_routes(app: FastAPI, session: AnnotationSession) -> None:
    kinds = ("not-found", "unreadable-image", "unsuitable-prompt", "unsupported-prompt", "image-failed", "loading")
    service = session.service

    async def compute(
        request: Request, stored: StoredImage, key: str, prompts: Sequence[Prompt], kind: FileFormat
    ) -> Response:
        masks: list[Mask] = []
        for start in range(0, len(prompts), MOST_PROMPTS):
            masks += (await service.compute_masks(request, stored, prompts[start : start + MOST_PROMPTS])).masks
        image = await service.images.load_async(stored)
        if session.filters is not None:
            try:
                masks = list(await run_in_threadpool(_filter, session.filters, image, key, masks))
            except FilterError as error:
                raise ApiError("image-failed", str(error)) from None
        return await run_in_threadpool(make_download, image, key, prompts, masks, kind)

    @app.get(
        "/v1/annotate/result",
        summary="Download masks",
        response_class=Response,
        responses=describe_responses({200: FILE}, *kinds),
    )
    async def result(request: Request, key: Key, kind: FormatQuery) -> Response:
        """For the saved prompts: an indexed mask, the objects cut out, or COCO, as a batch run writes them."""
        session.find(key)
        stored = await session.load_image(key)
        entry, _ = await run_in_threadpool(session.prompts_file.read, key)
        prompts = [Prompt.from_json(prompt) for prompt in (entry or {}).get("prompts", [])]
        return await compute(request, stored, key, prompts, kind)

    @app.post(
        "/v1/annotate/result",
        summary="Download masks of an image outside the dataset",
        response_class=Response,
        responses=describe_responses({200: FILE}, "unknown-image", *kinds),
    )
    async def result_of_prompts(request: Request, body: ResultRequest, kind: FormatQuery) -> Response:
        """For the prompts in the request."""
        stored = service.images.get(body.id)
        return await compute(request, stored, body.name, check_prompts("todo", body.prompts, stored.size), kind)


def check_prompts(status: Status, models: Sequence[PromptModel], size: Sequence[int]) -> list[Prompt]:
    """The prompts, if they fit the image's size and the status.

    Raises:
        ApiError: they do not.
    """
    if (status == "done") > bool(models) or (status == "empty" and models):
        raise ApiError(
            "invalid-request",
            f"body/prompts: {count_noun(len(models), 'prompt')}, which contradicts the status {status!r}",
        )
    prompts = []
    for number, model in enumerate(models):
        try:
            prompts.append(model.to_prompt())
            prompts[-1].fit(*size)
        except PromptError as error:
            raise ApiError("invalid-request", f"body/prompts/{number}: {error}") from None
    return prompts
