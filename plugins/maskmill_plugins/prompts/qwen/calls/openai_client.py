"""OpenAI's chat completions API, as in vLLM, Ollama, LM Studio and DashScope's compatible mode.

Uses the SDK openai, which is imported with the first question.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from maskmill_plugins._shared.http.addresses import classify_network
from maskmill_plugins._shared.http.connections import OverdueError, call_within, explain_connection_error

from .endpoint import Endpoint
from .errors import ServerError, read_reply
from .question import ModelReply, Question

#: Sent to servers that need no key, because the SDK requires one.
NO_KEY = "none"


class OpenAIClient:
    """Sends questions through `chat.completions`.

    Args:
        endpoint: the server, with its key if it needs one.
        timeout: seconds for one whole answer.
        concurrency: connections to keep open.
        ca: PEM file of the certificate authority, None for the usual ones.
    """

    def __init__(self, endpoint: Endpoint, timeout: float, concurrency: int, ca: Path | None = None) -> None:
        import openai

        self._endpoint = endpoint
        self._timeout = timeout
        self._through_proxies = classify_network(endpoint.url) != "none"  # no proxy for this machine
        http = openai.DefaultHttpxClient(
            follow_redirects=False,  # the key must not be sent to another host
            trust_env=self._through_proxies,
            verify=ssl.create_default_context(cafile=str(ca)) if ca is not None else True,
        )
        self._client = openai.OpenAI(
            api_key=endpoint.key or NO_KEY, base_url=endpoint.url, timeout=timeout, max_retries=0, http_client=http
        )
        self._client.organization = self._client.project = None  # the SDK reads them from the environment

    def post(self, question: Question) -> ModelReply:
        """Send the question once, with exactly one POST.

        Raises:
            ServerError: there is no usable reply.
        """
        import openai

        opened: list[Any] = []
        try:
            status, headers, body = call_within(self._timeout, lambda: self._send(question, opened))
        except openai.APIStatusError as error:
            status, headers, body = error.status_code, error.response.headers, error.response.content
        except (openai.APITimeoutError, OverdueError):
            for response in opened:
                response.close()
            raise self._describe_slowness() from None
        except openai.APIConnectionError as error:
            sent = type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout", "ProxyError")
            raise self._describe_lost_connection(error, sent) from None
        except Exception as error:  # the SDK's HTTP client, which has two names
            if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2"):
                raise
            if "Timeout" in type(error).__name__:
                raise self._describe_slowness() from None
            raise self._describe_lost_connection(error, sent=True) from None
        return read_reply(status, headers, body)

    def _describe_slowness(self) -> ServerError:
        return ServerError(0, "", f"{self._endpoint.host} did not answer within {self._timeout:g} s")

    def _describe_lost_connection(self, error: Exception, sent: bool) -> ServerError:
        fault = explain_connection_error(error, self._endpoint.url, sent, self._through_proxies)
        return ServerError.from_lost_connection(fault)

    def _send(self, question: Question, opened: list[Any]) -> tuple[int, Any, bytes]:
        """Return status, headers and body; the response is in `opened` while its body is read."""
        create = self._client.chat.completions.with_streaming_response.create
        with create(**self._make_options(question)) as response:
            opened.append(response)
            return response.status_code, response.headers, response.read()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _make_options(self, question: Question) -> dict[str, Any]:
        content: Any = question.text
        if question.image is not None:
            image: dict[str, Any] = {"type": "image_url", "image_url": {"url": question.data_uri}}
            if question.max_pixels is not None and self._endpoint.is_alibabas:
                image["max_pixels"] = question.max_pixels
            content = [image, {"type": "text", "text": question.text}]
        options: dict[str, Any] = {
            "model": question.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": question.max_tokens,
            "extra_body": self._make_thinking_switch(question),
        }
        if not question.thinking:
            options["temperature"] = 0.0
        if question.schema is not None:
            schema = {"name": "objects", "strict": True, "schema": question.schema}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        return options

    def _make_thinking_switch(self, question: Question) -> dict[str, Any]:
        """Return the switch as DashScope reads it, or as vLLM, Ollama and LM Studio do."""
        if self._endpoint.is_alibabas:
            budget = {"thinking_budget": question.max_tokens} if question.thinking else {}
            return {"enable_thinking": question.thinking, **budget}
        return {"chat_template_kwargs": {"enable_thinking": question.thinking}, "think": question.thinking}
