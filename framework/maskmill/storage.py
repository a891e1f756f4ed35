"""Object storage: listing and reading `s3://`, `gs://` and `az://` addresses by obstore, and reading `https://` ones.

A request that fails for a reason that passes (a busy server, a lost connection) is repeated with growing, random
pauses. Credentials come from where each cloud's own tools take them, and stand in no output and no message.
"""

from __future__ import annotations

import configparser
import datetime
import functools
import hashlib
import importlib
import importlib.util
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from .errors import ImageReadError, Problem, StopRun, Transient, UsageError
from .files import write_atomic

#: Schemes that can be listed, each with the name of its service.
BUCKETS = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
WEB = ("http", "https")
#: Seconds that one request may take, and those that its repetitions may.
TIMEOUT, PATIENCE = 60, 60
TRIES = 5
#: How many objects one page of a listing has at most; the services give no more.
PAGE = 1000
#: Status codes of web servers after which the same request may succeed.
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})

_ADDRESS = re.compile(rf"({'|'.join([*BUCKETS, *WEB])})://", re.IGNORECASE)
_STATUS = re.compile(r"status code: (\d+)[^:]*")
_CODE = re.compile(r"<Code>(\w+)</Code>")


@dataclass(frozen=True)
class StorageOptions:
    """What is not known from the address of a bucket; no secret is among it.

    Attributes:
        endpoint: of a service that is compatible with S3, such as MinIO, R2 or OSS; None for that of AWS.
        region: of the bucket; None for AWS_REGION, or us-east-1.
        anonymous: read a public bucket without credentials.
        virtual_hosted: the bucket's name is part of the host name, as OSS demands.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    virtual_hosted: bool = False


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


def is_address(text: str) -> bool:
    """Whether a text is the address of an object, a bucket or a file on the web, and no path."""
    return _ADDRESS.match(text) is not None


def is_bucket(text: str) -> bool:
    """Whether a text is an address whose objects can be listed."""
    return is_address(text) and urlsplit(text).scheme.lower() in BUCKETS


def restore_address(path: Path) -> str | None:
    """The address that an option of the type `Path` was made of, which takes `//` for `/`; None if it is a path."""
    match = re.match(rf"({'|'.join(BUCKETS)}):/+", path.as_posix(), re.IGNORECASE)
    return None if match is None else f"{match[1]}://{path.as_posix()[match.end() :]}"


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
    except (ImageReadError, StopRun, Transient) as error:
        raise UsageError(str(error)) from None
    return name


def hide_query(address: str) -> str:
    """The address for messages and outputs: without what may be a signature."""
    return address.partition("?")[0]


def derive_key(address: str) -> str:
    """The key of an image that a list names by its address: the path, without the host or the bucket."""
    return unquote(urlsplit(address).path).strip("/")


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
        raise UsageError(_explain(error, hide_query(address))) from None


def read(address: str, state: tuple[int, int] | None = None) -> bytes:
    """The bytes of an object or of a file on the web.

    The last one is kept, since an image may be looked at twice in a row.

    Args:
        address: of the object.
        state: of the listing; None if it was not listed.

    Raises:
        ImageReadError: there is no such object, or a web server refuses it.
        Transient: the server is busy, also after some tries.
        StopRun: the bucket does not exist, cannot be reached, or may not be read.
    """
    return _read_last(address, state, os.getpid())


@functools.lru_cache(1)
def _read_last(address: str, state: tuple[int, int] | None, process: int) -> bytes:
    if not is_bucket(address):
        return _read_web(address)
    root, path = split_address(address)
    try:
        return bytes(_import("obstore").get(_open_bucket(root, process), path).bytes())
    except Exception as error:
        raise _translate(error, hide_query(address)) from None


def read_now(address: str) -> bytes | None:
    """The bytes of an object as they are now, None if there is none.

    Raises:
        StopRun: it cannot be read, whatever the reason.
    """
    _read_last.cache_clear()
    try:
        return read(address)
    except ImageReadError:
        return None
    except Transient as error:
        raise StopRun(str(error)) from None


def write(address: str, data: bytes) -> None:
    """Write an object, in one request if it is not large.

    Raises:
        StopRun: it cannot be written, also after some tries.
    """
    root, path = split_address(address)
    try:
        _import("obstore").put(_open_bucket(root, os.getpid()), path, data)
    except Exception as error:
        raise StopRun(str(_explain(error, address))) from None


def create(address: str, data: bytes) -> bool:
    """Write an object unless there is one; returns whether it was written.

    Raises:
        StopRun: as `write`.
    """
    root, path = split_address(address)
    try:
        _import("obstore").put(_open_bucket(root, os.getpid()), path, data, mode="create")
    except Exception as error:
        if type(error).__name__ in ("AlreadyExistsError", "FileExistsError"):
            return False
        raise StopRun(str(_explain(error, address))) from None
    return True


def delete(address: str) -> None:
    """Delete an object, if there is one.

    Raises:
        StopRun: as `write`.
    """
    root, path = split_address(address)
    try:
        _import("obstore").delete(_open_bucket(root, os.getpid()), path)
    except FileNotFoundError:
        pass
    except Exception as error:
        raise StopRun(str(_explain(error, address))) from None


def stat(address: str) -> tuple[int, int]:
    """The state of an object that was not listed, by a request of its own; of a web file by its headers.

    Raises:
        ImageReadError: there is no such object.
        Transient: as `read`.
        StopRun: as `read`.
    """
    if not is_bucket(address):
        return _stat_web(address)
    root, path = split_address(address)
    try:
        return _find_state(_import("obstore").head(_open_bucket(root, os.getpid()), path))
    except Exception as error:
        raise _translate(error, hide_query(address)) from None


def split_address(address: str) -> tuple[str, str]:
    """(address of the bucket, path in it without slashes at its ends)."""
    scheme, _, rest = address.partition("://")
    bucket, _, path = rest.partition("/")
    return f"{scheme.lower()}://{bucket}", path.strip("/")


def _find_state(about: Any) -> tuple[int, int]:
    """Size and version; the ETag tells apart what was written twice in the second that the time is exact to."""
    mark = int(hashlib.sha256(str(about["e_tag"] or about["version"] or "").encode()).hexdigest()[:8], 16)
    return int(about["size"]), int(about["last_modified"].timestamp()) * 10**9 + mark % 10**9


@functools.lru_cache(64)
def _open_bucket(root: str, process: int) -> Any:
    """The bucket; one for each process, since connections do not survive a fork."""
    scheme = root.partition(":")[0]
    config: dict[str, Any] = {}
    if scheme == "s3":
        config = {name: value for name, value in _s3_options().items() if value is not None}
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
    return options if _Current.options.anonymous else {**options, **_read_profile()}


def _read_profile() -> dict[str, str]:
    """Keys and region from the files of the AWS tools, which obstore does not read; {} where variables give them."""
    known = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if any(os.environ.get(name) for name in known):
        return {}
    profile = os.environ.get("AWS_PROFILE", "default")
    home = Path.home() / ".aws"
    parser = configparser.RawConfigParser()
    parser.read(Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", home / "credentials")), encoding="utf-8")
    settings = configparser.RawConfigParser()
    settings.read(Path(os.environ.get("AWS_CONFIG_FILE", home / "config")), encoding="utf-8")
    section = profile if profile == "default" else f"profile {profile}"
    found = {
        "access_key_id": parser.get(profile, "aws_access_key_id", fallback=""),
        "secret_access_key": parser.get(profile, "aws_secret_access_key", fallback=""),
        "session_token": parser.get(profile, "aws_session_token", fallback=""),
        "region": "" if _Current.options.region else settings.get(section, "region", fallback=""),
    }
    return {name: value for name, value in found.items() if value}


def _import(module: str) -> Any:
    if problems := check_packages():
        raise UsageError(*problems)
    return importlib.import_module(module)


def _translate(error: Exception, address: str) -> Exception:
    """What a failed request means for an image and for the run."""
    if isinstance(error, UsageError):
        return StopRun(str(error))
    text = str(error)
    if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in text and "ContainerNotFound" not in text:
        return ImageReadError(f"cannot read {address}: there is no such object")
    status = _STATUS.search(text)
    if status and int(status[1]) in BUSY:
        return Transient(_explain(error, address).message)
    return StopRun(str(_explain(error, address)))


def _explain(error: Exception, address: str) -> Problem:
    """A failed request in words; obstore's own text is long, and is cut before the headers of the request."""
    if isinstance(error, UsageError):
        return error.problems[0]
    text, root = str(error).partition("Debug source")[0], split_address(address)[0]
    code, status = _CODE.search(text), _STATUS.search(text)
    if "NoSuchBucket" in text or "ContainerNotFound" in text:
        return Problem(f"'{address}': there is no bucket {root}", hint="check its name, and `storage: {endpoint: ...}`")
    if type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError") or (status and status[1] in "401 403"):
        why = f" ({code[1]})" if code else ""
        hint = "check the credentials (docs/cloud.md); for a public bucket, write `storage: {anonymous: true}`"
        return Problem(f"'{address}': the server refuses access{why}", hint=hint)
    if status:
        return Problem(f"'{address}': the server answers {status[1]}{f' ({code[1]})' if code else ''}")
    if "region" in text and "redirect" in text:
        return Problem(f"'{address}': the bucket is in another region", hint="write `storage: {region: ...}`")
    if "metadata" in text or "169.254" in text or "credential" in text.lower():
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (docs/cloud.md), or `storage: {anonymous: true}`"
        return Problem(f"'{address}': no credentials were found", hint=hint)
    cause = text.rpartition(" - ")[2].strip().rstrip(".") or type(error).__name__
    hint = "check the network, and `storage: {endpoint: ..., region: ...}`"
    return Problem(f"'{address}' cannot be reached: {cause[:200]}", hint=hint)


def _read_web(address: str) -> bytes:
    with _open_web(address) as answer:
        try:
            return bytes(answer.read())
        except OSError as error:
            raise Transient(f"{hide_query(address)}: {error}") from None


def _stat_web(address: str) -> tuple[int, int]:
    with _open_web(address, "HEAD") as answer:
        mark = str(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "")
        size = str(answer.headers.get("Content-Length") or "-1")
        return int(size), int(hashlib.sha256(mark.encode()).hexdigest()[:15], 16)


def _open_web(address: str, method: str = "GET") -> Any:
    shown = hide_query(address)
    try:
        request = urllib.request.Request(address, method=method, headers={"User-Agent": "maskmill"})  # noqa: S310
        return urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310 - http and https, see `is_address`
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in BUSY:
            raise Transient(f"{shown}: the server answers {error.code}") from None
        raise ImageReadError(f"cannot read {shown}: the server answers {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise Transient(f"{shown}: {getattr(error, 'reason', None) or error}") from None


def options_from_json(data: Any) -> StorageOptions | None:
    """Options as `run.json` and messages hold them; None for none."""
    return StorageOptions(**data) if data else None


def options_to_json(options: StorageOptions | None) -> dict[str, Any] | None:
    """Plain data; None where all are the defaults."""
    return None if options in (None, StorageOptions()) else asdict(options)
