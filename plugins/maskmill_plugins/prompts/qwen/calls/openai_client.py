"""OpenAI's chat completions API, as in vLLM, Ollama, LM Studio and DashScope's compatible mode.

Uses the SDK openai, which is imported with the first question.
"""

from __future__ import annotations

from typing import Any

from maskmill_plugins._shared.http.addresses import classify_network
from maskmill_plugins._shared.http.answers import read_retry_after

from .endpoint import Endpoint
from .errors import ServerError
from .question import ModelReply, Question

#: Sent to servers that need no key, because the SDK requires one.
NO_KEY = "none"


class OpenAIClient:
    """Sends questions through `chat.completions`.

    Args:
        endpoint: the server, with its key if it needs one.
        timeout: seconds for one answer.
        concurrency: connections to keep open.
    """

    def __init__(self, endpoint: Endpoint, timeout: float, concurrency: int) -> None:
        import openai

        self._endpoint = endpoint
        self._timeout = timeout
        http = openai.DefaultHttpxClient(
            follow_redirects=False,  # the key must not be sent to another host
            trust_env=classify_network(endpoint.url) != "none",  # no proxy for this machine
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

        try:
            answer = self._client.chat.completions.create(**self._make_options(question))
        except openai.APIStatusError as error:
            raise self._describe_status(error) from None
        except openai.APITimeoutError:
            raise ServerError(0, "", f"{self._endpoint.host} did not answer within {self._timeout:g} s") from None
        except openai.APIConnectionError as error:
            sent = type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout")
            raise ServerError.from_lost_connection(self._endpoint.host, sent) from None
        except (openai.OpenAIError, ValueError, TypeError, AttributeError):  # the body is not as expected
            raise ServerError(200, "", f"{self._endpoint.host} sent an answer that is not JSON") from None
        reply = _read_reply(answer)
        if reply is None:
            code, message = _read_error(getattr(answer, "model_extra", None) or {})
            raise ServerError(200, code, message or "an answer without content")
        return reply

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _make_options(self, question: Question) -> dict[str, Any]:
        content: Any = question.text
        if question.image is not None:
            image = {"type": "image_url", "image_url": {"url": question.data_uri}}
            content = [image, {"type": "text", "text": question.text}]
        options: dict[str, Any] = {
            "model": question.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": question.max_tokens,
            "extra_body": self._make_thinking_switch(question),
        }
        if not question.thinking:
            options["temperature"] = 0.0
        return options

    def _make_thinking_switch(self, question: Question) -> dict[str, Any]:
        """Return the switch as DashScope reads it, or as vLLM, Ollama and LM Studio do."""
        if self._endpoint.is_alibabas:
            budget = {"thinking_budget": question.max_tokens} if question.thinking else {}
            return {"enable_thinking": question.thinking, **budget}
        return {"chat_template_kwargs": {"enable_thinking": question.thinking}, "think": question.thinking}

    def _describe_status(self, error: Any) -> ServerError:
        code, message = _read_error(error.body if isinstance(error.body, dict) else {})
        return ServerError(
            error.status_code,
            code or error.code or error.type or "",
            message or str(error.message),
            read_retry_after(error.response.headers),
        )


def _read_error(body: dict[str, Any]) -> tuple[str, str]:
    """Return code and message of an error's body, in any of the forms that servers use."""
    inner = body.get("error", body)
    if not isinstance(inner, dict):
        return "", str(inner)
    code = inner.get("code")
    if code is None or str(code).isdigit():  # vLLM repeats the HTTP status there
        code = inner.get("type")
    return str(code or ""), str(inner.get("message") or "")


def _read_reply(answer: Any) -> ModelReply | None:
    """Return the reply without its thinking, None if there is no content."""
    try:
        choice = answer.choices[0]
        content = choice.message.content
    except (IndexError, TypeError, AttributeError):
        return None
    if not isinstance(content, str):
        return None
    usage = answer.usage
    return ModelReply(
        content,
        choice.finish_reason or "",
        getattr(usage, "prompt_tokens", None) or 0,
        getattr(usage, "completion_tokens", None) or 0,
    )
