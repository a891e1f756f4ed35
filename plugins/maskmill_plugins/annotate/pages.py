"""The static pages of annotate and review, and their security headers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import RedirectResponse, Response
from starlette.requests import Request

from ..server.errors import ApiError

WEB = Path(__file__).parent / "web"
ROOT = "/annotate/"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: The page runs only its own scripts, shows only its own images, and cannot be embedded in another page.
POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
#: In all responses of the annotation routes.
GUARDED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HEADERS = {**GUARDED, "Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}


def add_page(app: FastAPI, root: str = ROOT, folders: Sequence[Path] | None = None) -> None:
    """Add a page, and redirects to it.

    Args:
        app: to which it is added.
        root: its path, between slashes.
        folders: contain its files, the annotation page's by default; of several files of one name, the first is taken.
    """

    @app.get("/", include_in_schema=False)
    @app.get(root.rstrip("/"), include_in_schema=False)
    async def redirect() -> Response:
        return RedirectResponse(root, headers=HEADERS)

    @app.get(f"{root}{{asset:path}}", include_in_schema=False)
    def page(request: Request, asset: str) -> Response:
        assets = find_assets(folders)
        path = assets.get(asset or "index.html") or assets.get(f"{asset}.html")
        if path is None:
            raise ApiError("not-found", f"the page has no file {asset!r}")
        data = path.read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        return cached_response(request, tag, data, TYPES[path.suffix], HEADERS)


def find_assets(folders: Sequence[Path] | None = None) -> dict[str, Path]:
    """The files of a page by their relative URL: no other file is ever read."""
    files: dict[str, Path] = {}
    for folder in reversed(folders or (WEB,)):
        found = (path for path in folder.rglob("*") if path.suffix in TYPES and path.is_file())
        files |= {path.relative_to(folder).as_posix(): path for path in found}
    return files


def cached_response(request: Request, tag: str, data: bytes, media_type: str, headers: dict[str, str]) -> Response:
    """A response with an ETag; 304 if the browser has it cached."""
    if is_cached(request, tag):
        return not_modified(tag, headers)
    return Response(data, headers={**headers, "ETag": tag}, media_type=media_type)


def is_cached(request: Request, tag: str) -> bool:
    """Whether the browser has the response with this ETag."""
    return tag in (each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(","))


def not_modified(tag: str, headers: dict[str, str]) -> Response:
    """The response to a browser that has it cached."""
    return Response(status_code=304, headers={**headers, "ETag": tag})
