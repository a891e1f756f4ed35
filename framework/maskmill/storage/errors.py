"""What a failed request means for an image and for the run, in words that name no credentials."""

from __future__ import annotations

import re

from ..errors import ImageReadError, Problem, StopRun, Transient, UsageError
from .addresses import split_address

#: Status codes after which the same request may succeed.
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})

_STATUS = re.compile(r"status code: (\d+)[^:]*")
_ODD_NAME = re.compile(r'invalid path: .*?Path "(.*?)"', re.DOTALL)
_CODE = re.compile(r"<Code>(\w+)</Code>")


class BusyStorage(Transient, ImageReadError):  # noqa: N818 - a condition, as `Transient` is
    """A server is busy: the image is tried again, and where nothing is tried again, it cannot be read."""


def translate(error: Exception, address: str) -> Exception:
    """What a failed request means for an image and for the run."""
    if isinstance(error, UsageError):
        return StopRun(str(error))
    text = str(error)
    if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in text and "ContainerNotFound" not in text:
        return ImageReadError(f"cannot read {address}: there is no such object")
    status = _STATUS.search(text)
    if status and int(status[1]) in BUSY:
        return BusyStorage(explain(error, address).message)
    return StopRun(str(explain(error, address)))


def explain(error: Exception, address: str) -> Problem:
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
    if (odd := _ODD_NAME.search(text)) is not None:
        hint = "rename the object, or name folders without it"
        return Problem(f"'{address}': an object's name cannot be read: {odd[1]!r}", hint=hint)
    if "Account must be specified" in text:
        return Problem(f"'{address}': the storage account is not known", hint="set AZURE_STORAGE_ACCOUNT_NAME")
    cause = text.rpartition(" - ")[2].strip().rstrip(".") or type(error).__name__
    hint = "check the network, and `storage: {endpoint: ..., region: ...}`"
    return Problem(f"'{address}' cannot be reached: {cause[:200]}", hint=hint)
