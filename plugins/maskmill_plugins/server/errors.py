"""The error that any part of the server raises to answer a request with an HTTP problem document."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any


class ApiError(Exception):
    """A request that cannot be answered as asked.

    Args:
        kind: a key of `PROBLEMS`.
        detail: what is wrong and what to do, for the client.
        retry_after: seconds after which a retry makes sense; None if it never does.
        headers: of the response.
        members: further members of the problem document (RFC 9457, section 3.2).
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


def not_saved(path: Path, error: OSError) -> ApiError:
    """The answer to a request whose data could not be written to a file."""
    return ApiError("not-saved", f"{path.name}: {error.strerror or error}", retry_after=5)
