"""The routes of the annotation page, with the same access control as those of version 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import FastAPI, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.requests import Request

from maskmill import __version__
from maskmill_plugins._shared.http.wire import image_id

from ..server.compute.image_store import StoredImage
from ..server.compute.service import ModelService
from ..server.errors import ApiError, not_saved
from ..server.http.problems import describe_responses
from ..server.http.request_body import add_image
from . import pages
from .label_routes import add_label_routes
from .prompts_file import NO_REVISION, TOOL, ChangedError, status_of
from .result_routes import add_result_routes, check_prompts
from .session import LARGEST, SMALLEST, USUAL, AnnotationSession, Prefetcher, Region, shrink
from .wire import (
    EntryModel,
    EntryRequest,
    ImageListPage,
    ImageModel,
    ImageVersion,
    Neighbours,
    PrefetchReply,
    PrefetchRequest,
    PreviewSize,
    SaveReply,
    SessionInfo,
)

Key = Annotated[str, Query(max_length=4096, description="the image's key in the dataset")]
Search = Annotated[str, Query(max_length=1000)]
StatusFilter = Annotated[str, Query(pattern="^(|todo|done|empty|rejected|failed)$")]
Crop = Annotated[
    str | None, Query(pattern=r"^\d{1,8}(,\d{1,8}){3}$", description="part of the image: x,y,width,height in pixels")
]
Side = Annotated[int, Query(alias="max", ge=SMALLEST, le=LARGEST, description="pixels of the longer side")]
PICTURE: dict[str, Any] = {"description": "the preview", "content": {"image/jpeg": {}, "image/png": {}}}


def add_routes(app: FastAPI, session: AnnotationSession) -> None:
    """Add the page and its routes."""
    pages.add_page(app)
    _add_list_routes(app, session)
    _add_picture_routes(app, session)
    _add_prefetch_and_quick_routes(app, session)
    _add_save_route(app, session)
    add_result_routes(app, session)
    add_label_routes(app, session)


def _add_list_routes(app: FastAPI, session: AnnotationSession) -> None:
    @app.get("/v1/annotate/session", summary="Describe the session", responses=describe_responses({}))
    def describe_session() -> SessionInfo:
        """Also available while the model is loading."""
        state = session.service.model_thread.state
        return SessionInfo(
            name=session.name,
            count=len(session.images),
            prompts_file=session.prompts_file.path.name,
            labels=session.labels(),
            model=session.service.describe_model() if state == "ready" else None,
            state=state,
            reviewer=session.reviewer,
            filters=session.filters.names if session.filters else [],
            version=__version__,
        )

    @app.get("/v1/annotate/images", summary="List images", responses=describe_responses({}))
    def images(
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        search: Search = "",
        status: StatusFilter = "",
    ) -> ImageListPage:
        """Images with this status whose key contains the search text, in the dataset's order."""
        return session.images.page(session.prompts_file.lines(), offset, limit, search, status)

    @app.get("/v1/annotate/neighbours", summary="Find adjacent images", responses=describe_responses({}, "not-found"))
    def neighbours(key: Key, search: Search = "", status: StatusFilter = "") -> Neighbours:
        """The nearest images before and after it in the filtered list; the image itself need not match."""
        number, _ = session.find(key)
        before, after = session.images.find_neighbours(session.prompts_file.lines(), number, search, status)
        return Neighbours(previous=before, next=after)


def _add_picture_routes(app: FastAPI, session: AnnotationSession) -> None:
    @app.get(
        "/v1/annotate/image",
        summary="Open an image",
        responses=describe_responses({}, "not-found", "unreadable-image"),
    )
    async def image(key: Key) -> ImageModel:
        """Its size, its entry in the prompts file, and its id for requests for masks."""
        position = session.position(key)
        stored = await session.load_image(key)
        entry, revision = await run_in_threadpool(session.prompts_file.read, key)
        return ImageModel(
            **_describe_image(stored),
            **position,
            key=key,
            entry=_to_model(entry),
            revision=revision,
            changed=_is_changed(entry, stored),
            model=(_describe_model(session.service) or {}).get("digest"),
        )

    @app.get(
        "/v1/annotate/preview",
        summary="Preview an image",
        response_class=Response,
        responses=describe_responses({200: PICTURE}, "not-found", "unknown-image", "unreadable-image"),
    )
    async def preview(
        request: Request,
        key: Annotated[str | None, Query(max_length=4096)] = None,
        id_: Annotated[str | None, Query(alias="id", max_length=100)] = None,
        most: Side = USUAL,
        crop: Crop = None,
    ) -> Response:
        """The upright image or a part of it, scaled down to this longer side, never up.

        Prompts refer to the full-size image.
        """
        if (key is None) == (id_ is None):
            raise ApiError("invalid-request", "query: give exactly one of `key` and `id`")
        stored = session.service.images.get(str(id_)) if key is None else await session.load_image(key)
        region = None if crop is None else parse_crop(crop, stored.size)
        tag = f'"{stored.id[7:39]}-{most}-{crop or "all"}"'
        headers = {**pages.GUARDED, "Cache-Control": "private, no-cache"}
        if pages.is_cached(request, tag):
            return pages.not_modified(tag, headers)
        data, media_type = await session.preview(stored, most, region)
        return pages.cached_response(request, tag, data, media_type, headers)


def _add_prefetch_and_quick_routes(app: FastAPI, session: AnnotationSession) -> None:
    prefetcher = Prefetcher(session)

    @app.post("/v1/annotate/prefetch", summary="Prepare images", status_code=202, responses=describe_responses({}))
    async def prefetch(body: PrefetchRequest) -> PrefetchReply:
        """Prepares them while no job waits, in place of those requested before."""
        return PrefetchReply(accepted=prefetcher.request(body.keys))

    @app.post(
        "/v1/annotate/quick",
        summary="Try an image outside the dataset",
        responses=describe_responses({}, "unreadable-image"),
    )
    async def quick(request: Request) -> ImageModel:
        """The image is the body, its name the header `X-Name`, percent-encoded. Nothing is saved."""
        stored, _ = await add_image(session.service, request)
        name = unquote(request.headers.get("x-name", ""))[:255] or None
        return ImageModel(
            **_describe_image(stored),
            key=None,
            index=None,
            entry=_to_model(None),
            revision=NO_REVISION,
            previous=None,
            next=None,
            name=name,
        )


def _add_save_route(app: FastAPI, session: AnnotationSession) -> None:
    @app.put(
        "/v1/annotate/entry",
        summary="Save the prompts of an image",
        responses=describe_responses({}, "not-found", "unreadable-image", "conflict", "not-saved"),
    )
    async def save(key: Key, body: EntryRequest) -> SaveReply:
        """They are on disk when this responds; `conflict` if someone else has saved this image since."""
        session.find(key)
        stored = await session.load_image(key)
        seen = body.seen or ImageVersion(sha256=stored.sha256, size=list(stored.size))
        prompts = check_prompts(body.status, body.prompts, seen.size)
        entry = {
            "prompts": [prompt.to_json() for prompt in prompts],
            "size": seen.size,
            "sha256": seen.sha256,
            "status": body.status,
            "reviewer": body.reviewer or session.reviewer,
            "model": _describe_model(session.service),
            "tool": f"{TOOL} {__version__}",
        }
        file = session.prompts_file
        try:
            revision = await run_in_threadpool(file.save, key, body.revision, entry)
        except ChangedError:
            current, revision = await run_in_threadpool(file.read, key)
            text = "someone else has saved this image in the meantime; load it again, or save with the new revision"
            members = {"entry": _to_model(current).model_dump(mode="json"), "revision": revision}
            raise ApiError("conflict", text, members=members) from None
        except OSError as error:
            raise not_saved(file.path, error) from None
        return SaveReply(revision=revision, entry=_to_model(entry), changed=_is_changed(entry, stored))


def parse_crop(crop: str, size: Sequence[int]) -> Region:
    """The region, if it lies in an image of this (height, width).

    Raises:
        ApiError: it does not.
    """
    x, y, width, height = map(int, crop.split(","))
    if not (width and height and x + width <= size[1] and y + height <= size[0]):
        raise ApiError("invalid-request", f"query/crop: {crop} is not in the image of {size[1]}×{size[0]} pixels")
    return x, y, width, height


def _describe_image(stored: StoredImage) -> dict[str, Any]:
    height, width = shrink(stored.size, USUAL)
    return {
        "id": stored.id,
        "size": stored.size,
        "sha256": stored.sha256,
        "preview": PreviewSize(width=width, height=height),
    }


def _to_model(entry: dict[str, Any] | None) -> EntryModel:
    if entry is None:
        return EntryModel(status="todo", prompts=[])
    reviewer = entry.get("reviewer")
    return EntryModel(
        status=status_of(entry), prompts=entry["prompts"], reviewer=reviewer if isinstance(reviewer, str) else None
    )


def _is_changed(entry: dict[str, Any] | None, stored: StoredImage) -> bool:
    if entry is None:
        return False
    sha256, size = entry.get("sha256"), entry.get("size")
    return bool(sha256 and image_id(sha256) != stored.id) or (size is not None and tuple(size) != stored.size)


def _describe_model(service: ModelService) -> dict[str, str] | None:
    """The model that made the masks on the page; None if it is not loaded."""
    if service.model_thread.state != "ready":
        return None
    info = service.describe_model()
    return {"name": info.name, "id": info.model_id, "digest": info.digest}
