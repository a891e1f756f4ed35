"""Downloading one large file over HTTP: resumed after interruptions, and renamed only once it is verified."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from maskmill import PipelineError, Problem
from maskmill.files import replace, sha256_of
from maskmill_plugins._shared.http.connections import find_proxy

from .checkpoints import mark_verified, weights_folder
from .published import MODELS

if TYPE_CHECKING:
    import httpx

#: Seconds without a byte until a connection counts as broken.
TIMEOUT = 30.0
#: Seconds before each retry. Every connection that brings new bytes starts the list again.
PAUSES = (1.0, 4.0, 15.0)
SECONDS_BETWEEN_LINES = 5.0
#: Status codes that may be temporary.
RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})

Say = Callable[[str], None]


class _RetryableError(Exception):
    """The connection broke, or the server is busy."""


def download_model(model: str, say: Say, folder: Path | None = None, bar: bool = False) -> Path:
    """Download the published checkpoint of a model, and verify it.

    Args:
        model: a key of `MODELS`.
        say: takes progress lines.
        folder: where to store it; None: `weights_folder`.
        bar: show a progress bar on standard error.

    Raises:
        PipelineError: it cannot be downloaded, or cannot be written.
    """
    published = MODELS[model]
    path = (folder or weights_folder()) / published.file
    download(published.url, path, published.bytes, published.sha256, say, bar)
    mark_verified(path, published.sha256)
    return path


def download(url: str, target: Path, size: int, sha256: str, say: Say, bar: bool = False) -> None:
    """Download a file of known size and content, continuing an earlier attempt if there is one.

    Processes that need the same file wait for each other. Until it is verified, the file is
    named `target` with `.part` appended.

    Args:
        url: http or https; proxies are taken from the environment.
        target: the file to write; left alone if it is already right, replaced if it is not.
        size: in bytes.
        sha256: hexadecimal.
        say: takes progress lines, one every few seconds.
        bar: show a progress bar on standard error instead of these lines.

    Raises:
        PipelineError: the file cannot be downloaded, has another content, or cannot be written.
    """
    if importlib.util.find_spec("httpx") is None:
        raise PipelineError(Problem("downloading needs the package 'httpx'", hint='pip install "maskmill[sam]"'))
    try:
        if _is_complete(target, size, sha256):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{target}.lock")
        if not _is_free(lock):
            say(f"another process is downloading {target.name}; waiting for it")
        with lock:
            if not _is_complete(target, size, sha256):
                say(f"downloading {target.name} ({size / 1e6:.0f} MB) from {url} into {target.parent}")
                if target.is_file():
                    say(f"the file {target} is not the published one (another size or content); it will be replaced")
                _Download(url, target, size, sha256, say, bar).run()
    except OSError as error:
        full = error.errno == errno.ENOSPC
        hint = "free some disk space" if full else "set MASKMILL_CACHE to use another folder"
        text = f"cannot write {target.name} into {target.parent}: {error.strerror or error}"
        raise PipelineError(Problem(text, hint=f"{hint}; what was downloaded so far is kept")) from None


def _is_complete(path: Path, size: int, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == size and sha256_of(path) == sha256


def _is_free(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True


@dataclass
class _Download:
    """A download in progress.

    Attributes:
        resumed: the last connection continued an earlier one, so the parts may be of different files.
        connected: a server has answered.
    """

    url: str
    target: Path
    size: int
    sha256: str
    say: Say
    bar: bool
    resumed: bool = False
    connected: bool = False

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def received(self) -> int:
        """Bytes on disk."""
        return self.part.stat().st_size if self.part.exists() else 0

    def run(self) -> None:
        """Fetch, verify, rename.

        An earlier attempt may have left damaged bytes, and the server may have replaced the file
        between two connections, so a resumed file that is wrong is fetched once more from the start.
        """
        earlier = self.received
        if earlier:
            self.say(f"continuing after the {self.received / 1e6:.0f} MB downloaded earlier")
        self._fetch()
        found = sha256_of(self.part)
        if found != self.sha256 and (self.resumed or earlier == self.size):
            self.say(f"{self.part}, left by an earlier attempt, is damaged; downloading it again from the start")
            self.part.unlink()
            self._fetch()
            found = sha256_of(self.part)
        if found != self.sha256:
            self.part.unlink()
            raise self._error(f"the server sends another file: its sha256 is {found}, not {self.sha256}")
        replace(self.part, self.target)

    def _error(self, reason: object, hint: str = "") -> PipelineError:
        yourself = f"or download the file yourself and put it into {self.target.parent}"
        default = f"check MASKMILL_WEIGHTS_URL if it is set, {yourself}"
        return PipelineError(Problem(f"cannot download {self.url}: {reason}", hint=hint or default))

    def _fetch(self) -> None:
        """Bring `part` to its full size, over as many connections as it takes."""
        import httpx

        if self.received > self.size:
            self.part.unlink()
        if shutil.disk_usage(self.target.parent).free < self.size - self.received:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        pauses = iter(PAUSES)
        with self._client() as client:
            while (before := self.received) < self.size:
                try:
                    self._receive(client)
                except (httpx.TransportError, _RetryableError) as error:
                    self._raise_if_permanent(error)
                    pauses = iter(PAUSES) if self.received > before else pauses
                    reason = str(error) or type(error).__name__
                    pause = next(pauses, None)
                    if pause is None:
                        raise self._error(reason) from None
                    progress = f"{self.received / 1e6:.0f} of {self.size / 1e6:.0f} MB received"
                    self.say(f"{reason}; {progress}; retrying in {pause:g} s")
                    time.sleep(pause)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    raise self._error(error) from None

    def _client(self) -> httpx.Client:
        import httpx

        try:
            return httpx.Client(timeout=TIMEOUT, follow_redirects=True)
        except (OSError, ValueError) as error:
            raise self._error(error, "check SSL_CERT_FILE and the proxy settings in the environment") from None

    def _raise_if_permanent(self, error: Exception) -> None:
        """Raise if retrying cannot help: an unusable URL, an unknown host, or a certificate that is not trusted."""
        import httpx

        if isinstance(error, httpx.UnsupportedProtocol):
            raise self._error(error) from None
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                hint = "if a proxy in your network intercepts TLS, set SSL_CERT_FILE to a file with its certificates"
                raise self._error(f"the server's certificate is rejected: {cause.verify_message}", hint) from None
            if isinstance(cause, socket.gaierror) and not self.connected:
                proxy = find_proxy(self.url)
                host = urlsplit(proxy[1] if proxy else self.url).hostname
                what = f"the host name {host!r}" + (f" of the proxy ({proxy[0]})" if proxy else "")
                raise self._error(f"{what} cannot be resolved; is this machine online?") from None
            cause = cause.__cause__ or cause.__context__

    def _receive(self, client: httpx.Client) -> None:
        """One connection: append its bytes to `part`, or start over if the server does not resume."""
        received = self.received
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={received}-"} if received else {})
        with client.stream("GET", self.url, headers=headers) as response:
            self.connected = True
            status = f"the server returned {response.status_code} {response.reason_phrase}"
            if response.status_code in RETRYABLE:
                raise _RetryableError(status)
            continues = response.headers.get("Content-Range", "").startswith(f"bytes {received}-")
            if response.status_code == 416 or (response.status_code == 206 and not continues):
                self.part.unlink(missing_ok=True)
                raise _RetryableError("the server cannot resume the download")
            if response.status_code not in (200, 206):
                raise self._error(status)
            start = received if response.status_code == 206 else 0
            self._check_length(response, start)
            self.resumed = start > 0
            with self.part.open("ab" if start else "wb") as file:
                self._write(response, file)
                file.flush()
                os.fsync(file.fileno())
                if file.tell() < self.size:
                    raise _RetryableError("the connection ended early")

    def _check_length(self, response: httpx.Response, start: int) -> None:
        """Refuse a file of another length before its first byte, if the server announces the length."""
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and start + int(length) != self.size:
            kind = response.headers.get("Content-Type", "of unknown type")
            raise self._error(f"it has {start + int(length)} bytes ({kind}), not the {self.size} of the published file")

    def _write(self, response: httpx.Response, file: BinaryIO) -> None:
        """Write the body and report progress."""
        from tqdm import tqdm

        start = file.tell()
        began = reported = time.monotonic()
        with tqdm(total=self.size, initial=start, unit="B", unit_scale=True, leave=False, disable=not self.bar) as bar:
            for chunk in response.iter_raw():
                if file.tell() + len(chunk) > self.size:
                    raise self._error(f"it is longer than the {self.size} bytes of the published file")
                file.write(chunk)
                bar.update(len(chunk))
                now = time.monotonic()
                if not self.bar and now - reported > SECONDS_BETWEEN_LINES:
                    reported = now
                    rate = (file.tell() - start) / (now - began)
                    left = tqdm.format_interval((self.size - file.tell()) / rate)
                    progress = f"{file.tell() / 1e6:.0f} of {self.size / 1e6:.0f} MB"
                    self.say(f"{progress}, {rate / 1e6:.1f} MB/s, {left} left")
