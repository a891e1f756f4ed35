"""What goes wrong on the way to an answer, and what follows: another try, one image lost, or the end of the run."""

from __future__ import annotations

from maskmill import ImageError, StopRun, Transient

from .servers import KEY_VARIABLE, Server

#: Characters of a server's own words that are shown.
SHOWN = 500


class Trouble(Exception):  # noqa: N818 - what a server or the way to it did; judged below
    """No usable answer came.

    Args:
        status: of HTTP; 0 if none came.
        code: the server's own word for it, "" if it has none.
        message: the server's own text.
        retry_after: seconds that it asks to wait, None if it does not.
        sent: False if the question did not even leave.
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

    def __str__(self) -> str:
        parts = [str(self.status) if self.status else "", self.code, self.message[:SHOWN]]
        return " ".join(part for part in parts if part)


class Again(Transient):
    """Worth another try.

    Args:
        text: what happened.
        after: seconds to wait at least.
    """

    def __init__(self, text: str, after: float | None = None) -> None:
        super().__init__(text)
        self.after = after


def inspected(trouble: Trouble) -> bool:
    """Whether the content inspection refused the image, or the answer about it: surely its own affair."""
    return any("datainspection" in text.lower().replace("_", "") for text in (trouble.code, trouble.message))


def judged(trouble: Trouble, model: str, pictured: bool, server: Server) -> Exception:
    """What follows from a trouble: `Again`, an `ImageError`, or `StopRun`.

    Args:
        trouble: what happened.
        model: that was asked.
        pictured: whether a picture was sent.
        server: that was asked.
    """
    code, words = trouble.code.lower().replace("_", ""), trouble.message.lower()
    said = server.without_key(f"{server.host} answered {trouble}" if trouble.status else str(trouble))
    if inspected(trouble):
        return ImageError(f"the content inspection refused this image or its answer: {said}")
    if stop := _stop(trouble.status, code, words, model, pictured, server):
        return StopRun(f"{stop}\n  {said}")
    passing = code.startswith(("throttling", "internalerror", "requesttimeout", "serviceunavailable"))
    if passing or trouble.status in (0, 200, 408, 409, 425, 429) or trouble.status >= 500:
        return Again(said, trouble.retry_after)
    return ImageError(said)


def _stop(status: int, code: str, words: str, model: str, pictured: bool, server: Server) -> str:
    """Why no image can succeed now, "" if one may."""
    where = f"{server.host}" + (f", region {server.region}" if server.region else "")
    if "url error" in words:
        kind = "without a picture" if not pictured else "with a picture"
        turn = "set `blind: false`" if not pictured else "set `blind: true`, or take a model that sees"
        return f"wrong endpoint for this model: {model!r} is not asked {kind} there; {turn}"
    if code in ("arrearage", "insufficientquota") or "freetieronly" in code or status == 402:
        return f"the account at {where} is not paid: top it up, then run it again"
    if "invalidapikey" in code or status == 401:
        key = f"the key ({KEY_VARIABLE} or `api_key:`)" if server.key else "a call without a key (set `api_key:`)"
        return f"{where} refuses {key}; a key belongs to one region: set `region:` or `base_url:` to the key's own"
    missing = "model" in words and any(word in words for word in ("not found", "not exist", "not supported"))
    if "modelnotfound" in code or (missing and status in (400, 404)):
        return (
            f"{where} has no model {model!r}: names of hosted models live about a year, it may have been"
            " retired; set `model:` to another"
        )
    if code.startswith(("accessdenied", "model.accessdenied")) or status == 403:
        return f"{where} denies access to {model!r}: the key is of another region or workspace, or lacks it"
    if 300 <= status < 400:
        return f"{server.url} leads elsewhere: give the address that it leads to as `base_url:`"
    if status == 404:
        return f"there is nothing to ask at {server.url}: check `base_url:`"
    of_picture = any(word in words for word in ("image", "height", "width", "ratio", "data-uri", "length"))
    if code.startswith("invalidparameter") and not of_picture:
        return f"{where} refuses the question as such, for every image alike"
    return ""
