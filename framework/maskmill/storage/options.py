"""Where object storage is and how it is asked, as far as addresses do not tell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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


def options_from_json(data: Any) -> StorageOptions | None:
    """Options as `run.json` and messages hold them; None for none."""
    return StorageOptions(**data) if data else None


def options_to_json(options: StorageOptions | None) -> dict[str, Any] | None:
    """Plain data; None where all are the defaults."""
    return None if options in (None, StorageOptions()) else asdict(options)
