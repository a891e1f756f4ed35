"""What the server may use, and how it is reached."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from maskmill.decoding import MAX_PIXELS

Network = IPv4Network | IPv6Network
MB = 1_000_000


@dataclass(frozen=True)
class Settings:
    """Limits and access.

    Attributes:
        token: the bearer token that requests must show, None if none is needed.
        allow: networks whose addresses may ask; empty: all.
        local_names: the `Host` header must name this machine; where no token keeps other web pages out.
        cors: origins whose pages may ask.
        wait: seconds that a job may wait in the queue, as far as it can be foreseen; beyond it: 429.
        deadline: seconds from a request to its answer; beyond it: 504.
        most_jobs: that wait, whatever their time.
        upload: bytes of one image file.
        pixels: of one image.
        receiving: bytes of all requests that are being received together.
        stall: seconds without a byte after which a request that is not complete is given up.
        stored: bytes of uploaded files that are kept.
        decoded: bytes of decoded images that are kept.
        most_images: that are kept, whatever their size.
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
    pixels: int = MAX_PIXELS
    receiving: int = 800 * MB
    stall: float = 30.0
    stored: int = 1000 * MB
    decoded: int = 500 * MB
    most_images: int = 400
    embeddings: int = 1000 * MB
