"""DashScope's own dialect, through its SDK, which is imported when the first question is put."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskmill_plugins._shared.http.reach import reach
from maskmill_plugins._shared.http.waiting import retry_after

from .answer_store import Reply
from .errors import Trouble
from .question import Question
from .servers import Server

#: What the SDK takes for something to upload, or to write in another way.
_SPECIAL = ("~", "file://", "oss://")


class DashScope:
    """Puts questions by `MultiModalConversation`, or by `Generation` for models of text alone.

    Args:
        server: where, with its key.
        timeout: seconds for one answer.
        concurrency: connections to keep.
    """

    def __init__(self, server: Server, timeout: float, concurrency: int) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        sdk = logging.getLogger("dashscope")  # it logs every exception that it raises
        sdk.addHandler(logging.NullHandler())
        sdk.propagate = False
        self._server = server
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = reach(server.url) != "none"  # no proxy stands before one's own machine
        self._session.auth = _as_it_is
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=concurrency))

    def post(self, question: Question) -> Reply:
        """Put the question once, with exactly one POST.

        Raises:
            Trouble: there is no usable answer.
        """
        import requests

        once = _Once(self._session)
        try:
            answer = self._call(question, once)
        except requests.exceptions.ConnectTimeout:
            raise Trouble(0, "", f"{self._server.host} cannot be reached: timeout", sent=False) from None
        except requests.exceptions.Timeout:
            raise Trouble(0, "", f"{self._server.host} did not answer within {self._timeout:g} s") from None
        except requests.exceptions.JSONDecodeError:  # before the next: it is a ValueError too
            raise self._unusable(once, "an answer that is not JSON") from None
        except requests.exceptions.RequestException as error:
            raise self._lost(error) from None
        except (TypeError, ValueError, KeyError, AttributeError, UnicodeError):  # the SDK met what it did not expect
            raise self._unusable(once, "an answer of another form") from None
        if answer.status_code != 200:
            raise Trouble(answer.status_code, answer.code or "", str(answer.message), retry_after(answer.headers))
        reply = _reply(answer)
        if reply is None:
            raise self._unusable(once, "an answer without content")
        return reply

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    def _call(self, question: Question, once: _Once) -> Any:
        import dashscope

        given: dict[str, Any] = {
            "model": question.model,
            "api_key": self._server.key,
            "base_address": self._server.url,
            "request_timeout": self._timeout,
            "session": once,
            "max_tokens": question.max_tokens,
            "enable_thinking": question.thinking,
        }
        if question.thinking:
            given["thinking_budget"] = question.max_tokens
        else:
            given["temperature"] = 0.0
        if not question.multimodal:
            messages: Any = [{"role": "user", "content": question.text}]
            return dashscope.Generation.call(messages=messages, result_format="message", **given)
        content = [{"text": as_text(question.text)}]
        if question.picture is not None:
            content.insert(0, {"image": data_uri(question.picture, question.media)})
        return dashscope.MultiModalConversation.call(messages=[{"role": "user", "content": content}], **given)

    def _unusable(self, once: _Once, what: str) -> Trouble:
        """What a response says that the SDK could not make anything of."""
        response = once.response
        if response is None:
            return Trouble(0, "", f"{self._server.host} gave {what}")
        try:
            body = response.json()
        except ValueError:
            body = {}
        if not isinstance(body, dict):
            body = {}
        code, message = str(body.get("code") or ""), str(body.get("message") or what)
        return Trouble(response.status_code, code, message, retry_after(response.headers))

    def _lost(self, error: Exception) -> Trouble:
        """A connection that broke, or never was."""
        sent = "NewConnectionError" not in repr(error) and "NameResolutionError" not in repr(error)
        text = "the connection broke before an answer came" if sent else "it cannot be reached"
        return Trouble(0, "", f"{self._server.host}: {text}", sent=sent)


def _as_it_is(request: Any) -> Any:
    """Keeps requests from putting a password of ~/.netrc in the place of the key."""
    return request


class _Once:
    """A session that posts once: the SDK posts again on a connection that broke, unseen and uncounted.

    Attributes:
        response: what came back, None if nothing did.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._error: Exception | None = None
        self.response: Any = None

    def post(self, **given: Any) -> Any:
        """`requests.Session.post`, the first time; then what that raised."""
        if self._error is not None:
            raise self._error
        try:
            self.response = self._session.post(**given, allow_redirects=False)
        except Exception as error:
            self._error = error
            raise
        return self.response


def _reply(answer: Any) -> Reply | None:
    """The answer's own text, without its thinking; None if it has none."""
    try:
        choice = answer.output.choices[0]
        content = choice.message.content
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    if isinstance(content, list):
        content = "".join(str(part["text"]) for part in content if isinstance(part, Mapping) and part.get("text"))
    if not isinstance(content, str):
        return None
    usage = answer.usage or {}
    return Reply(
        content,
        str(choice.get("finish_reason") or ""),
        int(usage.get("input_tokens") or 0),
        int(usage.get("output_tokens") or 0),
    )


def data_uri(picture: bytes, media: str) -> str:
    """An encoded image as a data URI."""
    return f"data:{media};base64,{base64.b64encode(picture).decode('ascii')}"


def as_text(text: str) -> str:
    """The text in a form that the SDK does not take for a file: it uploads what is the path of one."""
    if text.startswith(_SPECIAL) or _is_file(text):
        text = "\n" + text
    while _is_file(text):
        text += "\n"
    return text


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False
