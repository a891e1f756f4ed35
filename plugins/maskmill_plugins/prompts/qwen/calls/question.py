"""One question to a model, in no dialect yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Question:
    """One call, in no dialect yet.

    Attributes:
        model: its name at the server.
        text: what is asked.
        picture: an encoded image, None for text alone.
        media: its media type, such as "image/png".
        max_tokens: of the answer.
        thinking: whether the model may think first.
        multimodal: which of DashScope's two endpoints serves this model; the other dialect has one only.
    """

    model: str
    text: str
    picture: bytes | None = None
    media: str = ""
    max_tokens: int = 4096
    thinking: bool = False
    multimodal: bool = True

    def parameters(self) -> dict[str, Any]:
        """What of it, beside text and picture, decides the answer."""
        return {"model": self.model, "max_tokens": self.max_tokens, "thinking": self.thinking}
