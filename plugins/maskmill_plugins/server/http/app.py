"""The routes of version 1 and of monitoring, and the application around them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Path
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request

from maskmill import Mask, PromptError, __version__
from maskmill.masks import match_prompts
from maskmill_plugins._shared.drawing.pixels import encode_png
from maskmill_plugins._shared.http.wire import (
    ID_PATTERN,
    ImageInfo,
    MaskFormat,
    MaskModel,
    MasksReply,
    MasksRequest,
    ModelInfo,
)

from ..compute.jobs import JobResult
from ..compute.service import ModelService
from ..errors import ApiError
from ..metrics import CONTENT_TYPE, Metrics
from ..settings import Settings
from .docs import EXAMPLES, UPLOAD_BODY, add_docs
from .problems import add_error_handlers, describe_responses
from .request_body import BodyLimits, add_image
from .request_log import RequestLog
from .security import AccessControl
from .upload_route import add_upload_route

#: The pattern is documented, not enforced: an id of another form is an unknown image.
ImageId = Annotated[
    str, Path(alias="id", description="from the upload's response", json_schema_extra={"pattern": ID_PATTERN})
]
JSON = "application/json"
TEXT: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}


def build_application(
    service: ModelService, add_routes: Callable[[FastAPI], None] | None = None
) -> tuple[FastAPI, RequestLog]:
    """The FastAPI application, and the ASGI application around it, which is to be served.

    Args:
        service: what the routes work with.
        add_routes: adds further routes.
    """
    app = FastAPI(title="maskmill", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    add_error_handlers(app)
    _add_image_routes(app, service)
    _add_mask_route(app, service)
    add_upload_route(app, service)
    _add_monitoring_routes(app, service)
    if add_routes is not None:
        add_routes(app)
    add_docs(app, service)
    return app, guard(app, service.settings, service.admit, service.metrics)


def guard(app: FastAPI, settings: Settings, admit: Callable[[str], None], metrics: Metrics) -> RequestLog:
    """The application behind access control, the limits of bodies, and the log of requests.

    Args:
        app: the application.
        settings: limits and access.
        admit: called with the method before a body is read; raises `ApiError` to refuse.
        metrics: where requests are counted.
    """
    guarded: Any = AccessControl(BodyLimits(app, settings, admit), settings)
    if settings.cors:
        guarded = CORSMiddleware(
            guarded, allow_origins=settings.cors, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"]
        )
    return RequestLog(guarded, metrics)


def _add_image_routes(app: FastAPI, service: ModelService) -> None:
    @app.post(
        "/v1/images",
        summary="Upload an image",
        status_code=201,
        response_model=ImageInfo,
        responses=describe_responses(
            {200: {"model": ImageInfo, "description": "already stored"}}, "unreadable-image", "draining"
        ),
        openapi_extra={"requestBody": UPLOAD_BODY},
    )
    async def upload(request: Request) -> Response:
        """A JPEG, PNG, BMP, TIFF, WebP or GIF file, as the body or as the part `file` of a multipart body."""
        stored, new = await add_image(service, request)
        status = 201 if new else 200
        headers = {"Location": f"/v1/images/{stored.id}"}
        return Response(stored.info().model_dump_json(), status, headers, JSON)

    @app.head(
        "/v1/images/{id}",
        summary="Check whether an image is stored",
        responses=describe_responses({200: {"description": "it is stored"}}, "unknown-image"),
    )
    async def known(image: ImageId) -> Response:
        """Lets a client skip the upload."""
        service.images.get(image)
        return Response(headers={"Content-Type": JSON})

    @app.delete(
        "/v1/images/{id}",
        summary="Delete an image",
        status_code=204,
        responses=describe_responses({204: {"description": "it is deleted"}}, "unknown-image"),
    )
    async def forget(image: ImageId) -> Response:
        """Deletes the file, its pixels and its embedding."""
        service.images.get(image)
        service.images.remove(image)
        service.model_thread.embeddings.remove(service.model_thread.key(image))
        return Response(status_code=204)

    @app.get("/v1/model", summary="Describe the model", responses=describe_responses({}, "loading"))
    async def model() -> ModelInfo:
        """The model, its hash, the prompts it accepts, and the server's limits."""
        return service.describe_model()


def _add_mask_route(app: FastAPI, service: ModelService) -> None:
    @app.post(
        "/v1/images/{id}/masks",
        summary="Segment",
        response_model=MasksReply,
        responses=describe_responses(
            {200: {"model": MasksReply}},
            "unknown-image",
            "unsuitable-prompt",
            "unsupported-prompt",
            "invalid-request",
            "image-failed",
            "loading",
            "draining",
            "out-of-memory",
            "deadline-exceeded",
        ),
        openapi_extra={"requestBody": {"content": {JSON: {"examples": EXAMPLES}}}},
    )
    async def masks(request: Request, image: ImageId, body: MasksRequest) -> Response:
        """Masks for 1 to 256 prompts, in pixels of the upright image; points and boxes are answered in order."""
        stored = service.images.get(image)
        try:
            prompts = [prompt.to_prompt() for prompt in body.prompts]
        except PromptError as error:
            raise ApiError("unsuitable-prompt", str(error)) from None
        result = await service.compute_masks(request, stored, prompts, body.multimask, body.timeout)
        return Response(await run_in_threadpool(encode_reply, result, body.format, stored.id), media_type=JSON)


def encode_reply(result: JobResult, format_: MaskFormat, image: str) -> bytes:
    """A `MasksReply` as JSON; it confirms the image and the number of prompts, for answers without masks."""
    masks = []
    for mask, number in zip(result.masks, match_prompts(result.masks, result.prompts), strict=True):
        if number is None:
            raise ApiError("internal-error", "the backend returned a mask for a prompt that was not in the request")
        masks.append(encode_mask(mask, number, format_))
    reply = MasksReply(masks=masks, seconds=result.seconds, image=image, prompts=len(result.prompts))
    return reply.model_dump_json(exclude_none=True).encode()


def encode_mask(mask: Mask, prompt: int, format_: MaskFormat) -> MaskModel:
    """A mask as it is sent, as the answer to the prompt of this number."""
    drawn = (
        base64.b64encode(encode_png(mask.array.astype(np.uint8) * 255, flat=True)).decode()
        if format_ == "png"
        else None
    )
    return MaskModel(
        prompt=prompt,
        size=mask.size,
        counts=mask.counts if drawn is None else None,
        png=drawn,
        score=mask.score,
        stability=mask.stability,
        box=None if mask.box is None else mask.box.xyxy,
        area=mask.area,
    )


def _add_monitoring_routes(app: FastAPI, service: ModelService) -> None:
    """Add `/healthz`, `/readyz` and `/metrics`; none of them waits for the model."""

    @app.head(
        "/healthz",
        summary="Check that the process is alive (headers only)",
        response_class=Response,
        responses=describe_responses({200: {"description": "as GET"}}),
    )
    @app.get(
        "/healthz",
        summary="Check that the process is alive",
        response_class=Response,
        responses=describe_responses({200: TEXT}),
    )
    async def healthz() -> Response:
        """Always 200."""
        return Response("ok\n", media_type="text/plain")

    @app.head(
        "/readyz",
        summary="Check that the server is ready (headers only)",
        response_class=Response,
        responses=describe_responses({200: {"description": "as GET"}}, "loading"),
    )
    @app.get(
        "/readyz",
        summary="Check that the server is ready",
        response_class=Response,
        responses=describe_responses({200: TEXT}, "loading"),
    )
    async def readyz() -> Response:
        """200 once the model is loaded; 503 before that and during shutdown."""
        service.check_open()
        service.check_ready()
        return Response("ready\n", media_type="text/plain")

    @app.head(
        "/metrics",
        summary="Metrics for Prometheus (headers only)",
        response_class=Response,
        responses=describe_responses({200: {"description": "as GET"}}),
    )
    @app.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses=describe_responses({200: TEXT}),
    )
    async def metrics() -> Response:
        """In Prometheus' text format."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})
