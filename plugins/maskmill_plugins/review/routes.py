"""The routes of the review page, with the same access control as those of a server."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from starlette.requests import Request

from maskmill import __version__
from maskmill_plugins._shared.team import WEB as TEAM_WEB

from ..annotate import pages
from ..annotate.routes import Crop, parse_crop
from ..annotate.session import LARGEST, SMALLEST, USUAL
from ..server.http.app import guard
from ..server.http.problems import add_error_handlers
from ..server.http.request_log import RequestLog
from .contact_sheet import ContactSheet
from .mask_wire import PromptRequest, ProposalReply
from .review_queue import QueueFilter
from .session import ReviewSession
from .team import describe_session
from .wire import (
    DecisionReply,
    DecisionRequest,
    NextReply,
    NextRequest,
    QueuePage,
    ReleaseRequest,
    ReviewImage,
    ReviewInfo,
    RunStatus,
    SheetPage,
    SheetReply,
    SheetRequest,
    State,
)

WEB = Path(__file__).parent / "web"
ROOT = "/review/"
Key = Annotated[str, Query(max_length=4096)]
Holder = Annotated[str, Query(max_length=200)]
Reviewer = Annotated[str, Query(max_length=200)]
Side = Annotated[int, Query(alias="max", ge=SMALLEST, le=LARGEST)]


def build_review_application(session: ReviewSession) -> RequestLog:
    """The application of a review, to be served."""
    app = FastAPI(title="maskmill review", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    add_error_handlers(app)
    pages.add_page(app, ROOT, (WEB, pages.WEB, TEAM_WEB))

    @app.get("/healthz")
    @app.get("/readyz")
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    _add_queue_routes(app, session)
    _add_image_routes(app, session)
    _add_sheet_routes(app, session)
    _add_team_routes(app, session)
    return guard(app, session.settings, session.admit, session.metrics)


def _add_queue_routes(app: FastAPI, session: ReviewSession) -> None:
    queue, file = session.queue, session.file

    @app.get("/v1/review/session")
    def describe_review(reviewer: Reviewer = "") -> ReviewInfo:
        return ReviewInfo(
            name=session.name,
            count=len(queue),
            pending=queue.pending,
            counts=queue.count_states(session.decisions_for(reviewer)),
            corrections=file.path.name,
            labels=list(dict.fromkeys([*queue.labels(), *file.labels()])),
            reviewer=session.reviewer,
            ask=session.ask,
            notice=session.notice,
            version=__version__,
        )

    @app.get("/v1/review/queue")
    def list_queue(
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        search: Annotated[str, Query(max_length=1000)] = "",
        label: Annotated[str | None, Query(max_length=1000)] = None,
        status: RunStatus = "",
        state: State = "",
        dropped: bool = False,
        sample: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        score: Annotated[float | None, Query(ge=0, le=1)] = None,
        holder: Holder = "",
        reviewer: Reviewer = "",
    ) -> QueuePage:
        """The images that pass the filters, the most doubtful first."""
        decisions = session.decisions_for(reviewer)
        filters = QueueFilter(search, label, status, state, dropped, sample, reviewer or session.reviewer, score)
        found = list(queue.select(decisions, filters))
        items = [session.describe(row, decisions.get(row.key), holder) for row, _ in found[offset : offset + limit]]
        return QueuePage(total=len(found), pending=queue.pending, counts=queue.count_states(decisions), items=items)

    @app.post("/v1/review/next")
    def take_next(body: NextRequest) -> NextReply:
        """The first image of the queue that is open on no other page; it is this page's for ten minutes."""
        session.leases.keep_only(body.holder, body.keep)
        passed = {*body.keep, *body.skip}
        who = body.reviewer or session.reviewer
        for row, _ in queue.select(session.decisions_for(who), QueueFilter(**body.filters.model_dump(), reviewer=who)):
            if row.key not in passed and session.leases.take(row.key, body.holder, who):
                return NextReply(image=session.open_image(row.key, body.holder, who))
        return NextReply(image=None)

    @app.post("/v1/review/release", status_code=204)
    def release(body: ReleaseRequest) -> Response:
        """The page is closed: what it had open is free."""
        session.leases.keep_only(body.holder, ())
        return Response(status_code=204)


def _add_image_routes(app: FastAPI, session: ReviewSession) -> None:
    @app.get("/v1/review/image")
    def open_image(key: Key, holder: Holder = "", reviewer: Reviewer = "") -> ReviewImage:
        """An image with its objects; it is this page's, unless another page has it open (`item.open_by`)."""
        if holder and key in session.queue:
            session.leases.take(key, holder, reviewer or session.reviewer)
        return session.open_image(key, holder, reviewer)

    @app.get("/v1/review/picture", response_class=Response)
    async def picture(request: Request, key: Key, most: Side = USUAL, crop: Crop = None) -> Response:
        """The upright image or a part of it, scaled down to this longer side."""
        result = await run_in_threadpool(session.load, key)
        assert result.size is not None, "load sees to it"
        region = None if crop is None else parse_crop(crop, result.size)
        tag = f'"{result.sha256[:32]}-{most}-{crop or "all"}"'
        return await _send(request, tag, session.pictures.preview(result, most, region))

    @app.post("/v1/review/mask")
    async def propose(request: Request, key: Key, body: PromptRequest) -> ProposalReply:
        """The mask that the run's backend makes for a prompt; "loading" until it is open."""
        result = await run_in_threadpool(session.load, key)
        return await session.model.propose(request, result, body)

    @app.post("/v1/review/prepare", status_code=204)
    async def prepare(key: Key) -> Response:
        """Let the model, if it is open, encode the image before the first click."""
        await session.model.prepare(await run_in_threadpool(session.load, key))
        return Response(status_code=204)

    @app.put("/v1/review/decision")
    def decide(key: Key, body: DecisionRequest) -> DecisionReply:
        """Save a decision; it is on disk when this responds."""
        return session.decide(key, body)


def _add_sheet_routes(app: FastAPI, session: ReviewSession) -> None:
    sheet = ContactSheet(session)

    @app.get("/v1/review/sheet")
    async def show(
        label: Annotated[str | None, Query(max_length=1000)] = None,
        reviewer: Reviewer = "",
    ) -> SheetPage:
        """Objects of a label that this reviewer has not seen on a sheet, the lowest scores first."""
        return sheet.show(label, reviewer or session.reviewer)

    @app.get("/v1/review/crop", response_class=Response)
    async def crop(request: Request, key: Key, index: Annotated[int, Query(ge=0)]) -> Response:
        """An object in its surroundings, its outline drawn."""
        result, mask = await run_in_threadpool(sheet.find, key, index)
        tag = f'"{result.sha256[:32]}-{index}-{hash(mask.counts):x}"'
        return await _send(request, tag, session.pictures.crop(result, mask))

    @app.post("/v1/review/sheet")
    async def apply(body: SheetRequest) -> SheetReply:
        """Images with a wrong object get a question; those of which every object was seen are accepted."""
        return sheet.apply(body.objects, body.reviewer)


def _add_team_routes(app: FastAPI, session: ReviewSession) -> None:
    @app.get("/v1/review/team")
    def describe_team() -> dict[str, Any]:
        """The figures of the team; see `describe_team`."""
        return {**describe_session(session.queue, session.file), "name": session.name, "version": __version__}


async def _send(request: Request, tag: str, made: Awaitable[tuple[bytes, str]]) -> Response:
    data, media_type = await made
    headers = {**pages.GUARDED, "Cache-Control": "private, no-cache"}
    return pages.cached_response(request, tag, data, media_type, headers)
