"""The clients of both APIs: what is sent, what follows from each answer, retries, rates and budget."""

import email.utils
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from qwen_wire import CHAT, ERRORS, KEY, OK, TEXT, VISION, Act, Wire

from maskmill import ImageError, PipelineError, StopRun
from maskmill.testing import pixels
from maskmill_plugins._shared.http.answers import read_retry_after
from maskmill_plugins.prompts.qwen.calls import client as clients
from maskmill_plugins.prompts.qwen.calls.answer_store import AnswerStore
from maskmill_plugins.prompts.qwen.calls.client import RetryingClient
from maskmill_plugins.prompts.qwen.calls.dashscope_client import DashScopeClient, protect_text
from maskmill_plugins.prompts.qwen.calls.endpoint import Endpoint, resolve_endpoint
from maskmill_plugins.prompts.qwen.calls.openai_client import OpenAIClient
from maskmill_plugins.prompts.qwen.calls.question import ModelReply, Question
from maskmill_plugins.prompts.qwen.calls.rate_limits import RateLimiter
from maskmill_plugins.prompts.qwen.cost.budget import Budget, BudgetReservation, Usage, read_usage

DIALECTS = ["dashscope", "openai"]
OPENED = []
LITTLE = Usage(1, 100, 100)


@pytest.fixture
def wire():
    with Wire() as wire:
        yield wire


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr(clients, "LONGEST_PAUSE", 0.01)


@pytest.fixture(autouse=True)
def opened():
    """Close what a test opens."""
    yield
    while OPENED:
        OPENED.pop().close()


def picture():
    import io

    import PIL.Image

    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels()).save(buffer, "PNG")
    return buffer.getvalue()


def client_of(wire, dialect, timeout=5.0, key=KEY):
    pytest.importorskip(dialect)
    kind = {"dashscope": DashScopeClient, "openai": OpenAIClient}[dialect]
    OPENED.append(kind(Endpoint(dialect, getattr(wire, dialect), "cn-beijing", key), timeout, 8))
    return OPENED[-1]


def caller_of(wire, dialect, concurrency=4, budget=None, folder=None, **limits):
    client = client_of(wire, dialect)
    values = {"rpm": None, "tpm": None, **limits}
    OPENED.append(BudgetReservation(budget or Budget(), folder))
    return RetryingClient(client, client._endpoint, RateLimiter(concurrency, **values), OPENED[-1])


def ask(caller, text="Locate", told=None, **values):
    question = Question("qwen3.7-plus", text, **values)
    return caller.ask(question, LITTLE, LITTLE, (told if told is not None else []).append)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_picture_and_a_text_are_sent_and_an_answer_comes(wire, dialect):
    sent = picture()
    reply = client_of(wire, dialect).post(Question("qwen3.7-plus", "Locate", sent, "image/png", max_tokens=77))
    (call,) = wire.calls
    assert (call.path, call.text, call.encoded) == (VISION if dialect == "dashscope" else CHAT, "Locate", sent)
    assert call.headers["authorization"] == f"Bearer {KEY}"
    parameters = call.body["parameters"] if dialect == "dashscope" else call.body
    assert (parameters["max_tokens"], parameters["temperature"]) == (77, 0.0)
    assert reply.text == OK.text
    assert reply.finish == "stop"
    assert (reply.input_tokens, reply.output_tokens) == (wire.input_tokens, wire.output_tokens)
    assert not wire.refused


@pytest.mark.parametrize("dialect", DIALECTS)
def test_thinking_is_switched_off_by_name_and_never_part_of_the_answer(wire, dialect):
    wire.script([], Act("[]", thinking='[{"bbox_2d": [1, 2, 3, 4]}]'))
    reply = client_of(wire, dialect).post(Question("qwen3.7-plus", "Locate"))
    body = wire.calls[0].body
    if dialect == "dashscope":
        assert body["parameters"]["enable_thinking"] is False
    else:
        assert body["chat_template_kwargs"] == {"enable_thinking": False}
        assert body["think"] is False
    assert reply.text == "[]"


def test_text_alone_goes_to_the_endpoint_of_the_model(wire):
    client = client_of(wire, "dashscope")
    client.post(Question("qwen-turbo", "Where?", multimodal=False))
    client.post(Question("qwen3.7-plus", "Where?"))
    assert [call.path for call in wire.calls] == [TEXT, VISION]
    assert not wire.refused


def test_a_text_that_is_the_path_of_a_file_is_not_uploaded(wire, tmp_path):
    path = tmp_path / "secret.txt"
    path.write_text("secret", encoding="utf-8")
    for text in (str(path), f"file://{path}", "~/x", "oss://x"):
        client_of(wire, "dashscope").post(Question("qwen3.7-plus", text))
        assert wire.calls[-1].text.strip() == text
    assert not wire.refused
    assert protect_text("an ordinary question") == "an ordinary question"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ("bad key", StopRun, "rejected the key"),
        ("unpaid", StopRun, "has no credit left"),
        ("no model", StopRun, "hosted models are retired after about a year; set `model:`"),
        ("url error", StopRun, "wrong endpoint for this model"),
        ("inspected", ImageError, "content inspection"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_cannot_succeed_is_not_tried_again(wire, dialect, error, kind, words):
    wire.script([], ERRORS[error])
    with pytest.raises(kind, match=words) as raised:
        ask(caller_of(wire, dialect))
    assert len(wire.calls) == 1
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_refused_key_names_host_and_region(wire, dialect):
    wire.script([], ERRORS["bad key"])
    with pytest.raises(StopRun, match=r"127\.0\.0\.1:\d+, region cn-beijing"):
        ask(caller_of(wire, dialect))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "error", ["throttled", "internal", "html", "not json", "dropped", "no output", "code, no output"]
)
def test_passing_troubles_are_tried_again_and_each_post_is_counted(wire, no_pauses, dialect, error, tmp_path):
    wire.script([error, error])
    told = []
    caller = caller_of(wire, dialect, folder=tmp_path)
    assert ask(caller, told=told).text == OK.text
    assert len(wire.calls) == 3
    assert read_usage(tmp_path).calls == 3
    assert len(told) == 2
    assert "retrying in" in told[0]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_slow_answer_is_given_up_and_asked_again(wire, no_pauses, dialect):
    wire.script([Act(seconds=1.0)])
    client = client_of(wire, dialect, timeout=0.3)
    OPENED.append(BudgetReservation(Budget(), None))
    caller = RetryingClient(client, client._endpoint, RateLimiter(1, None, None), OPENED[-1])
    told = []
    assert ask(caller, told=told).text == OK.text
    assert "did not answer within 0.3 s" in told[0]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_retry_after_is_waited_for(wire, no_pauses, dialect):
    wire.script(["throttled for 1 s"])
    caller = caller_of(wire, dialect)
    ask(caller)
    assert wire.calls[1].at - wire.calls[0].at >= 0.99


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_server_that_wants_hours_stops_the_run(wire, dialect):
    wire.script([], Act(status=429, code="Throttling", message="busy", headers={"Retry-After": "7200"}))
    with pytest.raises(StopRun, match="retry in 7200 s"):
        ask(caller_of(wire, dialect))
    assert len(wire.calls) == 1


def test_one_question_in_vain_fails_its_image_and_several_stop_the_run(wire, no_pauses, monkeypatch):
    monkeypatch.setattr(clients, "TRIES", 2)
    wire.script([], ERRORS["internal"])
    caller = caller_of(wire, "openai", concurrency=2)
    for _ in range(2):
        with pytest.raises(ImageError, match="gave up after 2 tries"):
            ask(caller)
    with pytest.raises(StopRun, match="3 questions in a row"):
        ask(caller)
    with pytest.raises(StopRun, match="3 questions in a row"):
        ask(caller)
    assert len(wire.calls) == 6, "after the stop nobody is asked"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_server_that_is_not_there_costs_nothing(dialect, no_pauses, monkeypatch, tmp_path):
    monkeypatch.setattr(clients, "TRIES", 2)
    with Wire() as wire:
        client = client_of(wire, dialect)
    OPENED.append(BudgetReservation(Budget(calls=1), tmp_path))
    caller = RetryingClient(client, client._endpoint, RateLimiter(1, None, None), OPENED[-1])
    with pytest.raises(ImageError, match="cannot be reached"):
        ask(caller)
    assert read_usage(tmp_path) == Usage()
    with pytest.raises(StopRun, match="is the server running"):
        ask(caller)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_refusals_of_the_first_questions_are_not_the_images_fault(wire, dialect):
    odd = Act(status=400, code="BadRequest", message="unknown field 'think'")
    wire.script([odd, odd, odd, OK, odd, odd, odd, odd])
    caller = caller_of(wire, dialect)
    for _ in range(2):
        with pytest.raises(ImageError, match="unknown field"):
            ask(caller)
    with pytest.raises(StopRun, match="first 3 questions"):
        ask(caller)
    caller = caller_of(wire, dialect)
    ask(caller)
    for _ in range(4):
        with pytest.raises(ImageError):
            ask(caller)


def test_a_proxy_is_not_asked_for_ones_own_machine(wire, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for dialect in DIALECTS:
        assert client_of(wire, dialect).post(Question("qwen3.7-plus", "Locate")).text == OK.text


def test_never_more_at_once_than_told(wire):
    wire.script([], Act(seconds=0.05))
    caller = caller_of(wire, "openai", concurrency=3)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: ask(caller), range(15)))
    assert len(wire.calls) == 15
    assert wire.most_at_once == 3


def test_calls_a_minute(wire):
    caller = caller_of(wire, "openai", concurrency=8, rpm=600)
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ask(caller), range(15)))
    assert time.monotonic() - started >= 14 * 0.1 - 0.01, "fifteen calls have fourteen pauses"


def test_calls_come_evenly_spread():
    """Six hundred calls a minute, asked for by a fake clock that stands still, then a long time later."""
    now, times = 5.0, []
    limits = RateLimiter(64, 600, None, clock=lambda: now)
    limits.wait = lambda seconds: times.append(now + seconds)
    for _ in range(14):
        with limits.acquire(10):
            pass
    assert times == pytest.approx([5 + 0.1 * number for number in range(14)])
    now = 100.0
    with limits.acquire(10), limits.acquire(10):
        assert times[14:] == pytest.approx([100, 100.1]), "idle time is not saved up"


def test_tokens_a_minute_are_paced_by_what_calls_really_take():
    """A hundred tokens a second; calls that take fifty times what was expected, or a fifth of it."""
    limits, times = RateLimiter(64, None, 6000, clock=lambda: 0.0), []
    limits.wait = times.append
    for expected, taken in ((20, 1000), (20, 20), (500, 100), (20, 20)):
        with limits.acquire(expected) as took:
            took(taken)
    assert times == pytest.approx([0, 10, 10.2, 11.2])


def test_a_minute_of_tokens_is_kept_to_with_a_server(wire):
    wire.script([], Act(output_tokens=1000))
    caller = caller_of(wire, "openai", tpm=120_000)
    started = time.monotonic()
    for _ in range(3):
        ask(caller)
    assert time.monotonic() - started >= 2 * 0.5, "2 × 1,000 tokens at 2,000 a second"


def test_a_large_question_lets_no_small_ones_gather_behind_it():
    """Sixty calls and 6,000 tokens a minute: a call of 3,000 tokens, then many of 10."""
    limits, times = RateLimiter(64, 60, 6000, clock=lambda: 0.0), []
    limits.wait = times.append
    for tokens in (3000, *[10] * 40):
        with limits.acquire(tokens):
            pass
    assert times[:3] == pytest.approx([0, 30, 31])
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("soon", None), ("", None), ("nan", None), ("inf", None)],
)
def test_retry_after(text, seconds):
    assert read_retry_after({"RETRY-AFTER": text}) == seconds


def test_retry_after_may_be_a_date():
    date = email.utils.formatdate(time.time() + 90, usegmt=True)
    assert read_retry_after({"Retry-After": date}) == pytest.approx(90, abs=3)
    assert read_retry_after({"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}) == 0.0
    assert read_retry_after({}) is read_retry_after(None) is None


@pytest.mark.parametrize(
    ("budget", "calls"),
    [(Budget(calls=3), 3), (Budget(tokens=620), 3), (Budget(cost=0.5, input_price=100, output_price=2000), 2)],
    ids=["calls", "tokens", "cost"],
)
def test_a_budget_is_never_overdrawn_and_goes_on_when_it_is_larger(wire, tmp_path, budget, calls):
    wire.script([], Act(output_tokens=100))
    for _ in range(2):  # a resumed run finds it spent
        caller = caller_of(wire, "openai", budget=budget, folder=tmp_path)
        with pytest.raises(StopRun, match="the budget is spent"):
            for _ in range(10):
                ask(caller, "x" * 320)
        assert len(wire.calls) == calls
    spent = read_usage(tmp_path)
    assert spent == Usage(calls, wire.input_tokens, wire.output_tokens)
    larger = Budget(calls=calls + 1)
    ask(caller_of(wire, "openai", budget=larger, folder=tmp_path))
    assert read_usage(tmp_path).calls == calls + 1


def test_a_budget_is_kept_by_many_threads(wire, tmp_path):
    wire.script([], Act(seconds=0.01))
    caller = caller_of(wire, "openai", concurrency=8, budget=Budget(calls=20), folder=tmp_path)

    def tried(_):
        try:
            return ask(caller)
        except StopRun:
            return None

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(tried, range(50)))
    assert len(wire.calls) == 20 == sum(answer is not None for answer in answers)


def test_what_was_under_way_at_a_kill_stays_reserved(tmp_path):
    purse = BudgetReservation(Budget(calls=2), tmp_path)
    OPENED.append(purse)
    with pytest.raises(KeyboardInterrupt), purse.reserve(LITTLE):
        raise KeyboardInterrupt
    assert read_usage(tmp_path) == LITTLE


def test_answers_are_kept_in_the_order_of_asking(tmp_path):
    answers = AnswerStore(tmp_path)
    OPENED.append(answers)
    assert answers.get("q") == []
    assert not list(tmp_path.iterdir()), "reading makes nothing"
    replies = [ModelReply("garbage", "stop", 1, 2), ModelReply("[]", "length")]
    for reply in replies:
        answers.add("q", "qwen3.7-plus", reply)
    other = AnswerStore(tmp_path)  # as after a kill: nothing was closed
    OPENED.append(other)
    assert other.get("q") == replies
    assert other.get("p") == []
    assert [model for model, *_ in other.list_models()] == ["qwen3.7-plus"]
    assert other.clear("another") == 0
    assert other.clear() == 2
    assert other.get("q") == []


def test_answers_that_cannot_be_kept_cost_a_warning(tmp_path, caplog):
    (tmp_path / "answers.sqlite").write_bytes(b"no database at all" * 100)
    answers = AnswerStore(tmp_path)
    OPENED.append(answers)
    answers.add("q", "m", ModelReply("[]"))
    assert answers.get("q") == []
    assert caplog.text.count("cannot be used") == 1


@pytest.mark.parametrize(
    ("values", "url"),
    [
        (("dashscope", None, None), "https://dashscope.aliyuncs.com/api/v1"),
        (("dashscope", None, "ap-southeast-1"), "https://dashscope-intl.aliyuncs.com/api/v1"),
        (("dashscope", None, "ws-1.cn-beijing"), "https://ws-1.cn-beijing.maas.aliyuncs.com/api/v1"),
        (("openai", None, "cn-beijing"), "https://dashscope.aliyuncs.com/compatible-mode/v1"),
        (
            ("dashscope", "https://ws-1.cn-beijing.maas.aliyuncs.com/api/v1/", None),
            "https://ws-1.cn-beijing.maas.aliyuncs.com/api/v1",
        ),
    ],
    ids=["default", "older", "newer", "compatible", "address"],
)
def test_addresses_of_alibaba_get_the_key_of_the_environment(monkeypatch, values, url):
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    found = resolve_endpoint(*values, None)
    assert (found.url, found.key) == (url, KEY)
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "http://dashscope.aliyuncs.com/api/v1",
        "https://dashscope.aliyuncs.com.evil.example/api/v1",
        "https://evil.example/dashscope.aliyuncs.com",
        "https://bucket.oss-cn-beijing.aliyuncs.com/v1",
        "http://127.0.0.1:1/v1",
    ],
)
def test_no_other_host_gets_the_key_of_the_environment(monkeypatch, url):
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert resolve_endpoint("openai", url, None, None).key is None
    assert resolve_endpoint("openai", url, None, "own").key == "own"
    with pytest.raises(PipelineError, match="missing API key"):
        resolve_endpoint("dashscope", url, None, None)


def test_an_openai_server_without_a_key_sees_none_of_the_environment(wire, monkeypatch):
    for name in ("DASHSCOPE_API_KEY", "OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, KEY)
    wire.key = None
    client_of(wire, "openai", key=None).post(Question("qwen3-vl", "Locate"))
    assert KEY not in str(wire.calls[0].headers)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (("openai", None, None, None), "Ollama: http"),
        (("dashscope", None, "cn-moon", None), "unknown region 'cn-moon'; expected one of cn-beijing"),
        (("openai", "127.0.0.1:80", None, None), "must be an address such as"),
        (("openai", "http://[::1/v1", None, None), "must be an address such as"),
        (("openai", "http://me:pw@host/v1", None, None), "contains a user name or password"),
        (("dashscope", None, None, None), "get one at https://.*set the environment variable DASHSCOPE_API_KEY"),
    ],
)
def test_wrong_addresses_say_what_is_right(monkeypatch, values, words):
    monkeypatch.delenv("DASHSCOPE_API_KEY", raising=False)
    with pytest.raises(PipelineError, match="(?s)" + words):
        resolve_endpoint(*values)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_redirect_is_not_followed(wire, dialect):
    with Wire() as other:
        wire.script([], Act(status=307, code="", message="", headers={"Location": f"{other.root}{CHAT}"}))
        with pytest.raises(StopRun, match="redirects to another address"):
            ask(caller_of(wire, dialect))
        assert not other.calls
