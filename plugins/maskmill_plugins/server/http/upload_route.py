"""`POST /upload`: the older protocol. An image and its prompt go in, the object comes out as an RGBA PNG."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import Field, ValidationError
from starlette.requests import Request

from maskmill import Mask, Prompt, PromptError
from maskmill_plugins._shared.http.wire import MOST_POINTS, Finite, Whole, Wire

from ..compute.host import Host
from ..compute.image_store import Stored
from .docs import FILE_PART
from .problems import ApiError, responses
from .replies import cut_out
from .uploads import MOST_FIELDS, MOST_FILES, add_part, file_part


class Coords(Wire):
    """What `coords` says."""

    points: list[Annotated[list[Finite], Field(min_length=2, max_length=2)]] | None = Field(
        None, max_length=MOST_POINTS
    )
    labels: list[Annotated[Whole, Field(ge=0, le=1)]] | None = None
    box: Annotated[list[Finite], Field(min_length=4, max_length=4)] | None = None


_POINTS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}}
_COORDS = {
    "description": 'As JSON: {"points": [[x, y], ...], "labels": [1, 0, ...]} and/or {"box": [x1, y1, x2, y2]},'
    " or [[x, y], ...], all on the object; a label for each point, or none at all.",
    "anyOf": [Coords.model_json_schema(), {**_POINTS, "minItems": 1, "maxItems": MOST_POINTS}],
}
_FORM = {
    "type": "object",
    "required": ["file", "coords"],
    "properties": {"file": {"type": "string", "format": "binary"}, "coords": _COORDS},
}
_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _FORM,
            "encoding": {"coords": {"contentType": "application/json"}, "file": FILE_PART},
        }
    },
}


def install(app: FastAPI, host: Host) -> None:
    """Add the route."""

    @app.post(
        "/upload",
        summary="Segment, by the older protocol",
        response_class=Response,
        responses=responses(
            {200: {"description": "the object on a transparent ground, RGBA", "content": {"image/png": {}}}},
            "invalid-request",
            "unreadable-image",
            "unsuitable-prompt",
            "unsupported-prompt",
            "image-failed",
            "loading",
            "draining",
            "out-of-memory",
            "deadline-exceeded",
        ),
        openapi_extra={"requestBody": _BODY},
    )
    async def upload(request: Request) -> Response:
        """One prompt for one image; the answer is as large as the image."""
        host.check_ready()
        stored, prompt = await _taken(host, request)
        done = await host.masks(request, stored, [prompt])
        image = await host.images.image_soon(stored)
        return Response(await run_in_threadpool(cut_out, image, [best(done.masks)]), media_type="image/png")


async def _taken(host: Host, request: Request) -> tuple[Stored, Prompt]:
    async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
        part, coords = file_part(form), form.get("coords")
        if not isinstance(coords, str):
            raise ApiError("invalid-request", "the multipart body has no form field named `coords`")
        prompt = parse(coords)
        stored, _ = await add_part(host, part)
        return stored, prompt


def parse(coords: str) -> Prompt:
    """The prompt in the form field `coords`.

    Raises:
        ApiError: it is not of the form that the protocol has, or cannot be a prompt.
    """
    try:
        data = json.loads(coords)
    except (ValueError, RecursionError) as error:
        raise ApiError("invalid-request", f"coords is not JSON: {error}") from None
    try:
        read = Coords.model_validate({"points": data} if isinstance(data, list) else data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("coords", *first["loc"]))
        raise ApiError("invalid-request", f"{place}: {first['msg']}") from None
    points = read.points or []
    labels = [1] * len(points) if read.labels is None else read.labels
    if len(labels) != len(points):
        text = f"coords: {len(points)} points and {len(labels)} labels; each point has one: 1 on the object, 0 off it"
        raise ApiError("unsuitable-prompt", text)
    pairs = [[*point, label] for point, label in zip(points, labels, strict=True)]
    try:
        return Prompt.from_json({"points": pairs or None, "box": read.box})
    except PromptError as error:
        raise ApiError("unsuitable-prompt", f"coords: {error}") from None


def best(masks: list[Mask]) -> Mask:
    """The mask with the highest score."""
    return max(masks, key=lambda mask: mask.score or 0.0)
