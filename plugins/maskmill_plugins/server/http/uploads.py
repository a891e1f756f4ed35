"""Images as they come in: as a body of their own, or as a part of a form."""

from __future__ import annotations

import hashlib

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from ..compute.host import Host
from ..compute.image_store import Stored
from .problems import ApiError

#: Of one form: files, and other fields.
MOST_FILES, MOST_FIELDS = 1, 10


async def add_image(host: Host, request: Request) -> tuple[Stored, bool]:
    """Take in the image of a request, hashing it as it comes; returns it, and whether it is new.

    Raises:
        ApiError: it is too large, or no image.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        async with request.form(max_files=MOST_FILES, max_fields=MOST_FIELDS) as form:
            return await add_part(host, file_part(form))
    digest, data = hashlib.sha256(), bytearray()
    async for chunk in request.stream():
        digest.update(chunk)
        data += chunk
    return await host.images.add(bytes(data), digest.hexdigest())


def file_part(form: FormData) -> UploadFile:
    """The part `file` of a form.

    Raises:
        ApiError: there is none.
    """
    part = form.get("file")
    if not isinstance(part, UploadFile):
        raise ApiError("invalid-request", "the multipart body has no file part named `file`")
    return part


async def add_part(host: Host, part: UploadFile) -> tuple[Stored, bool]:
    """Take in the image of a multipart part; returns it, and whether it is new.

    Raises:
        ApiError: it is too large, or no image.
    """
    data = await part.read()
    return await host.images.add(data, hashlib.sha256(data).hexdigest())
