"""Errors as the caller gets them: RFC 9457 problem documents, each kind with a type that stays the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from maskmill_plugins._shared.http.wire import PROBLEM_TYPE, PROBLEMS, URN, ProblemModel

#: HTTP status of an error that the web framework raises -> kind of problem.
_BY_STATUS = {400: "invalid-request", 404: "not-found", 405: "method-not-allowed", 415: "unsupported-media-type"}
#: Errors listed in one answer.
MOST_ERRORS = 20


class ApiError(Exception):
    """A request that cannot be answered as asked.

    Args:
        kind: a key of `PROBLEMS`.
        detail: what is wrong and what to do, for the caller.
        retry_after: seconds after which another try makes sense; None if it never does.
        headers: of the answer.
        members: further members of the problem document.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        retry_after: float | None = None,
        headers: dict[str, str] | None = None,
        members: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members or {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, math.ceil(retry_after)))

    def response(self) -> Response:
        """The problem document."""
        return problem(self.kind, self.detail, headers=self.headers, members=self.members)


def problem(
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
        status: instead of the kind's own.
        headers: of the response.
        errors: where in the request.
        members: further ones of the document (RFC 9457, section 3.2).
    """
    status = status or PROBLEMS[kind]
    text = detail.encode("utf-8", "backslashreplace").decode()
    model = ProblemModel(
        type=URN + kind, title=kind.replace("-", " ").capitalize(), status=status, detail=text, errors=errors
    )
    text = json.dumps({**model.model_dump(mode="json", exclude_none=True), **(members or {})})
    return Response(text, status, headers, PROBLEM_TYPE)


def install(app: FastAPI) -> None:
    """Have every error of the application answered as a problem document."""
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def responses(good: Mapping[int, dict[str, Any]], *kinds: str) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says an operation can answer.

    Args:
        good: by status, what is no error.
        kinds: of problems, besides those that every operation can answer with.
    """
    by_status: dict[int, list[str]] = {400: ["invalid-request"]}
    for kind in ("unauthorized", "forbidden", "too-large", "upload-timeout", "too-busy", "internal-error", *kinds):
        by_status.setdefault(PROBLEMS[kind], []).append(kind)
    described: dict[int | str, dict[str, Any]] = dict(good.items())
    return described | {status: _documented(names) for status, names in sorted(by_status.items())}


def _documented(kinds: Sequence[str]) -> dict[str, Any]:
    text = " or ".join(f"`{URN}{kind}`" for kind in dict.fromkeys(kinds))
    schema = {"$ref": "#/components/schemas/ProblemModel"}
    return {"description": f"problem of type {text}", "content": {PROBLEM_TYPE: {"schema": schema}}}


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [{"at": "/".join(str(part) for part in each["loc"]), "message": each["msg"]} for each in error.errors()]
    first = found[0] if found else {"at": "", "message": "it cannot be read"}
    detail = f"{first['at']}: {first['message']}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
    return problem("invalid-request", detail, errors=found[:MOST_ERRORS])


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ApiError):  # raised while the framework read the body
        return error.__cause__.response()
    kind = _BY_STATUS.get(error.status_code, "invalid-request")
    headers = dict(error.headers or {})
    if error.status_code == 405:  # the framework names the methods of one of the routes only
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return problem(kind, f"{error.detail}: {request.url.path}", status=error.status_code, headers=headers)


def _methods(request: Request) -> set[str]:
    """Those that the routes of this path have together."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    return {
        method for route in routes if route.matches(request.scope)[0] != Match.NONE for method in route.methods or ()
    }


def unexpected(error: Exception) -> Response:
    """The answer to an error that nobody raised on purpose."""
    return problem("internal-error", f"{type(error).__name__}; the server's log says more")
