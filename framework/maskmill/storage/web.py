"""Files on the web, which can be read but not listed."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from typing import Any

from ..errors import ImageReadError
from .addresses import hide_query
from .errors import BUSY, BusyStorage

#: Seconds that one request may take.
TIMEOUT = 60


def read_web(address: str) -> bytes:
    """The bytes of a file.

    Raises:
        ImageReadError: the server does not give it.
        BusyStorage: the server is busy, or cannot be reached.
    """
    with _open_web(address) as answer:
        try:
            return bytes(answer.read())
        except OSError as error:
            raise BusyStorage(f"{hide_query(address)}: {error}") from None


def stat_web(address: str) -> tuple[int, int]:
    """(size in bytes or -1, number of its version), from the headers.

    Raises:
        ImageReadError: as `read_web`.
        BusyStorage: as `read_web`.
    """
    with _open_web(address) as answer:  # signed addresses are for GET; what it would send is not read
        mark = str(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        size = str(answer.headers.get("Content-Length") or "-1")
        return int(size), int(hashlib.sha256(mark.encode()).hexdigest()[:15], 16)


def _open_web(address: str) -> Any:
    shown = hide_query(address)
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "maskmill"})  # noqa: S310
        return urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310 - http and https, see `is_address`
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in BUSY:
            raise BusyStorage(f"{shown}: the server answers {error.code}") from None
        raise ImageReadError(f"cannot read {shown}: the server answers {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise BusyStorage(f"{shown}: {getattr(error, 'reason', None) or error}") from None
