"""DashScope's own API, through its SDK, which is imported with the first question."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from maskmill_plugins._shared.http.addresses import classify_network
from maskmill_plugins._shared.http.connections import OverdueError, call_within, explain_connection_error

from .endpoint import Endpoint
from .errors import ServerError, read_reply
from .question import ModelReply, Question

#: Bytes that a server may send one by one before a late answer is given up.
CHUNK = 256
#: The SDK uploads or rewrites texts with these prefixes.
_SPECIAL = ("~", "file://", "oss://")


class DashScopeClient:
    """Sends questions through `MultiModalConversation`, or through `Generation` for text-only models.

    Args:
        endpoint: the server, with its key.
        timeout: seconds for one whole answer.
        concurrency: connections to keep open.
        ca: PEM file of the certificate authority, None for the usual ones.
    """

    def __init__(self, endpoint: Endpoint, timeout: float, concurrency: int, ca: Path | None = None) -> None:
        import requests
        from requests.adapters import HTTPAdapter

        sdk = logging.getLogger("dashscope")  # it logs every exception that it raises
        sdk.addHandler(logging.NullHandler())
        sdk.propagate = False
        self._endpoint = endpoint
        self._timeout = timeout
        self._session = requests.Session()
        self._through_proxies = classify_network(endpoint.url) != "none"  # no proxy for this machine
        self._session.trust_env = self._through_proxies
        self._ca = None if ca is None else str(ca)
        self._session.auth = _leave_unchanged
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=concurrency))

    def post(self, question: Question) -> ModelReply:
        """Send the question once, with exactly one POST.

        Raises:
            ServerError: there is no usable reply.
        """
        import requests

        once = _PostOnce(self._session, self._ca, self._timeout)
        try:
            call_within(self._timeout, lambda: self._call(question, once))
        except requests.exceptions.ConnectTimeout as error:
            raise self._describe_lost_connection(error, sent=False) from None
        except (requests.exceptions.Timeout, OverdueError):
            raise ServerError(0, "", f"{self._endpoint.host} did not answer within {self._timeout:g} s") from None
        except requests.exceptions.RequestException as error:
            if once.body is None:
                wrapped = repr(error)
                unsent = ("NewConnectionError", "NameResolutionError", "Unable to connect to proxy", "SOCKSHTTP")
                raise self._describe_lost_connection(error, not any(word in wrapped for word in unsent)) from None
        except Exception as error:  # of the SDK, which cannot read the body; it is judged below
            if once.body is None and not isinstance(error, (ValueError, TypeError, LookupError, AttributeError)):
                raise
        if once.body is None:
            raise ServerError(0, "", f"{self._endpoint.host} sent an answer that the SDK cannot read")
        return read_reply(once.response.status_code, once.response.headers, once.body)

    def _describe_lost_connection(self, error: Exception, sent: bool) -> ServerError:
        fault = explain_connection_error(error, self._endpoint.url, sent, self._through_proxies)
        return ServerError.from_lost_connection(fault)

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
            limit: Any = {} if question.max_pixels is None else {"max_pixels": question.max_pixels}
            content.insert(0, {"image": question.data_uri, **limit})
        return dashscope.MultiModalConversation.call(messages=[{"role": "user", "content": content}], **options)


def _leave_unchanged(request: Any) -> Any:
    """Keep requests from replacing the key by a password from ~/.netrc."""
    return request


class _PostOnce:
    """A session that posts once: the SDK would silently post again after a broken connection.

    Attributes:
        response: what was received, None if nothing was.
        body: of the response, None until it is complete.
    """

    def __init__(self, session: Any, ca: str | None, timeout: float) -> None:
        self._session = session
        self._trust = {} if ca is None else {"verify": ca}  # here: the environment overrides the session's own
        self._ends = time.monotonic() + timeout
        self._error: Exception | None = None
        self.response: Any = None
        self.body: bytes | None = None

    def post(self, **options: Any) -> Any:
        """Call `requests.Session.post`; after a failure, raise the same error again."""
        if self._error is not None:
            raise self._error
        try:
            options.update(self._trust, stream=True, allow_redirects=False)
            self.response = self._session.post(**options)
            self.body = self._read_body()
        except Exception as error:
            self._error = error
            raise
        return self.response

    def _read_body(self) -> bytes:
        """Read the body until the time is over; nobody waits for it then."""
        read = bytearray()
        for chunk in self.response.iter_content(CHUNK):
            read += chunk
            if time.monotonic() > self._ends:
                self.response.close()
                raise OverdueError
        self.response._content = bytes(read)  # for the SDK
        return bytes(read)


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
