"""One large file over HTTP: resumed where it broke off, and never under its name before it is verified."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from maskmill import PipelineError, Problem
from maskmill.files import replace

from .checkpoints import file_sha256

if TYPE_CHECKING:
    import httpx

#: Seconds without a byte until a connection counts as broken.
TIMEOUT = 30.0
#: Seconds before each further try, counted from the last byte that arrived; then it is given up.
PAUSES = (1.0, 4.0, 15.0)
SECONDS_BETWEEN_LINES = 5.0
#: Answers that may be better in a while.
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})

Say = Callable[[str], None]


class _BrokenError(Exception):
    """The connection broke, or the server is busy."""


def download(url: str, target: Path, size: int, sha256: str, say: Say) -> None:
    """Fetch a file whose size and content are known; what broke off before is gone on with.

    Processes that want the same file wait for each other. Until it is verified, the file is called
    `target` with `.part` appended.

    Args:
        url: http or https; proxies as the environment says.
        target: where it has to lie; nothing happens if it does already.
        size: in bytes.
        sha256: hexadecimal.
        say: told what goes on, every few seconds.

    Raises:
        PipelineError: the file cannot be had, is not the one that is wanted, or cannot be written here.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{target}.lock")
        if not _locked_at_once(lock):
            say(f"another process is downloading {target.name}; waiting for it")
        with lock:
            if not target.exists():
                say(f"downloading {target.name} ({size / 1e6:.0f} MB) from {url} into {target.parent}")
                _verified(url, target, size, sha256, say)
    except OSError as error:
        hint = "make room" if error.errno == errno.ENOSPC else "MASKMILL_CACHE names another folder"
        text = f"cannot write {target.name} into {target.parent}: {error.strerror or error}"
        raise PipelineError(Problem(text, hint=f"{hint}; what arrived is kept")) from None


def _locked_at_once(lock: FileLock) -> bool:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


def _verified(url: str, target: Path, size: int, sha256: str, say: Say) -> None:
    """Fetch, compare, rename; what was begun by an older try may be wrong, so that is tried once more."""
    part = target.with_name(f"{target.name}.part")
    begun = part.exists() and part.stat().st_size > 0
    if begun:
        say(f"{part.stat().st_size / 1e6:.0f} MB are there already")
    _fetch(url, part, size, say)
    found = file_sha256(part)
    if found != sha256 and begun:
        say("what was there already is damaged; starting again")
        part.unlink()
        _fetch(url, part, size, say)
        found = file_sha256(part)
    if found != sha256:
        part.unlink()
        text = f"{url} is not the file that was published: its sha256 is {found}, not {sha256}"
        raise PipelineError(Problem(text, hint=_HINT))
    replace(part, target)


_HINT = "check MASKMILL_WEIGHTS_URL if it is set, or put the file there by hand: maskmill weights add FILE"


def _fetch(url: str, part: Path, size: int, say: Say) -> None:
    """Bring `part` to its full size, over as many connections as it takes."""
    import httpx

    have = part.stat().st_size if part.exists() else 0
    if have > size:
        part.unlink()
        have = 0
    _check_room(part, size - have)
    pauses = list(PAUSES)
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        while have < size:
            before = have
            try:
                _receive(client, url, part, size, say)
            except (httpx.TransportError, _BrokenError) as error:
                have = part.stat().st_size if part.exists() else 0
                pauses = list(PAUSES) if have > before else pauses
                why = str(error) or type(error).__name__
                if not pauses:
                    raise PipelineError(Problem(f"cannot download {url}: {why}", hint=_HINT)) from None
                say(f"{why}; {have / 1e6:.0f} of {size / 1e6:.0f} MB are here; trying again in {pauses[0]:g} s")
                time.sleep(pauses.pop(0))
            except httpx.HTTPError as error:
                raise PipelineError(Problem(f"cannot download {url}: {error}", hint=_HINT)) from None
            else:
                have = part.stat().st_size


def _check_room(part: Path, needed: int) -> None:
    if shutil.disk_usage(part.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _receive(client: httpx.Client, url: str, part: Path, size: int, say: Say) -> None:
    """One connection: append what it gives to `part`, or write it anew if the server does not resume."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code in BUSY:
            raise _BrokenError(f"the server answers {response.status_code} {response.reason_phrase}")
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if response.status_code == 416 or (response.status_code == 206 and not resumed):
            part.unlink(missing_ok=True)
            raise _BrokenError("the server cannot go on where it broke off")
        if response.status_code not in (200, 206):
            text = f"cannot download {url}: the server answers {response.status_code} {response.reason_phrase}"
            raise PipelineError(Problem(text, hint=_HINT))
        start = have if response.status_code == 206 else 0
        _check_length(url, response, start, size)
        said = time.monotonic()
        with part.open("ab" if start else "wb") as file:
            for chunk in response.iter_raw():
                if file.tell() + len(chunk) > size:
                    raise PipelineError(Problem(f"{url} is longer than the {size} bytes of the original", hint=_HINT))
                file.write(chunk)
                if time.monotonic() - said > SECONDS_BETWEEN_LINES:
                    said = time.monotonic()
                    say(f"{file.tell() / 1e6:.0f} of {size / 1e6:.0f} MB")
            file.flush()
            os.fsync(file.fileno())
            if file.tell() < size:
                raise _BrokenError("the connection ended early")


def _check_length(url: str, response: httpx.Response, start: int, size: int) -> None:
    """Refuse a file of another length before its first byte, as far as the server tells it."""
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and start + int(length) != size:
        kind = response.headers.get("Content-Type", "of an unknown type")
        text = f"{url} has {start + int(length)} bytes ({kind}), not the {size} that were published"
        raise PipelineError(Problem(text, hint=_HINT))
