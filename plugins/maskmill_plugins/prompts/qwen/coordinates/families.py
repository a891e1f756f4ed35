"""Qwen's generations: what their coordinates mean, where they are reached, what pictures they take.

Names of hosted models live about a year; a name that fits no row is refused until the user
says `coords:` (`maskmill qwen calibrate` finds out).
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import Literal

#: rel1000: thousandths of width and height; abs_sent: pixels of the picture as it was sent;
#: abs_original: pixels of the image itself.
Convention = Literal["rel1000", "abs_sent", "abs_original"]
Endpoint = Literal["multimodal", "text"]

#: Hosted models are retired about a year after they appear; this is the one place that names one.
DEFAULT_MODEL = "qwen3.7-plus"


@dataclass(frozen=True, slots=True)
class Family:
    """Models that behave alike.

    Attributes:
        pattern: of their names, in lower case, without an owner or folder (`Qwen/`).
        coords: what their coordinates mean; None for models of text alone.
        endpoint: of DashScope's two interfaces.
        grid: pixels of a side of a picture's token; sides that are multiples of it are not resized again.
    """

    pattern: str
    coords: Convention | None
    endpoint: Endpoint
    grid: int = 32


#: The first row that fits counts.
FAMILIES = (
    Family("qwen3-vl*", "rel1000", "multimodal"),
    Family("qwen3vl*", "rel1000", "multimodal"),
    Family("qwen3.[5-9]*", "rel1000", "multimodal"),  # also without a picture: they know no other endpoint
    Family("qwen2.5-vl*", "abs_sent", "multimodal", grid=28),
    Family("qwen2.5vl*", "abs_sent", "multimodal", grid=28),
    Family("qwen-vl-max-2025-08-13", "abs_sent", "multimodal"),
    Family("qwen2-vl*", "rel1000", "multimodal", grid=28),
    Family("qwen2vl*", "rel1000", "multimodal", grid=28),
    Family("qwen-vl-chat*", "rel1000", "multimodal", grid=28),
    Family("qwen-vl", "rel1000", "multimodal", grid=28),
    Family("qwen-turbo*", None, "text"),
    Family("qwen-plus*", None, "text"),
    Family("qwen-flash*", None, "text"),
    Family("qwen-max*", None, "text"),
    Family("qwq*", None, "text"),
    Family("qwen3[-:]*", None, "text"),
    Family("qwen3", None, "text"),
    Family("qwen2.5[-:]*", None, "text"),
    Family("qwen2.5", None, "text"),
    Family("qwen2[-:]*", None, "text"),
)


#: They see, but nobody says what their coordinates mean.
UNKNOWN = ("*omni*", "*ocr*")


def family_of(model: str) -> Family | None:
    """The family of a model's name, as DashScope, Hugging Face or Ollama write it; None if it is unknown."""
    name = re.split(r"[/\\]", model.rstrip("/\\"))[-1].lower().replace("_", "-")
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in UNKNOWN):
        return None
    return next((family for family in FAMILIES if fnmatch.fnmatchcase(name, family.pattern)), None)
