"""The routes of version 1, and the application around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Path
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request

from maskmill import PromptError, __version__
from maskmill_plugins._shared.http.wire import ID_PATTERN, ImageInfo, MasksReply, MasksRequest, ModelInfo

from ..compute.host import Host
from . import health as watching, upload_route as legacy
from .docs import EXAMPLES, UPLOAD_BODY, described
from .observing import Observing
from .problems import ApiError, install, responses
from .receiving import Receiving
from .replies import reply
from .security import Access
from .uploads import add_image

#: The form is documented, not enforced: what has another form is an image that is not here.
ImageId = Annotated[
    str, Path(alias="id", description="what the upload answered", json_schema_extra={"pattern": ID_PATTERN})
]
JSON = "application/json"


def application(host: Host, add: Callable[[FastAPI], None] | None = None) -> tuple[FastAPI, Observing]:
    """The FastAPI application, and the ASGI application around it, which is to be served.

    Args:
        host: what the routes work with.
        add: adds further routes.
    """
    app = FastAPI(title="maskmill", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    install(app)
    _images(app, host)
    _masks(app, host)
    legacy.install(app, host)
    watching.install(app, host)
    if add is not None:
        add(app)
    described(app, host)
    guarded: Any = Access(Receiving(app, host.settings, host.door), host.settings)
    if host.settings.cors:
        guarded = CORSMiddleware(
            guarded, allow_origins=host.settings.cors, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"]
        )
    return app, Observing(guarded, host.metrics)


def _images(app: FastAPI, host: Host) -> None:
    @app.post(
        "/v1/images",
        summary="Upload an image",
        status_code=201,
        response_model=ImageInfo,
        responses=responses(
            {200: {"model": ImageInfo, "description": "known already"}}, "unreadable-image", "draining"
        ),
        openapi_extra={"requestBody": UPLOAD_BODY},
    )
    async def upload(request: Request) -> Response:
        """A JPEG, PNG, BMP, TIFF, WebP or GIF file: its bytes as the body, or multipart with a part `file`."""
        stored, new = await add_image(host, request)
        status = 201 if new else 200
        headers = {"Location": f"/v1/images/{stored.id}"}
        return Response(stored.info().model_dump_json(), status, headers, JSON)

    @app.head(
        "/v1/images/{id}",
        summary="Ask whether an image is here",
        responses=responses({200: {"description": "it is here"}}, "unknown-image"),
    )
    async def known(image: ImageId) -> Response:
        """So that a client can skip the upload."""
        host.images.get(image)
        return Response(headers={"Content-Type": JSON})

    @app.delete(
        "/v1/images/{id}",
        summary="Forget an image",
        status_code=204,
        responses=responses({204: {"description": "it is forgotten"}}, "unknown-image"),
    )
    async def forget(image: ImageId) -> Response:
        """Its file, its pixels and its embedding."""
        host.images.get(image)
        host.images.remove(image)
        host.computing.embeddings.remove(host.computing.key(image))
        return Response(status_code=204)

    @app.get("/v1/model", summary="What computes here", responses=responses({}, "loading"))
    async def model() -> ModelInfo:
        """The model, its hash, what it takes, and the limits."""
        return host.model()


def _masks(app: FastAPI, host: Host) -> None:
    @app.post(
        "/v1/images/{id}/masks",
        summary="Segment",
        response_model=MasksReply,
        responses=responses(
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
        """Masks of 1 to 256 prompts, in pixels of the upright image: those of points and boxes in their order."""
        stored = host.images.get(image)
        try:
            prompts = [prompt.prompt() for prompt in body.prompts]
        except PromptError as error:
            raise ApiError("unsuitable-prompt", str(error)) from None
        done = await host.masks(request, stored, prompts, body.multimask, body.timeout)
        return Response(await run_in_threadpool(reply, done, body.format), media_type=JSON)
