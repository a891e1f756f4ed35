"""Object storage: listing and reading `s3://`, `gs://` and `az://` addresses by obstore, and reading `https://` ones.

A request that fails for a reason that passes (a busy server, a lost connection) is repeated with growing, random
pauses. Credentials come from where each cloud's own tools take them, and stand in no output and no message.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ImageReadError, Problem, StopRun, Transient, UsageError
from ..files import write_atomic
from .addresses import derive_key, hide_query, is_address, is_bucket, restore_address, split_address
from .credentials import read_profile
from .errors import BusyStorage, explain, translate
from .options import StorageOptions, options_from_json, options_to_json
from .web import TIMEOUT, read_web, stat_web

__all__ = [
    "BusyStorage",
    "StorageOptions",
    "StoredObject",
    "check_packages",
    "configure",
    "create",
    "current_options",
    "delete",
    "derive_key",
    "fetch_file",
    "hide_query",
    "is_address",
    "is_bucket",
    "list_objects",
    "options_from_json",
    "options_to_json",
    "read",
    "read_now",
    "restore_address",
    "split_address",
    "stat",
    "write",
]

#: Seconds that the repetitions of a request may take together, and how many there are.
PATIENCE = 60
TRIES = 5
#: How many objects one page of a listing has at most; the services give no more.
PAGE = 1000


class StoredObject(NamedTuple):
    """An object of a listing.

    Attributes:
        path: below the listed prefix.
        state: (size in bytes, version): the time of its last change in nanoseconds, with a hash of its ETag.
    """

    path: str
    state: tuple[int, int]


class _Current:
    """The options of this process: connections cannot be shared between sets of them."""

    options = StorageOptions()


def configure(options: StorageOptions | None) -> None:
    """Set the options that this process uses from now on."""
    if _Current.options != (options or StorageOptions()):
        _Current.options = options or StorageOptions()
        _open_bucket.cache_clear()
        _read_last.cache_clear()


def current_options() -> StorageOptions:
    """The options that `configure` set, for another process."""
    return _Current.options


def fetch_file(address: str, folder: Path) -> Path:
    """A copy of an object on this machine, made if there is none of this version yet.

    Args:
        address: of the object.
        folder: for copies; those of earlier versions are removed.

    Raises:
        UsageError: there is no such object, or it cannot be read.
    """
    try:
        state = stat(address)
        place = folder / hashlib.sha256(address.encode()).hexdigest()[:16] / f"{state[0]}-{state[1]}"
        name = place / address.rpartition("/")[2]
        if not name.exists():
            for other in place.parent.glob("*"):
                shutil.rmtree(other, ignore_errors=True)
            write_atomic(name, read(address, state))
    except (ImageReadError, StopRun) as error:
        raise UsageError(str(error)) from None
    return name


def check_packages() -> list[Problem]:
    """The problem if addresses of buckets cannot be read here."""
    if importlib.util.find_spec("obstore") is not None:
        return []
    text = "addresses of object storage need the package 'obstore', which is not installed"
    return [Problem(text, hint='pip install "maskmill[cloud]"')]


def list_objects(address: str) -> Iterator[StoredObject]:
    """The objects below an address, lazily, in the order of their names.

    Raises:
        UsageError: the bucket does not exist, cannot be reached, or may not be listed.
    """
    root, prefix = split_address(address)
    start = len(prefix) + 1 if prefix else 0
    try:
        for page in _import("obstore").list(_open_bucket(root, os.getpid()), prefix or None, chunk_size=PAGE):
            for about in page:
                yield StoredObject(about["path"][start:], _find_state(about))
    except Exception as error:
        raise UsageError(explain(error, hide_query(address))) from None


def read(address: str, state: tuple[int, int] | None = None) -> bytes:
    """The bytes of an object or of a file on the web.

    The last one of a known state is kept, since an image may be looked at twice in a row.

    Args:
        address: of the object.
        state: as it was listed, or asked for; None if it is not known.

    Raises:
        ImageReadError: there is no such object, or a web server refuses it.
        BusyStorage: the server is busy, also after some tries.
        StopRun: the bucket does not exist, cannot be reached, or may not be read.
    """
    return _read(address) if state is None else _read_last(address, state)


@functools.lru_cache(1)
def _read_last(address: str, state: tuple[int, int]) -> bytes:
    return _read(address)


def _read(address: str) -> bytes:
    if not is_bucket(address):
        return read_web(address)
    try:
        return bytes(_request("get", address).bytes())
    except Exception as error:
        raise translate(error, hide_query(address)) from None


def read_now(address: str) -> bytes | None:
    """The bytes of an object as they are now, None if there is none.

    Raises:
        StopRun: it cannot be read, whatever the reason.
    """
    try:
        return read(address)
    except Transient as error:
        raise StopRun(str(error)) from None
    except ImageReadError:
        return None


def write(address: str, data: bytes) -> None:
    """Write an object, in one request if it is not large.

    Raises:
        StopRun: it cannot be written, also after some tries.
    """
    try:
        _request("put", address, data)
    except Exception as error:
        raise StopRun(str(explain(error, address))) from None


def create(address: str, data: bytes) -> bool:
    """Write an object unless there is one; returns whether it was written.

    Raises:
        StopRun: as `write`.
    """
    try:
        _request("put", address, data, mode="create")
    except Exception as error:
        if type(error).__name__ in ("AlreadyExistsError", "FileExistsError"):
            return False
        raise StopRun(str(explain(error, address))) from None
    return True


def delete(address: str) -> None:
    """Delete an object, if there is one.

    Raises:
        StopRun: as `write`.
    """
    try:
        _request("delete", address)
    except FileNotFoundError:
        pass
    except Exception as error:
        raise StopRun(str(explain(error, address))) from None


def stat(address: str) -> tuple[int, int]:
    """The state of an object that was not listed, by a request of its own; of a web file by its headers.

    Raises:
        ImageReadError: there is no such object.
        BusyStorage: as `read`.
        StopRun: as `read`.
    """
    if not is_bucket(address):
        return stat_web(address)
    try:
        return _find_state(_request("head", address))
    except Exception as error:
        raise translate(error, hide_query(address)) from None


def _find_state(about: Any) -> tuple[int, int]:
    """Size and version; the ETag tells apart what was written twice in the second that the time is exact to."""
    mark = int(hashlib.sha256(str(about["e_tag"] or about["version"] or "").encode()).hexdigest()[:8], 16)
    return int(about["size"]), int(about["last_modified"].timestamp()) * 10**9 + mark % 10**9


def _request(name: str, address: str, *given: Any, **options: Any) -> Any:
    """Call a function of obstore about an object."""
    root, path = split_address(address)
    return getattr(_import("obstore"), name)(_open_bucket(root, os.getpid()), path, *given, **options)


@functools.lru_cache(64)
def _open_bucket(root: str, process: int) -> Any:
    """The bucket; one for each process, since connections do not survive a fork."""
    scheme = root.partition(":")[0]
    config: dict[str, Any] = {}
    if scheme == "s3":
        config = _s3_options()
    elif _Current.options.anonymous:
        config = {"skip_signature": True}
    seconds = datetime.timedelta
    return _import("obstore.store").from_url(
        root,
        config=config,
        client_options={"timeout": seconds(seconds=TIMEOUT), "allow_http": _allows_http(scheme)},
        retry_config={"max_retries": TRIES, "retry_timeout": seconds(seconds=PATIENCE)},
    )


def _allows_http(scheme: str) -> bool:
    """Only an endpoint that was given as http:// is reached without encryption."""
    given = _Current.options.endpoint or os.environ.get("AWS_ENDPOINT_URL") or ""
    return scheme == "s3" and given.startswith("http://")


def _s3_options() -> dict[str, Any]:
    options: dict[str, Any] = {
        "endpoint": _Current.options.endpoint,
        "region": _Current.options.region,
        "skip_signature": _Current.options.anonymous or None,
        "virtual_hosted_style_request": _Current.options.virtual_hosted or None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return given if _Current.options.anonymous else {**read_profile(), **given}


@functools.cache
def _import(module: str) -> Any:
    if problems := check_packages():
        raise UsageError(*problems)
    return importlib.import_module(module)
