"""The dialect of OpenAI's chat completions: vLLM, Ollama, LM Studio, DashScope's compatible mode.

Spoken through the SDK openai, which is imported when the first question is put.
"""

from __future__ import annotations

from typing import Any

from maskmill_plugins._shared.http.reach import reach
from maskmill_plugins._shared.http.waiting import retry_after

from .answer_store import Reply
from .dashscope_client import data_uri
from .errors import Trouble
from .question import Question
from .servers import Server

#: Sent as a key to servers that want none; the SDK wants one.
NO_KEY = "none"


class OpenAI:
    """Puts questions by `chat.completions`.

    Args:
        server: where, with its key if it wants one.
        timeout: seconds for one answer.
        concurrency: connections to keep.
    """

    def __init__(self, server: Server, timeout: float, concurrency: int) -> None:
        import openai

        self._server = server
        self._timeout = timeout
        http = openai.DefaultHttpxClient(
            follow_redirects=False,  # the key stays with the host that it was given for
            trust_env=reach(server.url) != "none",  # no proxy stands before one's own machine
        )
        self._client = openai.OpenAI(
            api_key=server.key or NO_KEY, base_url=server.url, timeout=timeout, max_retries=0, http_client=http
        )
        self._client.organization = self._client.project = None  # of OpenAI's own accounts, from the environment

    def post(self, question: Question) -> Reply:
        """Put the question once, with exactly one POST.

        Raises:
            Trouble: there is no usable answer.
        """
        import openai

        try:
            answer = self._client.chat.completions.create(**self._given(question))
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        except openai.APITimeoutError:
            raise Trouble(0, "", f"{self._server.host} did not answer within {self._timeout:g} s") from None
        except openai.APIConnectionError as error:
            raise self._lost(error) from None
        except (openai.OpenAIError, ValueError, TypeError, AttributeError):  # a body that is no JSON, or another
            raise Trouble(200, "", f"{self._server.host} gave an answer that is not JSON") from None
        reply = _reply(answer)
        if reply is None:
            code, message = _error(getattr(answer, "model_extra", None) or {})
            raise Trouble(200, code, message or "an answer without content")
        return reply

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _given(self, question: Question) -> dict[str, Any]:
        content: Any = question.text
        if question.picture is not None:
            image = {"type": "image_url", "image_url": {"url": data_uri(question.picture, question.media)}}
            content = [image, {"type": "text", "text": question.text}]
        given: dict[str, Any] = {
            "model": question.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": question.max_tokens,
            "extra_body": self._thinking(question),
        }
        if not question.thinking:
            given["temperature"] = 0.0
        return given

    def _thinking(self, question: Question) -> dict[str, Any]:
        """The switch, as each server knows it: DashScope by its host, else vLLM's, Ollama's and LM Studio's."""
        if self._server.is_alibabas:
            budget = {"thinking_budget": question.max_tokens} if question.thinking else {}
            return {"enable_thinking": question.thinking, **budget}
        return {"chat_template_kwargs": {"enable_thinking": question.thinking}, "think": question.thinking}

    def _refused(self, error: Any) -> Trouble:
        code, message = _error(error.body if isinstance(error.body, dict) else {})
        return Trouble(
            error.status_code,
            code or error.code or error.type or "",
            message or str(error.message),
            retry_after(error.response.headers),
        )

    def _lost(self, error: Exception) -> Trouble:
        """A connection that broke, or never was."""
        sent = type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout")
        text = "the connection broke before an answer came" if sent else "it cannot be reached"
        return Trouble(0, "", f"{self._server.host}: {text}", sent=sent)


def _error(body: dict[str, Any]) -> tuple[str, str]:
    """Code and message of an error's body, in the forms that servers give it."""
    inner = body.get("error", body)
    if not isinstance(inner, dict):
        return "", str(inner)
    code = inner.get("code")
    if code is None or str(code).isdigit():  # vLLM repeats the status there
        code = inner.get("type")
    return str(code or ""), str(inner.get("message") or "")


def _reply(answer: Any) -> Reply | None:
    """The answer's own text, without its thinking; None if it has none."""
    try:
        choice = answer.choices[0]
        content = choice.message.content
    except (IndexError, TypeError, AttributeError):
        return None
    if not isinstance(content, str):
        return None
    usage = answer.usage
    return Reply(
        content,
        choice.finish_reason or "",
        getattr(usage, "prompt_tokens", None) or 0,
        getattr(usage, "completion_tokens", None) or 0,
    )
