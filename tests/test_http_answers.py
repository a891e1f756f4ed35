"""What an HTTP answer means: the rules for model APIs and for SAM servers."""

import pytest

from maskmill_plugins._shared.http.answers import MODEL_API, SAM_SERVER, Outcome, classify
from maskmill_plugins._shared.http.wire import PROBLEMS


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        ((0,), Outcome.RETRY, ""),
        ((200,), Outcome.RETRY, ""),
        ((429, "Throttling.RateQuota"), Outcome.RETRY, ""),
        ((400, "InternalError.Algo"), Outcome.RETRY, ""),
        ((599,), Outcome.RETRY, ""),
        ((400, "BadRequest", "unknown field"), Outcome.FAIL_IMAGE, ""),
        ((400, "InvalidParameter", "The image length and width must be larger than 10"), Outcome.FAIL_IMAGE, ""),
        ((400, "data_inspection_failed"), Outcome.FAIL_IMAGE, "content inspection"),
        ((500, "", "Input\nmay be harmful: DataInspectionFailed"), Outcome.FAIL_IMAGE, "content inspection"),
        ((400, "InvalidParameter", "url error, please check"), Outcome.STOP, "wrong endpoint"),
        ((400, "InvalidParameter", "enable_thinking is not allowed"), Outcome.STOP, "invalid question"),
        ((429, "insufficient_quota"), Outcome.STOP, "unpaid"),
        ((403, "AllocationQuota.FreeTierOnly"), Outcome.STOP, "unpaid"),
        ((400, "invalid_api_key"), Outcome.STOP, "key refused"),
        ((404, "", "The model `x` does not exist"), Outcome.STOP, "no model"),
        ((400, "Model.AccessDenied"), Outcome.STOP, "access denied"),
        ((307,), Outcome.STOP, "redirect"),
        ((404, "", "page not found"), Outcome.STOP, "not found"),
    ],
    ids=str,
)
def test_answers_of_a_model_api(answer, outcome, reason):
    meaning = classify(MODEL_API, *answer)
    assert (meaning.outcome, meaning.reason) == (outcome, reason)


#: By kind of problem, with the status it has in the wire format.
KINDS = {
    "unauthorized": (Outcome.STOP, ""),
    "forbidden": (Outcome.STOP, ""),
    "not-found": (Outcome.STOP, "not a SAM server"),
    "method-not-allowed": (Outcome.STOP, "not a SAM server"),
    "unknown-image": (Outcome.RETRY, "unknown image"),
    "too-busy": (Outcome.RETRY, "busy"),
    "loading": (Outcome.RETRY, "loading"),
    "draining": (Outcome.RETRY, "unavailable"),
    "internal-error": (Outcome.RETRY, "server error"),
    "out-of-memory": (Outcome.RETRY, "server error"),
    "deadline-exceeded": (Outcome.RETRY, "server error"),
    "upload-timeout": (Outcome.RETRY, "server error"),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_problems_of_a_sam_server(kind):
    meaning = classify(SAM_SERVER, PROBLEMS[kind], kind)
    assert (meaning.outcome, meaning.reason) == KINDS.get(kind, (Outcome.FAIL_IMAGE, ""))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.USABLE),
        (201, Outcome.USABLE),
        (302, Outcome.STOP),
        (400, Outcome.STOP),
        (413, Outcome.FAIL_IMAGE),
        (501, Outcome.STOP),
        (502, Outcome.RETRY),
        (504, Outcome.RETRY),
    ],
)
def test_answers_without_a_problem_document(status, outcome):
    assert classify(SAM_SERVER, status).outcome is outcome
