"""A local server with DashScope's and OpenAI's APIs and scripted failures.

It checks paths, headers and bodies like the real ones, and records each POST: time, content, calls at once.
"""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import PIL.Image

TEXT = "/api/v1/services/aigc/text-generation/generation"
VISION = "/api/v1/services/aigc/multimodal-generation/generation"
CHAT = "/v1/chat/completions"
KEY = "sk-Wire0123456789Secret"


@dataclass
class Call:
    """One POST.

    Attributes:
        path: of the request.
        headers: names in lower case.
        body: the JSON sent.
        at: time of its arrival, in monotonic seconds.
        model: the model that was queried.
        text: of the question.
        picture: the image sent, decoded; None without one.
        at_once: running calls at its arrival, including this one.
        number: from 0 on.
    """

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float
    at_once: int = 0
    number: int = 0
    model: str = ""
    text: str = ""
    picture: PIL.Image.Image | None = None
    encoded: bytes = b""

    @property
    def is_openai(self) -> bool:
        return self.path == CHAT


@dataclass
class Act:
    """How the server responds to one call.

    Attributes:
        text: of the answer.
        status: HTTP status.
        code: error code.
        message: error message.
        headers: additional headers.
        raw: body to send instead of the API's JSON.
        media: media type of `raw`.
        seconds: delay before the answer.
        drop: close the connection without an answer.
        drip: send a space each so many seconds, before the body or ("headers") before the headers' end; for ever.
        finish: why the answer ended.
        output_tokens: None for one token per four characters.
        thinking: text for the field with the model's thinking.
    """

    text: str = "[]"
    status: int = 200
    code: str = ""
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    media: str = "application/json"
    seconds: float = 0.0
    drop: bool = False
    drip: tuple[float, str] | None = None
    finish: str = "stop"
    output_tokens: int | None = None
    thinking: str = ""


def boxes(*found: tuple[str, tuple[float, float, float, float]]) -> str:
    """Return an answer with these boxes."""
    objects = [{"bbox_2d": list(numbers), "label": label} for label, numbers in found]
    return "```json\n" + json.dumps(objects, ensure_ascii=False) + "\n```"


OK = Act(boxes(("vehicle", (250, 250, 750, 750))))
ERRORS = {
    "bad key": Act(status=401, code="InvalidApiKey", message="Invalid API-key provided."),
    "throttled": Act(status=429, code="Throttling.RateQuota", message="Requests rate limit exceeded"),
    "throttled for 1 s": Act(
        status=429, code="Throttling", message="Requests throttling triggered.", headers={"Retry-After": "1"}
    ),
    "inspected": Act(status=400, code="DataInspectionFailed", message="Input data may contain inappropriate content."),
    "unpaid": Act(status=400, code="Arrearage", message="Access denied, your account is overdue."),
    "url error": Act(status=400, code="InvalidParameter", message="url error, please check url!"),
    "no model": Act(status=404, code="ModelNotFound", message="Model can not be found."),
    "internal": Act(status=500, code="InternalError.Algo", message="inference internal error"),
    "html": Act(status=502, raw=b"<html><h1>502 Bad Gateway</h1></html>", media="text/html"),
    "not json": Act(raw=b'{"output": {"choices": [{"mess'),
    "dropped": Act(drop=True),
    "no output": Act(raw=b'{"request_id": "1", "usage": {}}'),
    "code, no output": Act(raw=b'{"request_id": "1", "code": "InternalError", "message": "try later"}'),
}


class Wire:
    """The server; a context manager.

    Args:
        answer: returns the response to a call; OK for all calls if left out.
        key: the valid key; None accepts any.
    """

    input_tokens: int  # of all good answers, like the next two
    output_tokens: int
    good: int

    def __init__(self, answer: Callable[[Call], Act] | None = None, key: str | None = KEY) -> None:
        self.answer = answer or (lambda call: OK)
        self.key = key
        self.calls: list[Call] = []
        self.refused: list[str] = []
        self.input_tokens = 0
        self.output_tokens = 0
        self.good = 0
        self._now = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.wire = self

    def script(self, acts: Iterable[Act | str], then: Act = OK) -> None:
        """Respond with these one after the other, then always with the last argument."""
        rest = [ERRORS[act] if isinstance(act, str) else act for act in acts]
        lock = threading.Lock()

        def answer(call: Call) -> Act:
            with lock:
                return rest.pop(0) if rest else then

        self.answer = answer

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def dashscope(self) -> str:
        return f"{self.root}/api/v1"

    @property
    def openai(self) -> str:
        return f"{self.root}/v1"

    @property
    def most_at_once(self) -> int:
        return max((call.at_once for call in self.calls), default=0)

    def __enter__(self) -> Wire:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def record_arrival(self, call: Call) -> None:
        with self._lock:
            self._now += 1
            call.at_once, call.number = self._now, len(self.calls)
            self.calls.append(call)

    def record_end(self) -> None:
        with self._lock:
            self._now -= 1

    def count(self, input_tokens: int, output_tokens: int) -> None:
        with self._lock:
            self.good += 1
            self.input_tokens += input_tokens
            self.output_tokens += output_tokens


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    wire: Wire

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # some tests kill the client


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        self.server.wire.refused.append(f"GET {self.path}")
        self._send(404, {"code": "NotFound"})

    def do_POST(self) -> None:
        wire = self.server.wire
        data = self.rfile.read(int(self.headers["Content-Length"]))
        call = Call(self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(data), time.monotonic())
        wire.record_arrival(call)
        try:
            self._answer(wire, call)
        finally:
            wire.record_end()

    def _answer(self, wire: Wire, call: Call) -> None:
        if wrong := parse(call):
            wire.refused.append(wrong)
            self._fail(call, 400, "InvalidParameter", wrong)
            return
        if wire.key is not None and call.headers.get("authorization") != f"Bearer {wire.key}":
            self._fail(call, 401, "InvalidApiKey", "Invalid API-key provided.")
            return
        act = wire.answer(call)
        time.sleep(act.seconds)
        if act.drop:
            self.close_connection = True
            return
        if act.drip is not None:
            self._drip(*act.drip)
            return
        if act.raw is not None:
            self._send(act.status, act.raw, act.headers, act.media)
        elif act.status != 200:
            self._fail(call, act.status, act.code, act.message, act.headers)
        else:
            self._send(200, make_body(wire, call, act), act.headers)

    def _drip(self, seconds: float, where: str) -> None:
        self.send_response(200)
        if where != "headers":
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "100000")
            self.end_headers()
        self.flush_headers()
        self.close_connection = True
        try:
            while True:
                self.wfile.write(b" " if where != "headers" else b"X-Wait: 1\r\n")
                time.sleep(seconds)
        except OSError:
            return

    def _fail(self, call: Call, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        if call.is_openai:
            body: Any = {"error": {"message": message, "type": code, "param": None, "code": code}}
        else:
            body = {"code": code, "message": message, "request_id": "7"}
        self._send(status, body, headers)

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None, media: str = "") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": media or "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def parse(call: Call) -> str:
    """Set model, text and picture; return what the real server would reject, "" if nothing."""
    if call.path not in (TEXT, VISION, CHAT):
        return f"no such path: {call.path}"
    body = call.body
    call.model = body["model"]
    if call.is_openai:
        (message,) = body["messages"]
        return _parse_openai(call, message["content"])
    if set(body) - {"model", "parameters", "input"}:
        return f"unknown fields {sorted(body)}"
    (message,) = body["input"]["messages"]
    content = message["content"]
    if call.path == TEXT:
        call.text = content
        right = isinstance(content, str) and body["parameters"]["result_format"] == "message"
        return "" if right else "the text endpoint takes text"
    if "x-dashscope-ossresourceresolve" in call.headers:
        return "something was uploaded"
    call.text = content[-1]["text"]
    if len(content) == 2:
        return _picture(call, content[0]["image"])
    return ""


def _parse_openai(call: Call, content: Any) -> str:
    if isinstance(content, str):
        call.text = content
        return ""
    image, text = content
    call.text = text["text"]
    return _picture(call, image["image_url"]["url"])


def _picture(call: Call, uri: str) -> str:
    head, _, data = uri.partition(";base64,")
    if not head.startswith("data:image/"):
        return f"not a data URI: {uri[:40]}"
    call.encoded = base64.b64decode(data, validate=True)
    call.picture = PIL.Image.open(io.BytesIO(call.encoded))
    call.picture.load()
    return "" if PIL.Image.MIME[call.picture.format or ""] == head[5:] else f"{head} is {call.picture.format}"


def make_body(wire: Wire, call: Call, act: Act) -> dict[str, Any]:
    """Return the body of a good answer, in the format of the call's API."""
    output_tokens = len(act.text) // 4 + 1 if act.output_tokens is None else act.output_tokens
    input_tokens = len(call.text) // 4 + 20
    if call.picture is not None:
        input_tokens += call.picture.width * call.picture.height // 32**2 + 2
    wire.count(input_tokens, output_tokens)
    message: dict[str, Any] = {"role": "assistant", "content": act.text}
    if act.thinking:
        message["reasoning_content"] = act.thinking
    if call.is_openai:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": call.model,
            "choices": [{"index": 0, "finish_reason": act.finish, "message": message}],
            "usage": {
                "prompt_tokens": input_tokens,
                "completion_tokens": output_tokens,
                "total_tokens": input_tokens + output_tokens,
            },
        }
    if call.path == VISION:
        message["content"] = [{"text": act.text}]
    return {
        "output": {"choices": [{"finish_reason": act.finish, "message": message}]},
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
        "request_id": "7",
    }
