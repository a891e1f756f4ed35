"""What an answer of a model API means, whatever bytes come: usable, again with a pause, this image fails, stop."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings, strategies as st
from qwen_wire import KEY, OK, Act, Wire, boxes
from test_qwen_clients import DIALECTS, ask, caller_of, client_of

from maskmill import ImageError, StopRun
from maskmill.plugins.stage import collecting
from maskmill.testing import image
from maskmill_plugins._shared.http.answers import Outcome
from maskmill_plugins._shared.http.model_answers import judge_model_answer
from maskmill_plugins._shared.http.secrets import contains_secret, mask_secret
from maskmill_plugins.prompts.qwen import Qwen
from maskmill_plugins.prompts.qwen.calls import client as clients
from maskmill_plugins.prompts.qwen.calls.answer_store import AnswerStore
from maskmill_plugins.prompts.qwen.calls.client import RetryingClient
from maskmill_plugins.prompts.qwen.calls.rate_limits import RateLimiter
from maskmill_plugins.prompts.qwen.cost.budget import Budget, BudgetReservation, Usage, read_usage

pytest.importorskip("openai")


@pytest.fixture
def wire():
    with Wire() as wire:
        yield wire


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(clients, "LONGEST_PAUSE", 0.0)


def chat(message, /, finish="stop", **more):
    body = {"choices": [{"index": 0, "finish_reason": finish, "message": message} | more.pop("choice", {})], **more}
    return json.dumps(body).encode()


PAGE = b"\n<!DOCTYPE html><html><head><title>Sign in &amp; go on</title></head><body><p>please</body></html>"
TEXT = '[{"bbox_2d": [1, 2, 3, 4]}]'
USABLE = {
    "text": chat({"content": TEXT}),
    "parts": chat({"content": [{"type": "text", "text": TEXT[:9]}, {"type": "text", "text": TEXT[9:]}]}),
    "parts of DashScope": json.dumps({"output": {"choices": [{"message": {"content": [{"text": TEXT}]}}]}}).encode(),
    "part": chat({"content": {"type": "text", "text": TEXT}}),
    "strings": chat({"content": [TEXT[:5], TEXT[5:]]}),
    "with thinking": chat({"content": TEXT, "reasoning_content": "hm"}),
    "with a thinking part": chat(
        {"content": [{"type": "thinking", "thinking": "[0]"}, {"type": "text", "text": TEXT}]}
    ),
    "error null": chat({"content": TEXT}, error=None, message="success", code=0),
    "Ollama": json.dumps({"message": {"role": "assistant", "content": TEXT}, "done_reason": "stop"}).encode(),
    "output.text": json.dumps({"output": {"text": TEXT, "finish_reason": "stop"}}).encode(),
    "byte order mark": b"\xef\xbb\xbf" + chat({"content": TEXT}),
}


@pytest.mark.parametrize("body", USABLE.values(), ids=USABLE)
def test_an_answer_is_read_in_every_form(body):
    judged = judge_model_answer(200, body)
    assert (judged.meaning.outcome, judged.text) == (Outcome.USABLE, TEXT)


def error(words, **more):
    return json.dumps({"error": {"message": words, **more}}).encode()


#: name: body of an HTTP 200, what follows, the server's words or those about it.
UNUSABLE = {
    "error": (error("the picture is odd", type="invalid_request_error"), ImageError, "the picture is odd"),
    "error text": (b'{"error": "the picture is odd"}', ImageError, "the picture is odd"),
    "errors": (b'{"errors": [{"message": "the picture is odd"}]}', ImageError, "the picture is odd"),
    "message": (b'{"message": "the picture is odd"}', ImageError, "the picture is odd"),
    "detail": (b'{"detail": "the picture is odd"}', ImageError, "the picture is odd"),
    "details": (b'{"detail": [{"loc": ["body"], "msg": "the picture is odd"}]}', ImageError, "the picture is odd"),
    "inside the choice": (
        chat({"content": ""}, "error", choice={"error": {"message": "the picture is odd", "code": 400}}),
        ImageError,
        "the picture is odd",
    ),
    "half an answer and an error": (
        chat({"content": "[{"}, "error", choice={"error": {"message": "odd provider"}}),
        ImageError,
        "odd provider",
    ),
    "thoughts": (
        chat({"content": None, "reasoning_content": "Let me see"}),
        ImageError,
        "only thought.*`thinking",
    ),
    "thoughts cut": (chat({"content": "", "reasoning": "Let me"}, "length"), ImageError, "larger `max_tokens:`"),
    "refusal": (chat({"content": None, "refusal": "I cannot help with that"}), ImageError, "I cannot help with that"),
    "refusal part": (
        chat({"content": [{"type": "refusal", "refusal": "I cannot help"}]}),
        ImageError,
        "refuses to answer: .*I cannot help",
    ),
    "filter": (chat({"content": ""}, "content_filter"), ImageError, "content inspection"),
    "filter error": (error("blocked by the content management policy"), ImageError, "content inspection"),
    "tool": (chat({"content": None, "tool_calls": [{"id": "1"}]}), ImageError, "a call of a tool"),
    "page": (PAGE, StopRun, r"web page.*\n.*Sign in & go on"),
    "402": (b'{"status": 402, "message": "top up"}', StopRun, "no credit left.*\n.*top up"),
    "402 as code": (error("Insufficient credits", code=402), StopRun, "no credit left"),
    "402 as text": (b'{"code": "402", "message": "x"}', StopRun, "no credit left"),
    "unpaid in words": (b'{"detail": "Insufficient balance"}', StopRun, "no credit left"),
    "401": (error("User not found.", code=401), StopRun, "rejected the key"),
    "no model": (error("model 'qwen9' not found, try pulling it first"), StopRun, "has no model"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("body", "kind", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_answer_that_is_none_is_asked_once(wire, dialect, body, kind, words):
    wire.script([], Act(raw=body))
    with pytest.raises(kind, match="(?s)" + words):
        ask(caller_of(wire, dialect))
    assert len(wire.calls) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "body",
    [
        error("The model is loading"),
        error("Provider returned error", code=502),
        error("x", type="rate_limit_exceeded"),
        error("x", type="server_error"),
        b'{"message": "Too many requests, slow down"}',
        b'{"error": "upstream connect error"}',
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"hello"',
        chat({"content": None}),
        b'{"choices": []}',
        b'{"choices": [null]}',
        b"[" * 100_000,
        b"1" * 5000,
    ],
    ids=lambda body: body[:40].decode(),
)
def test_what_may_pass_is_asked_again_and_the_answer_taken(wire, dialect, body):
    wire.script([Act(raw=body)])
    assert ask(caller_of(wire, dialect)).text == OK.text
    assert len(wire.calls) == 2


FIELDS = (
    *("choices", "message", "content", "text", "error", "code", "status", "usage", "output", "prompt_tokens"),
    *("finish_reason", "refusal", "detail", "completion_tokens", "reasoning", "type"),
)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=300)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just(402),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(FIELDS),
                inner,
                max_size=5,
            )
        ),
        max_leaves=25,
    ).map(lambda value: json.dumps(value).encode()),
    st.integers(0, 999),
)
def test_any_bytes_have_one_meaning(body, status):
    judged = judge_model_answer(status, body)
    assert (judged.meaning.outcome is Outcome.USABLE) <= (200 <= status < 300)
    assert (judged.meaning.outcome is not Outcome.USABLE) <= (judged.text == "")
    assert 0 <= judged.input_tokens <= 10**9 >= judged.output_tokens >= 0
    assert all(isinstance(one, str) for one in (judged.text, judged.finish, judged.code, judged.message))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_any_bytes_end_after_a_bounded_number_of_calls(dialect):
    with Wire() as wire:
        client, bodies = client_of(wire, dialect), [body for body, *_ in UNUSABLE.values()]

        @settings(max_examples=25, deadline=None)
        @given(
            st.binary(max_size=60) | st.sampled_from(bodies),
            st.sampled_from([200, 400, 500]),
        )
        def check(body, status):
            wire.calls.clear()
            wire.script([], Act(raw=body, status=status))
            reservation = BudgetReservation(Budget(), None)
            caller = RetryingClient(client, client._endpoint, RateLimiter(1, None, None), reservation)
            with pytest.raises((ImageError, StopRun)):
                ask(caller)
            reservation.close()
            assert 1 <= len(wire.calls) <= clients.TRIES

        check()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tokens_of_unusable_answers_are_counted(wire, dialect, tmp_path):
    usage = {"prompt_tokens": 900, "completion_tokens": 100, "input_tokens": 900, "output_tokens": 100}
    wire.script(
        [Act(raw=chat({"content": None}, usage=usage))] * 2,
        Act(raw=chat({"content": None, "refusal": "no"}, usage=usage)),
    )
    with pytest.raises(ImageError):
        ask(caller_of(wire, dialect, folder=tmp_path))
    assert read_usage(tmp_path) == Usage(3, 2700, 300)


def test_a_budget_of_tokens_ends_a_run_of_unusable_answers(wire, tmp_path):
    usage = {"prompt_tokens": 900, "completion_tokens": 100}
    wire.script([], Act(raw=chat({"content": None}, usage=usage)))
    with pytest.raises(StopRun, match="the budget is spent: 2,000 of 2,100 tokens"):
        ask(caller_of(wire, "openai", folder=tmp_path, budget=Budget(tokens=2100)))
    assert len(wire.calls) == 2


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("Model qwen3:8b does not support images. Please use a model that does.", 400),
        ("this model is missing data required for image input", 500),
        ("No endpoints found that support image input", 404),
        ("image input is not supported - hint: you may need to provide the mmproj", 500),
        ("qwen3-8b is not a multimodal model", 400),
        ("At most 0 image(s) may be provided in one request.", 400),
    ],
)
def test_a_model_that_sees_nothing_is_not_a_missing_model(wire, words, status):
    wire.script([], Act(status=status, code="x", message=words))
    caller = caller_of(wire, "openai")
    for _ in range(2):
        with pytest.raises(ImageError, match="accepts no images there: set `model:` to a vision model"):
            ask(caller)
    with pytest.raises(StopRun, match="first 3 questions"):
        ask(caller)


@pytest.mark.parametrize(
    "words",
    [
        "The model does not support this image format",
        "image too large, not supported by the model",
        "Image not found in model input",
    ],
)
def test_one_refused_picture_does_not_stop_the_run(wire, words):
    wire.script([Act(status=400, code="BadRequest", message=words)])
    caller = caller_of(wire, "openai")
    with pytest.raises(ImageError):
        ask(caller)
    assert ask(caller).text == OK.text


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("where", ["body", "headers"])
def test_the_timeout_bounds_the_whole_answer(wire, monkeypatch, dialect, where):
    monkeypatch.setattr(clients, "TRIES", 1)
    wire.script([], Act(drip=(0.1, where)))
    client = client_of(wire, dialect, timeout=0.5)
    reservation = BudgetReservation(Budget(), None)
    caller = RetryingClient(client, client._endpoint, RateLimiter(1, None, None), reservation)
    done = threading.Event()

    def run():
        with pytest.raises(ImageError, match=r"did not answer within 0\.5 s"):
            ask(caller)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(5)
    reservation.close()


@pytest.mark.parametrize(
    ("secret", "text", "masked"),
    [
        ("1", "581 1 x1", None),
        ("ollama", "ollama answered", None),
        (KEY, f"wrong key: {KEY}.", "wrong key: ***."),
        (KEY, f'{{"key":"{KEY}"}}, Bearer {KEY}', '{"key":"***"}, Bearer ***'),
        (KEY, f"{KEY}0 and x{KEY}", None),
        ("forklift", "forklifts, forklift", "forklifts, ***"),
        ("a+b=c/d==", "a+b=c/d==!", "***!"),
        (None, "None", None),
        ("", "abc", None),
    ],
)
def test_whole_tokens_are_masked(secret, text, masked):
    assert mask_secret(text, secret) == (masked or text)
    assert contains_secret(text, secret) == (masked is not None)


@pytest.fixture
def qwen(wire, monkeypatch, tmp_path):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    made = []

    def make(**options):
        given = {"provider": "openai", "base_url": wire.openai, "find": ["block"], **options}
        made.append(Qwen.from_options(given))
        made[-1].open()
        return made[-1]

    yield make
    for stage in made:
        stage.close()


@pytest.mark.parametrize("key", ["1", "k", "EMPTY", "ollama", "lm-studio", "forklift", KEY])
def test_no_key_changes_what_is_read(wire, qwen, key):
    wire.key = None
    wire.script([], Act(boxes(("block", (100, 200, 581, 711)), ("forklift", (1, 2, 300, 400)))))
    found = qwen(api_key=key, find="all of them").prompts(image())
    plain = qwen(find="all of them", cache=False).prompts(image())
    assert found == plain
    assert [one.label for one in found] == ["block", "forklift"]


def test_an_unreadable_reply_is_kept_without_the_key(wire, qwen, tmp_path):
    wire.script([], Act(f"your key is {KEY}"))
    notes = {}
    with collecting(notes), pytest.raises(ImageError, match=r"your key is \*\*\*"):
        qwen(api_key=KEY).prompts(image())
    assert notes["unreadable"] == ["your key is ***"] * 2
    store = AnswerStore(tmp_path / "cache/qwen")
    assert store.list_models() == []
    store.close()


def test_a_long_message_is_masked_before_it_is_cut(wire):
    wire.script([], Act(status=400, code="Odd", message="x" * 480 + f" {KEY} " + "y" * 80))
    with pytest.raises(ImageError) as raised:
        ask(caller_of(wire, "openai"))
    assert KEY[:10] not in str(raised.value)


def test_names_that_are_taken_for_the_class_are_noted(wire, qwen):
    names = ("car", "Truck", "car", "vehicles")
    places = [(0, 0, 300, 300), (400, 400, 700, 700), (0, 500, 300, 900), (800, 0, 999, 300)]
    wire.script([], Act(boxes(*zip(names, places, strict=True))))
    notes = {}
    with collecting(notes):
        found = qwen(find=["vehicle"], api_key=KEY).prompts(image())
    assert [one.label for one in found] == ["vehicle"] * 4
    assert notes["answers"][0]["named otherwise"] == {"car": 2, "Truck": 1}
    wire.script([], Act(boxes(("vehicle 1", (0, 0, 300, 300)))))
    with collecting(notes):
        qwen(find=["vehicle"], api_key=KEY, cache=False).prompts(image())
    assert "named otherwise" not in notes["answers"][0]


@pytest.mark.parametrize("cache", [True, False])
def test_the_same_image_twice_at_once_is_asked_once(wire, qwen, cache):
    wire.script([], Act(boxes(("block", (0, 0, 300, 300))), seconds=0.2))
    stage, same = qwen(api_key=KEY, cache=cache, concurrency=8), image()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: stage.prompts(same), range(8)))
    assert len(wire.calls) == 1
    assert all(one == found[0] for one in found)
    assert not stage._session.conversation._flights._asking, "nothing is left behind"


def test_an_image_that_fails_twice_at_once_does_not_hang(wire, qwen):
    wire.script([], Act(status=400, code="Odd", message="no"))
    stage, same = qwen(api_key=KEY), image()
    with ThreadPoolExecutor(2) as threads:
        errors = [future.exception() for future in [threads.submit(stage.prompts, same) for _ in range(2)]]
    assert all(isinstance(error, ImageError) for error in errors)
