"""A question to a model and its reply, independent of the provider's API."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

#: Reasons of servers for the end of a complete reply, and of one that grew too long; any other cut it off.
_COMPLETE = frozenset({"", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "tool_use"})
_COMPLETE |= {"function_call", "null", "none", "completed"}
_TOO_LONG = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})


@dataclass(frozen=True, slots=True)
class Question:
    """One question to a model.

    Attributes:
        model: its name on the server.
        text: the prompt.
        image: an encoded image, None for text only.
        media_type: of the image.
        max_tokens: limit of the reply.
        thinking: whether the model may think first.
        max_pixels: what the server may enlarge its limit to, None for its own; for DashScope.
        schema: JSON schema that the server holds the reply to, None without; for OpenAI-compatible servers.
        multimodal: which of DashScope's two APIs serves this model; OpenAI-compatible servers have only one.
    """

    model: str
    text: str
    image: bytes | None = None
    media_type: str = "image/jpeg"
    max_tokens: int = 4096
    thinking: bool = False
    multimodal: bool = True
    max_pixels: int | None = None
    schema: Mapping[str, Any] | None = None

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides the reply, besides text and image."""
        held = {} if self.schema is None else {"schema": self.schema}
        return {"model": self.model, "max_tokens": self.max_tokens, "thinking": self.thinking, **held}

    @property
    def data_uri(self) -> str:
        """The image as a data URI."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.image or b'').decode('ascii')}"


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What a model replied to one call.

    Attributes:
        text: the raw reply, without thinking.
        finish: why it ended there: "stop", "length" (it was cut off), ...
        input_tokens: of the question with its image.
        output_tokens: of the reply, thinking included.
        max_tokens: limit it was asked with; 0 in answers stored by earlier versions.
    """

    text: str
    finish: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    max_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Of question and reply."""
        return self.input_tokens + self.output_tokens

    @property
    def interruption(self) -> str:
        """What cut the reply off, by the server's word; "" if it is complete."""
        finish = self.finish.lower()
        if finish in _COMPLETE:
            return ""
        if finish in _TOO_LONG:
            return "it reached max_tokens" + (f" ({self.max_tokens:,})" if self.max_tokens else "")
        if "filter" in finish or "inspection" in finish or "safety" in finish:
            return f"the server's content filter stopped it ({self.finish})"
        return f"the server stopped it ({self.finish})"


class ProviderClient(Protocol):
    """The API of one provider."""

    def post(self, question: Question) -> ModelReply:
        """Send the question once, with exactly one POST.

        Raises:
            ServerError: there is no usable reply.
        """

    def close(self) -> None:
        """Close the connections."""
