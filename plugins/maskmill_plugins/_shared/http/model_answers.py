"""Judges what a model API sent: an answer of the model, or what else it means for the run.

An HTTP 200 is not yet an answer: servers and proxies send errors, refusals, pages for people and the model's thinking
alone with it. DashScope's and OpenAI's forms are read alike, and whatever bytes come, one meaning follows.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .answers import MODEL_API, AnswerMeaning, Outcome, classify

#: Characters of a body that is not JSON, in a message.
SHOWN = 200
#: More tokens than any call can use: a count beyond it is no count.
MOST_TOKENS = 10**9
_FILTERED = ("content_filter", "data_inspection_failed", "sensitive")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_TEXTS = ("message", "detail", "error_description", "msg", "title")
_PAGE = re.compile(r"\s*(<!--.*?-->\s*)*<(!doctype|html|head|body|\?xml)\b", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """What an answer of a model API means.

    Attributes:
        meaning: what to do.
        text: of the model, without its thinking; "" unless usable.
        finish: why the text ended there, in the server's word.
        input_tokens: of the question, as the server counted them, also if the answer is unusable.
        output_tokens: of the answer, thinking included.
        status: HTTP status, or the one that the body gives for an error.
        code: the server's error code, "" without one.
        message: what is wrong, in the server's own words where it has any; "" if usable.
    """

    meaning: AnswerMeaning
    text: str = ""
    finish: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    status: int = 200
    code: str = ""
    message: str = ""


def judge_model_answer(status: int, body: bytes) -> JudgedAnswer:
    """Return what an HTTP answer of a model API means.

    Args:
        status: HTTP status.
        body: any bytes.
    """
    data = _parse(body)
    if not isinstance(data, Mapping):
        return _judge_text(status, body, data)
    choice = _find_choice(data)
    code, message, inner = _find_error(data, choice)
    used, written = _find_tokens(data)
    if 200 <= status < 300:
        if not (code or message or inner):
            return _judge_choice(choice, used, written)
        status = inner or 200
    meaning = classify(MODEL_API, status, code, message)
    return JudgedAnswer(meaning, "", "", used, written, status, code, message)


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None


def _judge_text(status: int, body: bytes, data: Any) -> JudgedAnswer:
    """Judge a body that is no JSON object: a page for people, plain words, or rubbish."""
    text = body[:100_000].decode("utf-8", "replace")
    if _PAGE.match(text):
        words = _read_page(text)
        if 200 <= status < 300:
            stop = AnswerMeaning(Outcome.STOP, "web page")
            return JudgedAnswer(stop, status=status, message=f"a web page: {words}")
    else:
        words = " ".join((data if isinstance(data, str) else text).split())[:SHOWN]
    if 200 <= status < 300:
        said = f"an answer that is not JSON: {words!r}" if words else "an empty answer"
        return JudgedAnswer(AnswerMeaning(Outcome.RETRY), status=status, message=said)
    return JudgedAnswer(classify(MODEL_API, status, "", words), status=status, message=words)


def _read_page(text: str) -> str:
    """Return the title of a page, or the beginning of its text."""
    title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    heading = re.search(r"<h1[^>]*>([^<]*)", text, re.IGNORECASE)
    found = next((match[1] for match in (title, heading) if match and match[1].strip()), None)
    if found is None:
        found = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>?", " ", text, flags=re.IGNORECASE | re.DOTALL)
    return " ".join(html.unescape(found).split())[:SHOWN]


def _find_choice(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the first choice in any of the forms that servers use; empty if there is none."""
    output = data.get("output")
    inside = output if isinstance(output, Mapping) else data
    choices = inside.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        return choices[0]
    if isinstance(inside.get("message"), Mapping):  # Ollama's own form
        return {"message": inside["message"], "finish_reason": data.get("done_reason")}
    return inside if isinstance(output, Mapping) and isinstance(output.get("text"), str) else {}


def _find_error(data: Mapping[str, Any], choice: Mapping[str, Any]) -> tuple[str, str, int]:
    """Return code and message of an error, and the HTTP status that the body gives it; "", "" and 0 without one."""
    for holder in (data, choice):
        if error := holder.get("error") or holder.get("errors"):
            return _read_error(error, data)
    return ("", "", 0) if choice else _read_error(data, data)


def _read_error(error: Any, data: Mapping[str, Any]) -> tuple[str, str, int]:
    if isinstance(error, list) and error:
        error = error[0]
    if not isinstance(error, Mapping):
        return "", _read_words(error) or "an error", _find_status(data)
    inner = error.get("error")
    if isinstance(inner, Mapping):
        return _read_error(inner, data)
    message = next((words for name in _TEXTS if (words := _read_words(error.get(name)))), "") or _read_words(inner)
    code = error.get("code")
    if code is None or isinstance(code, (int, float)) or str(code).isdigit():  # the HTTP status, repeated
        code = error.get("type")
    code = code if isinstance(code, str) else ""
    status = _find_status(error) or _find_status(data)
    if error is not data and not (code or message or status):
        message = _read_words(error)
    return code, message, status


def _read_words(value: Any) -> str:
    """Return what a server says in a field: a text, or a list or mapping that has one."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):  # FastAPI: [{"loc": [...], "msg": "..."}]
        return "; ".join(filter(None, map(_read_words, value[:3])))
    if isinstance(value, Mapping):
        found = next((words for name in _TEXTS if (words := _read_words_flat(value.get(name)))), "")
        return found or (json.dumps(value, ensure_ascii=False)[:SHOWN] if value else "")
    return ""


def _read_words_flat(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _find_status(holder: Mapping[str, Any]) -> int:
    """Return the HTTP status of an error that a body names, 0 if none."""
    for name in ("code", "status", "status_code", "statusCode"):
        value = holder.get(name)
        text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
        if re.fullmatch(r"[345]\d\d", text, re.ASCII):
            return int(text)
    return 0


def _judge_choice(choice: Mapping[str, Any], used: int, written: int) -> JudgedAnswer:
    """Judge what the model said, or why it said nothing."""
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {"content": choice.get("text")}
    text, refusal = _read_content(message.get("content"))
    refusal = refusal or _read_words_flat(message.get("refusal"))
    finish = _read_words_flat(choice.get("finish_reason"))

    def unusable(outcome: Outcome, reason: str, words: str) -> JudgedAnswer:
        return JudgedAnswer(AnswerMeaning(outcome, reason), "", finish, used, written, message=words)

    if text is not None and text.strip():
        return JudgedAnswer(AnswerMeaning(Outcome.USABLE), text, finish, used, written)
    if finish.lower() in _FILTERED:
        return unusable(Outcome.FAIL_IMAGE, "content inspection", f"no answer, finish_reason {finish!r}")
    if refusal:
        return unusable(Outcome.FAIL_IMAGE, "refusal", refusal)
    if finish == "length" or any(_read_words(message.get(name)) for name in _THOUGHTS):
        return unusable(Outcome.FAIL_IMAGE, "thoughts only", "the model's thinking, and no answer after it")
    if message.get("tool_calls") or message.get("function_call"):
        return unusable(Outcome.FAIL_IMAGE, "", "a call of a tool instead of an answer")
    if text is None:
        return unusable(Outcome.RETRY, "", "an answer without content")
    return JudgedAnswer(AnswerMeaning(Outcome.USABLE), text, finish, used, written)


def _read_content(content: Any) -> tuple[str | None, str]:
    """Return the text of a message, None without one, and a refusal among its parts."""
    if isinstance(content, str):
        return content, ""
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list):
        return None, ""
    texts, refusals = [], []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping):
            if part.get("type") in (None, "text", "output_text") and isinstance(part.get("text"), str):
                texts.append(part["text"])
            refusals.append(_read_words_flat(part.get("refusal")))
    return ("".join(texts) if texts else None), " ".join(filter(None, refusals))


def _find_tokens(data: Mapping[str, Any]) -> tuple[int, int]:
    """Return the tokens of the question and of the answer, as the server counted them."""
    usage = data.get("usage")
    usage = usage if isinstance(usage, Mapping) else data
    used = _read_count(usage, "prompt_tokens", "input_tokens", "prompt_eval_count")
    written = _read_count(usage, "completion_tokens", "output_tokens", "eval_count")
    if not used + written:
        used = _read_count(usage, "total_tokens")
    return used, written


def _read_count(usage: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = usage.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS:
            return int(value)
    return 0
