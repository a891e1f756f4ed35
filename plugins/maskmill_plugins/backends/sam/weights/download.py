"""One large file over HTTP: resumed where it broke off, and never under its name before it is verified."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from filelock import FileLock, Timeout

from maskmill import PipelineError, Problem
from maskmill.files import replace, sha256_of

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


def download(url: str, target: Path, size: int, sha256: str, say: Say, bar: bool = False) -> None:
    """Fetch a file whose size and content are known; what broke off before is gone on with.

    Processes that want the same file wait for each other. Until it is verified, the file is called
    `target` with `.part` appended.

    Args:
        url: http or https; proxies as the environment says.
        target: where it has to lie; nothing happens if it does already, and another file is replaced.
        size: in bytes.
        sha256: hexadecimal.
        say: told what goes on, every few seconds.
        bar: show a bar on the standard error instead of these lines.

    Raises:
        PipelineError: the file cannot be had, is not the one that is wanted, or cannot be written here.
    """
    if importlib.util.find_spec("httpx") is None:
        raise PipelineError(Problem("downloading needs the package 'httpx'", hint='pip install "maskmill[sam]"'))
    try:
        if _is_whole(target, size, sha256):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{target}.lock")
        if not _locked_at_once(lock):
            say(f"another process is downloading {target.name}; waiting for it")
        with lock:
            if not _is_whole(target, size, sha256):
                say(f"downloading {target.name} ({size / 1e6:.0f} MB) from {url} into {target.parent}")
                _verified(_Download(url, target, size, sha256, say, bar))
    except OSError as error:
        hint = "make room" if error.errno == errno.ENOSPC else "MASKMILL_CACHE names another folder"
        text = f"cannot write {target.name} into {target.parent}: {error.strerror or error}"
        raise PipelineError(Problem(text, hint=f"{hint}; what arrived is kept")) from None


def _is_whole(path: Path, size: int, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == size and sha256_of(path) == sha256


def _locked_at_once(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


@dataclass
class _Download:
    """What is wanted, and how far it has come.

    Attributes:
        pieced: it was resumed: the parts may be of different files.
    """

    url: str
    target: Path
    size: int
    sha256: str
    say: Say
    bar: bool
    pieced: bool = False

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def have(self) -> int:
        """Bytes that are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def failed(self, why: object, hint: str = "") -> PipelineError:
        """The error that ends it."""
        mirror = "check MASKMILL_WEIGHTS_URL if it is set, or put the file there by hand: maskmill weights add FILE"
        return PipelineError(Problem(f"cannot download {self.url}: {why}", hint=hint or mirror))


def _verified(wanted: _Download) -> None:
    """Fetch, compare, rename.

    What an older try began may be damaged, and a server may have changed the file between two
    connections, so that a file of several pieces is tried once more in one.
    """
    if wanted.have:
        wanted.say(f"{wanted.have / 1e6:.0f} MB are there already")
    _fetch(wanted)
    found = sha256_of(wanted.part)
    if found != wanted.sha256 and wanted.pieced:
        wanted.say("what arrived in pieces is damaged; starting again")
        wanted.part.unlink()
        _fetch(wanted)
        found = sha256_of(wanted.part)
    if found != wanted.sha256:
        wanted.part.unlink()
        raise wanted.failed(f"it is not the file that was published: its sha256 is {found}, not {wanted.sha256}")
    replace(wanted.part, wanted.target)


def _fetch(wanted: _Download) -> None:
    """Bring `part` to its full size, over as many connections as it takes."""
    import httpx

    if wanted.have > wanted.size:
        wanted.part.unlink()
    if shutil.disk_usage(wanted.target.parent).free < wanted.size - wanted.have:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    pauses = list(PAUSES)
    with _client(wanted) as client:
        while (before := wanted.have) < wanted.size:
            try:
                _receive(client, wanted)
            except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise wanted.failed(error) from None
            except (httpx.TransportError, _BrokenError) as error:
                if refused := _certificate_problem(error):
                    hint = "if your network opens TLS, SSL_CERT_FILE names a file with its certificates"
                    raise wanted.failed(refused, hint) from None
                why = str(error) or type(error).__name__
                pauses = list(PAUSES) if wanted.have > before else pauses
                if not pauses:
                    raise wanted.failed(why) from None
                here = f"{wanted.have / 1e6:.0f} of {wanted.size / 1e6:.0f} MB are here"
                wanted.say(f"{why}; {here}; trying again in {pauses[0]:g} s")
                time.sleep(pauses.pop(0))
            except httpx.HTTPError as error:
                raise wanted.failed(error) from None


def _client(wanted: _Download) -> httpx.Client:
    import httpx

    try:
        return httpx.Client(timeout=TIMEOUT, follow_redirects=True)
    except (OSError, ValueError) as error:
        raise wanted.failed(error, "look at SSL_CERT_FILE and the proxies in the environment") from None


def _certificate_problem(error: BaseException | None) -> str:
    """Why the server is not who it says, "" if that is not what went wrong; trying again is no use."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {error.verify_message}"
        error = error.__cause__ or error.__context__
    return ""


def _receive(client: httpx.Client, wanted: _Download) -> None:
    """One connection: append what it gives to `part`, or write it anew if the server does not resume."""
    have = wanted.have
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", wanted.url, headers=headers) as response:
        answer = f"the server answers {response.status_code} {response.reason_phrase}"
        if response.status_code in BUSY:
            raise _BrokenError(answer)
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if response.status_code == 416 or (response.status_code == 206 and not resumed):
            wanted.part.unlink(missing_ok=True)
            raise _BrokenError("the server cannot go on where it broke off")
        if response.status_code not in (200, 206):
            raise wanted.failed(answer)
        start = have if response.status_code == 206 else 0
        _check_length(response, start, wanted)
        wanted.pieced = start > 0
        with wanted.part.open("ab" if start else "wb") as file:
            _write(response, file, wanted)
            file.flush()
            os.fsync(file.fileno())
            if file.tell() < wanted.size:
                raise _BrokenError("the connection ended early")


def _check_length(response: httpx.Response, start: int, wanted: _Download) -> None:
    """Refuse a file of another length before its first byte, as far as the server tells it."""
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and start + int(length) != wanted.size:
        kind = response.headers.get("Content-Type", "of an unknown type")
        raise wanted.failed(f"it has {start + int(length)} bytes ({kind}), not the {wanted.size} that were published")


def _write(response: httpx.Response, file: BinaryIO, wanted: _Download) -> None:
    """Write what comes, and show how it goes."""
    from tqdm import tqdm

    at = file.tell()
    began = said = time.monotonic()
    with tqdm(total=wanted.size, initial=at, unit="B", unit_scale=True, leave=False, disable=not wanted.bar) as bar:
        for chunk in response.iter_raw():
            if file.tell() + len(chunk) > wanted.size:
                raise wanted.failed(f"it is longer than the {wanted.size} bytes of the original")
            file.write(chunk)
            bar.update(len(chunk))
            now = time.monotonic()
            if not wanted.bar and now - said > SECONDS_BETWEEN_LINES:
                said = now
                rate = (file.tell() - at) / (now - began)
                left = tqdm.format_interval((wanted.size - file.tell()) / rate)
                progress = f"{file.tell() / 1e6:.0f} of {wanted.size / 1e6:.0f} MB"
                wanted.say(f"{progress}, {rate / 1e6:.1f} MB/s, {left} left")
