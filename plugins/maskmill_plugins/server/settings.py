"""The server's limits and access rules."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from maskmill.decoding.decoder import MAX_PIXELS
from maskmill_plugins._shared.http.wire import MOST_REQUEST

Network = IPv4Network | IPv6Network
MB = 1_000_000


@dataclass(frozen=True)
class Settings:
    """Limits and access.

    Attributes:
        token: the bearer token that requests must carry; None if none is needed.
        allow: networks from which clients may connect; empty for all.
        local_names: the `Host` header must name this machine; protects a server without a token from other web pages.
        cors: origins whose pages may send requests.
        wait: estimated seconds that a job may wait in the queue; beyond it: 429.
        deadline: seconds from a request to its response; beyond it: 504.
        most_jobs: number of waiting jobs, whatever their time.
        upload: bytes of one image file.
        request: bytes of any other request.
        pixels: of one image.
        receiving: bytes of all requests being received at the same time.
        stall: seconds without data after which an incomplete request is dropped.
        stored: bytes of uploaded files that are kept.
        decoded: bytes of decoded images that are kept.
        most_images: number of images kept, whatever their size.
        embeddings: bytes of embeddings that are kept.
    """

    token: str | None = None
    allow: tuple[Network, ...] = ()
    local_names: bool = False
    cors: tuple[str, ...] = ()
    wait: float = 30.0
    deadline: float = 300.0
    most_jobs: int = 256
    upload: int = 200 * MB
    request: int = MOST_REQUEST
    pixels: int = MAX_PIXELS
    receiving: int = 800 * MB
    stall: float = 30.0
    stored: int = 1000 * MB
    decoded: int = 500 * MB
    most_images: int = 400
    embeddings: int = 1000 * MB
