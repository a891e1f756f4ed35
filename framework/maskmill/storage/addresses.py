"""Addresses of objects, buckets and files on the web."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Schemes whose objects can be listed.
BUCKETS = ("s3", "gs", "az")
WEB = ("http", "https")

_ADDRESS = re.compile(rf"({'|'.join([*BUCKETS, *WEB])})://", re.IGNORECASE)


def is_address(text: str) -> bool:
    """Whether a text is the address of an object, a bucket or a file on the web, and no path."""
    return _ADDRESS.match(text) is not None


def is_bucket(text: str) -> bool:
    """Whether a text is an address whose objects can be listed."""
    return is_address(text) and text.partition(":")[0].lower() in BUCKETS


def restore_address(path: Path) -> str | None:
    """The address that an option of the type `Path` was made of, which takes `//` for `/`; None if it is a path."""
    match = re.match(rf"({'|'.join(BUCKETS)}):/+", path.as_posix(), re.IGNORECASE)
    return None if match is None else f"{match[1]}://{path.as_posix()[match.end() :]}"


def hide_query(address: str) -> str:
    """The address for messages and outputs: that of a file on the web without what may be a signature."""
    return address if is_bucket(address) else address.partition("?")[0]


def derive_key(address: str) -> str:
    """The key of an image that a list names by its address: the path, without the host or the bucket."""
    return split_address(address)[1] if is_bucket(address) else unquote(urlsplit(address).path).strip("/")


def split_address(address: str) -> tuple[str, str]:
    """(address of the bucket, path in it without slashes at its ends)."""
    scheme, _, rest = address.partition("://")
    bucket, _, path = rest.partition("/")
    return f"{scheme.lower()}://{bucket}", path.strip("/")
