"""The static page, with the headers that keep it to itself."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response
from starlette.requests import Request

from ..server.http.problems import ApiError

WEB = Path(__file__).parent / "web"
ROOT = "/annotate/"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
#: The page runs its own scripts only, shows its own pictures only, and cannot be put into another page.
POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
#: Of everything that the annotation routes answer.
GUARDED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HEADERS = {**GUARDED, "Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}


def install(app: FastAPI) -> None:
    """Add the page, and the ways to it."""

    @app.get("/", include_in_schema=False)
    @app.get("/annotate", include_in_schema=False)
    async def way() -> Response:
        return RedirectResponse(ROOT, headers=HEADERS)

    @app.get("/annotate/{asset:path}", include_in_schema=False)
    def page(request: Request, asset: str) -> Response:
        path = assets().get(asset or "index.html")
        if path is None:
            raise ApiError("not-found", f"the page has no part {asset!r}")
        data = path.read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        return tagged(request, tag, data, TYPES[path.suffix], HEADERS)


def assets() -> dict[str, Path]:
    """The parts of the page by their names below it: only what is in this list is ever read."""
    files = (path for path in WEB.rglob("*") if path.suffix in TYPES and path.is_file())
    return {path.relative_to(WEB).as_posix(): path for path in files}


def tagged(request: Request, tag: str, data: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """An answer with an ETag; 304 where the browser has it already."""
    if is_known(request, tag):
        return unchanged(tag, headers)
    return Response(data, headers={**headers, "ETag": tag}, media_type=media_type)


def is_known(request: Request, tag: str) -> bool:
    """Whether the browser says that it has what this tag stands for."""
    return tag in (each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(","))


def unchanged(tag: str, headers: dict[str, str]) -> Response:
    """The answer to a browser that has it."""
    return Response(status_code=304, headers={**headers, "ETag": tag})
