"""The routes that the annotation page needs, behind the same door as those of version 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import FastAPI, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.requests import Request

from maskmill import Prompt, PromptError, __version__
from maskmill_plugins._shared.http.wire import MOST_PROMPTS, PromptModel, image_id

from ..server.compute.host import Host
from ..server.compute.image_store import Stored
from ..server.http.problems import ApiError, responses
from ..server.http.uploads import add_image
from . import pages
from .downloads import download
from .previews import LARGEST, SMALLEST, USUAL, shrunk
from .prompts_file import NOTHING, TOOL, ChangedError, Status, status_of
from .session import Ahead, Desk
from .wire import (
    Accepted,
    EntryModel,
    EntryRequest,
    Format,
    ImageModel,
    Items,
    Neighbours,
    Preview,
    ResultRequest,
    Saved,
    Seen,
    Session,
    Wanted,
)

Key = Annotated[str, Query(max_length=4096, description="the image's key in the dataset")]
Search = Annotated[str, Query(max_length=1000)]
Kind = Annotated[str, Query(pattern="^(|todo|done|empty|rejected|failed)$")]
Side = Annotated[int, Query(alias="max", ge=SMALLEST, le=LARGEST, description="pixels of the longer side")]
PICTURE: dict[str, Any] = {"description": "the picture", "content": {"image/jpeg": {}, "image/png": {}}}
FILE: dict[str, Any] = {"description": "the file", "content": {"image/png": {}, "application/json": {}}}
JSON = "application/json"


def install(app: FastAPI, host: Host, desk: Desk) -> None:
    """Add the page and its routes."""
    pages.install(app)
    _lists(app, host, desk)
    _pictures(app, host, desk)
    _beside(app, host, desk)
    _keeping(app, host, desk)
    _files(app, host, desk)


def _lists(app: FastAPI, host: Host, desk: Desk) -> None:
    @app.get("/v1/annotate/session", summary="What is being annotated", responses=responses({}))
    def session() -> Session:
        """Answered while the model is loading too."""
        state = host.computing.state
        return Session(
            name=desk.name,
            count=len(desk.index),
            prompts_file=desk.store.path.name,
            labels=desk.labels(),
            model=host.model() if state == "ready" else None,
            state=state,
            reviewer=desk.reviewer,
            version=__version__,
        )

    @app.get("/v1/annotate/images", summary="List images", responses=responses({}))
    def images(
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
        search: Search = "",
        status: Kind = "",
    ) -> Items:
        """Those with this status whose key holds the text searched for, in the dataset's order."""
        found = desk.index.listing(desk.store.lines(), offset, limit, search, status)
        return Items.model_validate(found, from_attributes=True)

    @app.get("/v1/annotate/neighbours", summary="Find the images beside one", responses=responses({}, "not-found"))
    def neighbours(key: Key, search: Search = "", status: Kind = "") -> Neighbours:
        """The nearest ones before and after it in such a list; it need not be in the list itself."""
        number, _ = desk.ref(key)
        before, after = desk.index.beside(desk.store.lines(), number, search, status)
        return Neighbours(previous=before, next=after)


def _pictures(app: FastAPI, host: Host, desk: Desk) -> None:
    @app.get("/v1/annotate/image", summary="Open an image", responses=responses({}, "not-found", "unreadable-image"))
    async def image(key: Key) -> ImageModel:
        """Its size, what the prompts file says of it, and the id under which masks are asked for."""
        place = desk.place(key)
        stored = await desk.image(host, key)
        said, revision = await run_in_threadpool(desk.store.read, key)
        return ImageModel(
            **_of(stored),
            **place,
            key=key,
            entry=_entry(said),
            revision=revision,
            changed=_changed(said, stored),
            model=(_model(host) or {}).get("digest"),
        )

    @app.get(
        "/v1/annotate/preview",
        summary="Look at an image",
        response_class=Response,
        responses=responses({200: PICTURE}, "not-found", "unknown-image", "unreadable-image"),
    )
    async def preview(
        request: Request,
        key: Annotated[str | None, Query(max_length=4096)] = None,
        id_: Annotated[str | None, Query(alias="id", max_length=100)] = None,
        most: Side = USUAL,
    ) -> Response:
        """Upright, its longer side at most so long. Coordinates are those of the image itself, whatever this size."""
        if (key is None) == (id_ is None):
            raise ApiError("invalid-request", "query: exactly one of `key` and `id` is wanted")
        stored = host.images.get(str(id_)) if key is None else await desk.image(host, key)
        tag = f'"{stored.id[7:39]}-{most}"'
        headers = {**pages.GUARDED, "Cache-Control": "private, no-cache"}
        if pages.is_known(request, tag):
            return pages.unchanged(tag, headers)
        data, media_type = await desk.preview(host, stored, most)
        return pages.tagged(request, tag, data, media_type, headers)


def _beside(app: FastAPI, host: Host, desk: Desk) -> None:
    """Images that are not open: those to come, and one from elsewhere."""
    ahead = Ahead(desk, host)

    @app.post("/v1/annotate/prefetch", summary="Make images ready", status_code=202, responses=responses({}))
    async def prefetch(body: Wanted) -> Accepted:
        """While nobody waits for masks; instead of those named before."""
        return Accepted(accepted=ahead.want(body.keys))

    @app.post(
        "/v1/annotate/quick",
        summary="Try an image that is not of the dataset",
        responses=responses({}, "unreadable-image"),
    )
    async def quick(request: Request) -> ImageModel:
        """Its bytes are the body, its name is in the header `X-Name`, percent-encoded. Nothing of it is saved."""
        stored, _ = await add_image(host, request)
        name = unquote(request.headers.get("x-name", ""))[:255] or None
        return ImageModel(
            **_of(stored),
            key=None,
            index=None,
            entry=_entry(None),
            revision=NOTHING,
            previous=None,
            next=None,
            name=name,
        )


def _keeping(app: FastAPI, host: Host, desk: Desk) -> None:
    @app.put(
        "/v1/annotate/entry",
        summary="Save the prompts of an image",
        responses=responses({}, "not-found", "unreadable-image", "conflict", "not-saved"),
    )
    async def save(key: Key, body: EntryRequest) -> Saved:
        """They are on disk when this answers; `conflict` if somebody else has saved this image since."""
        desk.ref(key)
        stored = await desk.image(host, key)
        seen = body.seen or Seen(sha256=stored.sha256, size=list(stored.size))
        prompts = _checked(body.status, body.prompts, seen.size)
        said = {
            "prompts": [prompt.to_json() for prompt in prompts],
            "size": seen.size,
            "sha256": seen.sha256,
            "status": body.status,
            "reviewer": body.reviewer or desk.reviewer,
            "model": _model(host),
            "tool": f"{TOOL} {__version__}",
        }
        try:
            revision = await run_in_threadpool(desk.store.save, key, body.revision, said)
        except ChangedError:
            raise _conflict(*await run_in_threadpool(desk.store.read, key)) from None
        except OSError as error:
            raise ApiError("not-saved", f"{desk.store.path.name}: {error.strerror or error}", retry_after=5) from None
        return Saved(revision=revision, entry=_entry(said), changed=_changed(said, stored))


def _files(app: FastAPI, host: Host, desk: Desk) -> None:
    kinds = ("not-found", "unreadable-image", "unsuitable-prompt", "unsupported-prompt", "image-failed", "loading")

    async def made(request: Request, stored: Stored, key: str, prompts: Sequence[Prompt], kind: Format) -> Response:
        masks = []
        for start in range(0, len(prompts), MOST_PROMPTS):
            masks += (await host.masks(request, stored, prompts[start : start + MOST_PROMPTS])).masks
        image = await host.images.image_soon(stored)
        return await run_in_threadpool(download, image, key, prompts, masks, kind)

    @app.get(
        "/v1/annotate/result",
        summary="Download masks",
        response_class=Response,
        responses=responses({200: FILE}, *kinds),
    )
    async def result(request: Request, key: Key, format: Annotated[Format, Query()]) -> Response:  # noqa: A002
        """Of the prompts that are saved: an indexed mask, the objects cut out, or COCO, as a batch writes them."""
        desk.ref(key)
        stored = await desk.image(host, key)
        said, _ = await run_in_threadpool(desk.store.read, key)
        prompts = [Prompt.from_json(prompt) for prompt in (said or {}).get("prompts", [])]
        return await made(request, stored, key, prompts, format)

    @app.post(
        "/v1/annotate/result",
        summary="Download masks of an image that is not of the dataset",
        response_class=Response,
        responses=responses({200: FILE}, "unknown-image", *kinds),
    )
    async def of_prompts(request: Request, body: ResultRequest, format: Annotated[Format, Query()]) -> Response:  # noqa: A002
        """Of the prompts in the request."""
        stored = host.images.get(body.id)
        return await made(request, stored, body.name, _checked("todo", body.prompts, stored.size), format)


def _of(stored: Stored) -> dict[str, Any]:
    height, width = shrunk(stored.size, USUAL)
    return {
        "id": stored.id,
        "size": stored.size,
        "sha256": stored.sha256,
        "preview": Preview(width=width, height=height),
    }


def _entry(said: dict[str, Any] | None) -> EntryModel:
    if said is None:
        return EntryModel(status="todo", prompts=[])
    reviewer = said.get("reviewer")
    return EntryModel(
        status=status_of(said), prompts=said["prompts"], reviewer=reviewer if isinstance(reviewer, str) else None
    )


def _changed(said: dict[str, Any] | None, stored: Stored) -> bool:
    if said is None:
        return False
    sha256, size = said.get("sha256"), said.get("size")
    return bool(sha256 and image_id(sha256) != stored.id) or (size is not None and tuple(size) != stored.size)


def _checked(status: Status, given: Sequence[PromptModel], size: Sequence[int]) -> list[Prompt]:
    """The prompts, if they fit the image's size and the status.

    Raises:
        ApiError: they do not.
    """
    if (status == "done") > bool(given) or (status == "empty" and given):
        raise ApiError("invalid-request", f"body/prompts: {len(given)} do not go with the status {status!r}")
    prompts = []
    for number, model in enumerate(given):
        try:
            prompts.append(model.prompt())
            prompts[-1].fit(*size)
        except PromptError as error:
            raise ApiError("invalid-request", f"body/prompts/{number}: {error}") from None
    return prompts


def _model(host: Host) -> dict[str, str] | None:
    """What the masks were made with that the person saw."""
    if host.computing.state != "ready":
        return None
    info = host.model()
    return {"name": info.name, "id": info.model_id, "digest": info.digest}


def _conflict(said: dict[str, Any] | None, revision: str) -> ApiError:
    text = "somebody else has saved this image meanwhile; load it again, or save with the new revision"
    return ApiError("conflict", text, members={"entry": _entry(said).model_dump(mode="json"), "revision": revision})
