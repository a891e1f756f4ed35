"""Failed calls, and what they mean: a retry, one failed image, or the end of the run."""

from __future__ import annotations

from typing import Any, Self

from maskmill import ImageError, StopRun
from maskmill_plugins._shared.http.answers import MODEL_API, AnswerMeaning, Outcome, classify, read_retry_after
from maskmill_plugins._shared.http.connections import ConnectionFault
from maskmill_plugins._shared.http.model_answers import JudgedAnswer, judge_model_answer

from .endpoint import KEY_VARIABLE, Endpoint
from .question import ModelReply

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
        meaning: what it means for the run; None: by status, code and message.
        tokens: (of the question, of the answer) that were used all the same.
        advice: what to look at if no question reaches the server.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        retry_after: float | None = None,
        sent: bool = True,
        meaning: AnswerMeaning | None = None,
        tokens: tuple[int, int] = (0, 0),
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        self.sent = sent
        self.meaning = meaning or classify(MODEL_API, status, code, message)
        self.tokens = tokens
        self.advice = advice

    @classmethod
    def from_answer(cls, judged: JudgedAnswer, retry_after: float | None = None) -> Self:
        """Return the error for an answer that is not usable."""
        tokens = (judged.input_tokens, judged.output_tokens)
        return cls(judged.status, judged.code, judged.message, retry_after, meaning=judged.meaning, tokens=tokens)

    @classmethod
    def from_lost_connection(cls, fault: ConnectionFault) -> Self:
        """Return the error for a connection that broke, or could not be opened."""
        meaning = AnswerMeaning(Outcome.STOP, "connection") if fault.lasting else None
        return cls(0, "", fault.text, sent=fault.sent, meaning=meaning, advice=fault.advice)

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.status) if self.status else "", self.code, self.message) if part)


def read_reply(status: int, headers: Any, body: bytes) -> ModelReply:
    """Return the model's reply in an HTTP answer.

    Raises:
        ServerError: there is none; with what it means and the tokens it used.
    """
    judged = judge_model_answer(status, body)
    if judged.meaning.outcome is not Outcome.USABLE:
        raise ServerError.from_answer(judged, read_retry_after(headers))
    return ModelReply(judged.text, judged.finish, judged.input_tokens, judged.output_tokens)


class RetryableError(Exception):
    """A call failed, and is worth retrying.

    Args:
        text: what happened.
        retry_after: seconds to wait at least, None if the server does not ask for it.
        answered: whether the server works, but does not answer the question.
    """

    def __init__(self, text: str, retry_after: float | None = None, answered: bool = False) -> None:
        super().__init__(text)
        self.retry_after = retry_after
        self.answered = answered


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
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
    if meaning.outcome is Outcome.RETRY:
        return RetryableError(text, error.retry_after, answered=error.status == 200)
    if meaning.outcome is Outcome.STOP:
        why = _explain_stop(meaning.reason, model, has_image, endpoint)
        return StopRun(f"{why}\n  {text}" if why else text)
    why = _explain_failure(meaning.reason, model)
    return ImageError(f"{why}: {text}" if why else text)


def _explain_failure(reason: str, model: str) -> str:
    """Return why there is no reply about this image, "" if only the server knows."""
    return {
        "content inspection": "the content inspection rejected this image or its reply",
        "refusal": f"{model!r} refuses to answer",
        "thoughts only": f"{model!r} only thought: set `thinking: false` or a larger `max_tokens:`",
        "no vision": f"{model!r} accepts no images there: set `model:` to a vision model, or `blind: true`",
    }.get(reason, "")


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
        "web page": f"{endpoint.url} answers with a web page, not with a model API: check `base_url:`, and whether a"
        " proxy or portal wants a login",
        "needs https": f"{where} expects https: set `base_url:` to an address that begins with https://",
        "connection": "",
        "invalid question": f"{where} rejects this kind of question, so it would fail for every image",
    }[reason]
