"""Failed calls, and what they mean: a retry, one failed image, or the end of the run."""

from __future__ import annotations

from typing import Self

from maskmill import ImageError, StopRun
from maskmill_plugins._shared.http.answers import MODEL_API, AnswerMeaning, Outcome, classify

from .endpoint import KEY_VARIABLE, Endpoint

#: Characters of a server's message that are shown.
SHOWN = 500


class ServerError(Exception):
    """The server, or the connection to it, gave no usable reply.

    Args:
        status: HTTP status; 0 if no answer came.
        code: the server's error code, "" without one.
        message: the server's message.
        retry_after: seconds that the server asks to wait, None if it does not.
        sent: False if the question was not sent.
    """

    def __init__(
        self, status: int, code: str, message: str, retry_after: float | None = None, sent: bool = True
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.sent = sent

    @classmethod
    def from_lost_connection(cls, host: str, sent: bool) -> Self:
        """Return the error for a connection that broke, or could not be opened."""
        text = "the connection broke before an answer came" if sent else "cannot be reached"
        return cls(0, "", f"{host}: {text}", sent=sent)

    def __str__(self) -> str:
        parts = [str(self.status) if self.status else "", self.code, self.message[:SHOWN]]
        return " ".join(part for part in parts if part)

    @property
    def meaning(self) -> AnswerMeaning:
        """What it means for the run."""
        return classify(MODEL_API, self.status, self.code, self.message)


class RetryableError(Exception):
    """A call failed, and is worth retrying.

    Args:
        text: what happened.
        retry_after: seconds to wait at least, None if the server does not ask for it.
    """

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def make_exception(error: ServerError, model: str, has_image: bool, endpoint: Endpoint) -> Exception:
    """Return the exception that follows from a failed call: `RetryableError`, `ImageError` or `StopRun`.

    Args:
        error: what happened.
        model: the model that was queried.
        has_image: whether an image was sent.
        endpoint: the server that was queried.
    """
    meaning = error.meaning
    text = endpoint.mask_key(f"{endpoint.host} answered {error}" if error.status else str(error))
    if meaning.outcome is Outcome.RETRY:
        return RetryableError(text, error.retry_after)
    if meaning.outcome is Outcome.STOP:
        return StopRun(f"{_explain_stop(meaning.reason, model, has_image, endpoint)}\n  {text}")
    if meaning.reason == "content inspection":
        return ImageError(f"the content inspection rejected this image or its reply: {text}")
    return ImageError(text)


def _explain_stop(reason: str, model: str, has_image: bool, endpoint: Endpoint) -> str:
    """Return why no image can succeed now, and what to change."""
    where = endpoint.host + (f", region {endpoint.region}" if endpoint.region else "")
    key = f"the key ({KEY_VARIABLE} or `api_key:`)" if endpoint.key else "a call without a key (set `api_key:`)"
    if has_image:
        images, change = "with images", "set `blind: true`, or use a vision model"
    else:
        images, change = "without images", "set `blind: false`"
    return {
        "wrong endpoint": f"wrong endpoint for this model: {model!r} cannot be queried {images} there; {change}",
        "unpaid": f"the account at {where} has no credit left: top it up, then run again",
        "key refused": f"{where} rejected {key}; a key is valid for one region only:"
        " set `region:` or `base_url:` to match it",
        "no model": f"{where} has no model {model!r}: hosted models are retired after about a year;"
        " set `model:` to a current one",
        "access denied": f"{where} denies access to {model!r}: the key is for another region or workspace,"
        " or lacks the permission",
        "redirect": f"{endpoint.url} redirects to another address: set `base_url:` to that address",
        "not found": f"there is no API at {endpoint.url}: check `base_url:`",
        "invalid question": f"{where} rejects this kind of question, so it would fail for every image",
    }[reason]
