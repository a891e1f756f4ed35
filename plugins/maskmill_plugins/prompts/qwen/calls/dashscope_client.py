"""DashScope's own API, through its SDK, which is imported with the first question."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskmill_plugins._shared.http.addresses import classify_network
from maskmill_plugins._shared.http.answers import read_retry_after

from .endpoint import Endpoint
from .errors import ServerError
from .question import ModelReply, Question

#: The SDK uploads or rewrites texts with these prefixes.
_SPECIAL = ("~", "file://", "oss://")


class DashScopeClient:
    """Sends questions through `MultiModalConversation`, or through `Generation` for text-only models.

    Args:
        endpoint: the server, with its key.
        timeout: seconds for one answer.
        concurrency: connections to keep open.
    """

    def __init__(self, endpoint: Endpoint, timeout: float, concurrency: int) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        sdk = logging.getLogger("dashscope")  # it logs every exception that it raises
        sdk.addHandler(logging.NullHandler())
        sdk.propagate = False
        self._endpoint = endpoint
        self._timeout = timeout
        self._session = requests.Session()
        self._session.trust_env = classify_network(endpoint.url) != "none"  # no proxy for this machine
        self._session.auth = _leave_unchanged
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=concurrency))

    def post(self, question: Question) -> ModelReply:
        """Send the question once, with exactly one POST.

        Raises:
            ServerError: there is no usable reply.
        """
        import requests

        once = _PostOnce(self._session)
        try:
            answer = self._call(question, once)
        except requests.exceptions.ConnectTimeout:
            raise ServerError(0, "", f"{self._endpoint.host} cannot be reached: timed out", sent=False) from None
        except requests.exceptions.Timeout:
            raise ServerError(0, "", f"{self._endpoint.host} did not answer within {self._timeout:g} s") from None
        except requests.exceptions.JSONDecodeError:  # before the next: it is a ValueError too
            raise self._describe_unusable(once, "an answer that is not JSON") from None
        except requests.exceptions.RequestException as error:
            sent = "NewConnectionError" not in repr(error) and "NameResolutionError" not in repr(error)
            raise ServerError.from_lost_connection(self._endpoint.host, sent) from None
        except (TypeError, ValueError, KeyError, AttributeError, UnicodeError):  # raised inside the SDK
            raise self._describe_unusable(once, "an answer in an unknown format") from None
        if answer.status_code != 200:
            raise ServerError(
                answer.status_code, answer.code or "", str(answer.message), read_retry_after(answer.headers)
            )
        reply = _read_reply(answer)
        if reply is None:
            raise self._describe_unusable(once, "an answer without content")
        return reply

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _call(self, question: Question, once: _PostOnce) -> Any:
        import dashscope

        options: dict[str, Any] = {
            "model": question.model,
            "api_key": self._endpoint.key,
            "base_address": self._endpoint.url,
            "request_timeout": self._timeout,
            "session": once,
            "max_tokens": question.max_tokens,
            "enable_thinking": question.thinking,
        }
        if question.thinking:
            options["thinking_budget"] = question.max_tokens
        else:
            options["temperature"] = 0.0
        if not question.multimodal:
            messages: Any = [{"role": "user", "content": question.text}]
            return dashscope.Generation.call(messages=messages, result_format="message", **options)
        content = [{"text": protect_text(question.text)}]
        if question.image is not None:
            content.insert(0, {"image": question.data_uri})
        return dashscope.MultiModalConversation.call(messages=[{"role": "user", "content": content}], **options)

    def _describe_unusable(self, once: _PostOnce, what: str) -> ServerError:
        """Return the error for a response that the SDK could not read."""
        response = once.response
        if response is None:
            return ServerError(0, "", f"{self._endpoint.host} sent {what}")
        try:
            body = response.json()
        except ValueError:
            body = {}
        if not isinstance(body, dict):
            body = {}
        code, message = str(body.get("code") or ""), str(body.get("message") or what)
        return ServerError(response.status_code, code, message, read_retry_after(response.headers))


def _leave_unchanged(request: Any) -> Any:
    """Keep requests from replacing the key by a password from ~/.netrc."""
    return request


class _PostOnce:
    """A session that posts once: the SDK would silently post again after a broken connection.

    Attributes:
        response: what was received, None if nothing was.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._error: Exception | None = None
        self.response: Any = None

    def post(self, **options: Any) -> Any:
        """Call `requests.Session.post`; after a failure, raise the same error again."""
        if self._error is not None:
            raise self._error
        try:
            self.response = self._session.post(**options, allow_redirects=False)
        except Exception as error:
            self._error = error
            raise
        return self.response


def _read_reply(answer: Any) -> ModelReply | None:
    """Return the reply without its thinking, None if there is no content."""
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
    return ModelReply(
        content,
        str(choice.get("finish_reason") or ""),
        int(usage.get("input_tokens") or 0),
        int(usage.get("output_tokens") or 0),
    )


def protect_text(text: str) -> str:
    """Return the text in a form that the SDK does not mistake for the path of a file, which it would upload."""
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
