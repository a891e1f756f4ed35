"""What an HTTP answer means for a run: usable, retry, fail this image, or stop (a 200 too: `model_answers`).

Each protocol has a table of rules; the first rule whose pattern matches "status code message" (in lower
case, the code without spaces and underscores) decides. An error that no rule matches fails its image.
"""

from __future__ import annotations

import email.utils
import enum
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Outcome(enum.Enum):
    """What to do after an HTTP answer."""

    USABLE = enum.auto()
    RETRY = enum.auto()
    FAIL_IMAGE = enum.auto()
    STOP = enum.auto()


@dataclass(frozen=True, slots=True)
class AnswerMeaning:
    """What an HTTP answer means.

    Attributes:
        outcome: what to do.
        reason: name of the rule that decided, "" where the client has no message of its own for it.
    """

    outcome: Outcome
    reason: str = ""


Rules = Sequence[tuple[str, Outcome, str]]

#: What a server says about pictures that its model cannot see.
_NO_VISION = (
    r"(?!.*(format|too (large|big|small|long)|size|dimension|resolution|corrupt|decod|data.ur[il]))"
    r"(?=.*(image|vision|picture|multi-?modal|mmproj))"
    r"(?=.*(not support|n't support|not accept|unsupported|not a (vision|multi-?modal)|only supported by|at most 0"
    r"|missing data required|that support|mmproj|no vision))"
)

#: DashScope and OpenAI-compatible servers. A 200 is classified only if it tells of an error.
MODEL_API: Rules = (
    (r".*(data_*inspection|content[_ ]?(filter|policy|management))", Outcome.FAIL_IMAGE, "content inspection"),
    (r"\d+ \S* .*url error", Outcome.STOP, "wrong endpoint"),
    (
        r"402 |\d+ (arrearage |insufficient_?(quota|balance|credits?) |\S*freetieronly)"
        r"|\d+ \S* .*(insufficient (balance|credit|quota|funds)|payment required)",
        Outcome.STOP,
        "unpaid",
    ),
    (
        r"401 |\d+ \S*invalidapikey|200 \S* .*((invalid|incorrect|missing) api.?key|unauthori[sz]ed)",
        Outcome.STOP,
        "key refused",
    ),
    (r"\d+ \S* .*(http request (was sent )?to (an )?https|plain http)", Outcome.STOP, "needs https"),
    (r"(200|400|404|415|422|5\d\d) \S* " + _NO_VISION, Outcome.FAIL_IMAGE, "no vision"),
    (
        r"\d+ \S*modelnotfound|(200|400|404) \S* (?!.*\bimages? )(?=.*model)(?=.*(not (found|exist|available|be found)"
        r"|(unknown|invalid|no such|no|not a valid) model|model\W+\S{1,200}\W+is not supported))",
        Outcome.STOP,
        "no model",
    ),
    (r"403 |\d+ (model\.)?accessdenied|200 \S* .*(access denied|forbidden)", Outcome.STOP, "access denied"),
    (r"3\d\d ", Outcome.STOP, "redirect"),
    (r"404 ", Outcome.STOP, "not found"),
    (r"\d+ invalidparameter\S* (?!.*(image|height|width|ratio|data-uri|length))", Outcome.STOP, "invalid question"),
    (
        r"\d+ (throttling|internal|requesttimeout|serviceunavailable|servererror|ratelimit|overloaded|apierror"
        r"|timeout)",
        Outcome.RETRY,
        "",
    ),
    (
        r"200 \S* .*(overload|busy|rate.?limit|too many requests|try (it )?(again|later)|retry|time(d)?.?out|temporar"
        r"|unavailable|internal (server )?error|upstream|bad gateway|loading|provider returned error)",
        Outcome.RETRY,
        "",
    ),
    (r"200 +$|(0|408|409|425|429|[5-9]\d\d) ", Outcome.RETRY, ""),
)

#: `maskmill serve`, perhaps behind a proxy; the code is the kind of its problem document, "" without one.
SAM_SERVER: Rules = (
    (r"2\d\d ", Outcome.USABLE, ""),
    (r"\d+ unknown-image ", Outcome.RETRY, "unknown image"),
    (r"40[13] ", Outcome.STOP, ""),
    (r"429 ", Outcome.RETRY, "busy"),
    (r"\d+ loading ", Outcome.RETRY, "loading"),
    # May be caused by this request: counted against the image.
    (r"\d+ (internal-error|out-of-memory|deadline-exceeded|upload-timeout) ", Outcome.RETRY, "server error"),
    (r"(408|500|504) ", Outcome.RETRY, "server error"),
    (r"50[23] ", Outcome.RETRY, "unavailable"),  # draining, or a proxy without its server
    (r"413 ", Outcome.FAIL_IMAGE, ""),
    (r"\d+ (not-found |method-not-allowed | )", Outcome.STOP, "not a SAM server"),
)


def classify(rules: Rules, status: int, code: str = "", message: str = "") -> AnswerMeaning:
    """Return what an answer means.

    Args:
        rules: of the server's protocol.
        status: HTTP status, 0 if no answer came.
        code: error code in the body, "" without one.
        message: error message in the body.
    """
    text = f"{status} {re.sub(r'[_ ]', '', code)} {message}".lower()
    for pattern, outcome, reason in rules:
        if re.match(pattern, text, re.DOTALL):
            return AnswerMeaning(outcome, reason)
    return AnswerMeaning(Outcome.FAIL_IMAGE)


def read_retry_after(headers: Any) -> float | None:
    """Return the seconds in the header Retry-After, given as a number or a date; None without it.

    Args:
        headers: a mapping, in any case.
    """
    text = next((str(value) for name, value in dict(headers or {}).items() if name.lower() == "retry-after"), "")
    if re.fullmatch(r"-?\d+(\.\d*)?", text):
        return max(0.0, float(text))
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
