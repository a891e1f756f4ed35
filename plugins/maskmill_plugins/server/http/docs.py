"""The OpenAPI document and a page that shows it, without resources from other servers."""

from __future__ import annotations

import html
import json
import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from maskmill_plugins._shared.http.wire import ProblemModel

from ..compute.service import ModelService
from .security import OPEN

#: Example requests for masks in the document.
EXAMPLES: dict[str, Any] = {
    "box": {"summary": "a box", "value": {"prompts": [{"box": [75.0, 50.0, 380.0, 290.0], "label": "cat"}]}},
    "points": {
        "summary": "a point on the object and one off it",
        "value": {"prompts": [{"points": [[210.0, 140.0, 1], [20.0, 30.0, 0]]}], "multimask": "all"},
    },
    "many": {
        "summary": "two prompts, masks as PNG",
        "value": {"prompts": [{"box": [75, 50, 380, 290]}, {"points": [[210, 140]]}], "format": "png"},
    },
    "everything": {"summary": "everything mode", "value": {"prompts": [{"grid": {"points_per_side": 16}}]}},
}
KINDS = tuple(f"image/{kind}" for kind in ("jpeg", "png", "bmp", "tiff", "webp", "gif"))
#: Encoding of the part `file` of a multipart body.
FILE_PART = {"contentType": ", ".join(KINDS)}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
UPLOAD_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        **dict.fromkeys(KINDS, _BINARY),
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
            },
            "encoding": {"file": FILE_PART},
        },
    },
}
_STYLE = (
    ":root{color-scheme:light dark;--shade:light-dark(#f4f4f4,#2b2b2b)}"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;overflow-wrap:anywhere}"
    "pre{background:var(--shade);padding:.8em;overflow:auto}h2{border-top:1px solid #888;padding-top:.6em}"
    "code{background:var(--shade)}"
)


def add_docs(app: FastAPI, service: ModelService) -> None:
    """Add `/openapi.json` and `/docs`, to which `/` leads where there is no page."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build_document(app, service)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/openapi.json", include_in_schema=False)
    async def schema() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(render_page(app.openapi()))

    @app.get("/", include_in_schema=False)  # a page added before this route comes first
    async def start() -> RedirectResponse:
        return RedirectResponse("docs")


def build_document(app: FastAPI, service: ModelService) -> dict[str, Any]:
    """The OpenAPI document, with problem documents for all errors and the token if one is required."""
    found = get_openapi(
        title=f"maskmill: {service.title()}",
        version=app.version,
        description="Prompts in, masks out. Coordinates are pixels of the upright image, from its top-left corner.",
        routes=app.routes,
    )
    schemas = found["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["ProblemModel"] = ProblemModel.model_json_schema(ref_template="#/components/schemas/{model}")
    for path in found["paths"].values():
        for operation in path.values():
            _replace_framework_errors(operation)
    if service.settings.token is not None:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        for path in OPEN:
            for operation in found["paths"][path].values():
                operation["security"] = []
    return found


def _replace_framework_errors(operation: dict[str, Any]) -> None:
    answer = operation["responses"].get("422")
    if answer and "HTTPValidationError" in json.dumps(answer):
        problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemModel"}}}
        operation["responses"]["422"] = {"description": "the request is invalid", "content": problem}


def render_page(document: dict[str, Any]) -> str:
    """The document as an HTML page."""
    parts = [f"<h1>{html.escape(document['info']['title'])}</h1><p>{html.escape(document['info']['description'])}</p>"]
    parts.append('<p><a href="/openapi.json">openapi.json</a></p>')
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_render_operation(path, method, operation))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width"><title>maskmill</title>'
        f"<style>{_STYLE}</style>"
        f"{''.join(parts)}</html>"
    )


def _render_operation(path: str, method: str, operation: dict[str, Any]) -> str:
    answers = "".join(
        f"<li><code>{status}</code> {_render_text(answer.get('description', ''))[3:-4]}</li>"
        for status, answer in sorted(operation["responses"].items())
    )
    examples = "".join(
        f"<p>{html.escape(example['summary'])}</p><pre>{html.escape(json.dumps(example['value'], indent=1))}</pre>"
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for example in content.get("examples", {}).values()
    )
    text = _render_text(f"{operation['summary']}. {operation.get('description', '')}")
    return f"<h2><code>{method.upper()} {html.escape(path)}</code></h2>{text}{examples}<ul>{answers}</ul>"


def _render_text(text: str) -> str:
    """Paragraphs, with what stands in backticks as code."""
    marked = re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return "".join(f"<p>{paragraph}</p>" for paragraph in re.split(r"\n\s*\n", marked.strip()))
