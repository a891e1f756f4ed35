"""HTTP errors as problem documents (RFC 9457), each kind with a stable type."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from maskmill_plugins._shared.http.wire import PROBLEM_TYPE, PROBLEMS, URN, ProblemModel

from ..errors import ApiError

#: HTTP status of an error that the web framework raises -> kind of problem.
_BY_STATUS = {400: "invalid-request", 404: "not-found", 405: "method-not-allowed", 415: "unsupported-media-type"}
#: Errors listed in one response.
MOST_ERRORS = 20


def problem_response(
    kind: str,
    detail: str,
    *,
    status: int | None = None,
    headers: dict[str, str] | None = None,
    errors: list[dict[str, Any]] | None = None,
    members: dict[str, Any] | None = None,
) -> Response:
    """A problem document as a response.

    Args:
        kind: a key of `PROBLEMS`.
        detail: what is wrong and what to do.
        status: replaces the kind's own status.
        headers: of the response.
        errors: the invalid parts of the request.
        members: further members of the document (RFC 9457, section 3.2).
    """
    status = status or PROBLEMS[kind]
    text = detail.encode("utf-8", "backslashreplace").decode()
    model = ProblemModel(
        type=URN + kind, title=kind.replace("-", " ").capitalize(), status=status, detail=text, errors=errors
    )
    text = json.dumps({**model.model_dump(mode="json", exclude_none=True), **(members or {})})
    return Response(text, status, headers, PROBLEM_TYPE)


def error_response(error: Exception) -> Response:
    """The problem document for an exception; only an `ApiError` shows its text to the client."""
    if isinstance(error, ApiError):
        return problem_response(error.kind, error.detail, headers=error.headers, members=error.members)
    return problem_response("internal-error", f"{type(error).__name__}; see the server's log for details")


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    app.add_exception_handler(ApiError, _handle_api_error)
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)
    app.add_exception_handler(HTTPException, _handle_http_error)


def describe_responses(good: Mapping[int, dict[str, Any]], *kinds: str) -> dict[int | str, dict[str, Any]]:
    """The responses of an operation for the OpenAPI document.

    Args:
        good: successful responses, by status.
        kinds: of problems, in addition to those that every operation can answer with.
    """
    by_status: dict[int, list[str]] = {400: ["invalid-request"]}
    for kind in ("unauthorized", "forbidden", "too-large", "upload-timeout", "too-busy", "internal-error", *kinds):
        by_status.setdefault(PROBLEMS[kind], []).append(kind)
    described: dict[int | str, dict[str, Any]] = dict(good.items())
    return described | {status: _describe_problem(names) for status, names in sorted(by_status.items())}


def _describe_problem(kinds: Sequence[str]) -> dict[str, Any]:
    text = " or ".join(f"`{URN}{kind}`" for kind in dict.fromkeys(kinds))
    schema = {"$ref": "#/components/schemas/ProblemModel"}
    return {"description": f"problem of type {text}", "content": {PROBLEM_TYPE: {"schema": schema}}}


async def _handle_api_error(request: Request, error: Exception) -> Response:
    return error_response(error)


async def _handle_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [{"at": "/".join(str(part) for part in each["loc"]), "message": each["msg"]} for each in error.errors()]
    first = found[0] if found else {"at": "", "message": "the request cannot be read"}
    detail = f"{first['at']}: {first['message']}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
    return problem_response("invalid-request", detail, errors=found[:MOST_ERRORS])


async def _handle_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ApiError):  # raised while the framework read the body
        return error_response(error.__cause__)
    kind = _BY_STATUS.get(error.status_code, "invalid-request")
    headers = dict(error.headers or {})
    if error.status_code == 405:  # the framework lists the methods of one matching route only
        headers["Allow"] = ", ".join(sorted(_find_methods(request)))
    return problem_response(kind, f"{error.detail}: {request.url.path}", status=error.status_code, headers=headers)


def _find_methods(request: Request) -> set[str]:
    """The methods of all routes with the request's path."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    return {
        method for route in routes if route.matches(request.scope)[0] != Match.NONE for method in route.methods or ()
    }
