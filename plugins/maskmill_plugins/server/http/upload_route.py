"""`POST /upload`, the older protocol: takes an image and one prompt, returns the object as an RGBA PNG."""

from __future__ import annotations

import json
from typing import Annotated

import numpy as np
from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import Field, ValidationError
from starlette.requests import Request

from maskmill import Image, Mask, Prompt, PromptError
from maskmill.wording import count_noun
from maskmill_plugins._shared.drawing.pixels import encode_png
from maskmill_plugins._shared.http.wire import MOST_POINTS, Finite, Whole, WireModel

from ..compute.image_store import StoredImage
from ..compute.service import ModelService
from ..errors import ApiError
from .docs import FILE_PART
from .problems import describe_responses
from .request_body import MOST_FIELDS, MOST_FILES, add_file_part, get_field, get_file_part, require_multipart


class Coords(WireModel):
    """The form field `coords`: one prompt."""

    points: list[Annotated[list[Finite], Field(min_length=2, max_length=2)]] | None = Field(
        None, max_length=MOST_POINTS
    )
    labels: list[Annotated[Whole, Field(ge=0, le=1)]] | None = None
    box: Annotated[list[Finite], Field(min_length=4, max_length=4)] | None = None


_POINTS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}}
_COORDS = {
    "description": 'As JSON: {"points": [[x, y], ...], "labels": [1, 0, ...]} and/or {"box": [x1, y1, x2, y2]},'
    " or [[x, y], ...], all on the object; give a label for every point or omit labels.",
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


def add_upload_route(app: FastAPI, service: ModelService) -> None:
    """Add `POST /upload`."""

    @app.post(
        "/upload",
        summary="Segment (older protocol)",
        response_class=Response,
        responses=describe_responses(
            {200: {"description": "the object on a transparent background, RGBA", "content": {"image/png": {}}}},
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
        """One prompt for one image; the PNG has the image's size."""
        service.check_ready()
        stored, prompt = await _read_form(service, request)
        result = await service.compute_masks(request, stored, [prompt])
        image = await service.images.load_async(stored)
        best = max(result.masks, key=lambda mask: mask.score or 0.0)
        return Response(await run_in_threadpool(cut_out, image, best), media_type="image/png")


async def _read_form(service: ModelService, request: Request) -> tuple[StoredImage, Prompt]:
    require_multipart(request)
    async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
        part = get_file_part(form)
        prompt = parse_coords(get_field(form, "coords"))
        stored, _ = await add_file_part(service, part)
        return stored, prompt


def parse_coords(coords: str) -> Prompt:
    """The prompt in the form field `coords`.

    Raises:
        ApiError: it is not in the protocol's form, or is not a valid prompt.
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
        text = f"coords: {count_noun(len(points), 'point')}, but {len(labels)} in labels"
        text += "; give one per point: 1 on the object, 0 off it"
        raise ApiError("unsuitable-prompt", text)
    pairs = [[*point, label] for point, label in zip(points, labels, strict=True)]
    try:
        return Prompt.from_json({"points": pairs or None, "box": read.box})
    except PromptError as error:
        raise ApiError("unsuitable-prompt", f"coords: {error}") from None


def cut_out(image: Image, mask: Mask) -> bytes:
    """The object as an RGBA PNG of the image's size, transparent black around it."""
    rgba = np.zeros((*image.size, 4), np.uint8)
    inside = mask.array
    rgba[inside, :3] = image.pixels[inside]
    rgba[inside, 3] = 255
    return encode_png(rgba)
