"""Generations of Qwen models: what their coordinates mean, which API serves them, their token grid.

Hosted models are retired after about a year; a name that matches no row is rejected until the user
sets `coords:` (`maskmill qwen calibrate` finds the value).
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, replace
from typing import Literal

#: rel1000: thousandths of width and height; abs_sent: pixels of the image as it was sent;
#: abs_original: pixels of the original image.
Convention = Literal["rel1000", "abs_sent", "abs_original"]
Api = Literal["multimodal", "text"]

#: Hosted models are retired after about a year; update the default here.
DEFAULT_MODEL = "qwen3.7-plus"


@dataclass(frozen=True, slots=True)
class Family:
    """Models that behave alike.

    Attributes:
        pattern: of their names, in lower case, without an owner or folder (`Qwen/`).
        coords: what their coordinates mean; None for text-only models.
        api: which of DashScope's two APIs serves them.
        grid: side of an image token in pixels; sides that are multiples of it are not resized on the server.
    """

    pattern: str
    coords: Convention | None
    api: Api
    grid: int = 32


#: Models for text, code or sound, of any generation: they see no images.
_SIGHTLESS = re.compile(
    r"(^|[-.:\d])(coder?|asr|tts|audio|math|mt|embeddings?|rerank(er)?|guard|livetranslate|voice|speech|s2s|realtime)"
    r"([-.:\d]|$)"
)
SIGHTLESS = Family("*-coder, *-asr, ...", None, "text")
#: Who publishes models under other names, as the beginning of a file's or folder's name.
_PUBLISHER = re.compile(
    r"(unsloth|bartowski|qwen|alibaba|mlx-community|lmstudio-community|ggml-org|redhatai|neuralmagic|nvidia|cyankiwi"
    r"|huihui-ai|mradermacher|second-state|gguf|ollama)[-.:]+(?=qw(en|q))"
)

#: The first matching row counts.
FAMILIES = (
    Family("qwen3-vl*", "rel1000", "multimodal"),
    Family("qwen3vl*", "rel1000", "multimodal"),
    Family("qwen3.[5-9]*", "rel1000", "multimodal"),  # also without an image: no other API serves them
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


#: Vision models whose coordinates are not documented.
UNKNOWN = ("*omni*", "*ocr*")


def find_family(model: str) -> Family | None:
    """Return the family of a model's name, as DashScope, Hugging Face or Ollama write it; None if unknown."""
    name = _normalize_name(model)
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in UNKNOWN):
        return None
    found = next((family for family in FAMILIES if fnmatch.fnmatchcase(name, family.pattern)), None)
    if name.startswith("qw") and _SIGHTLESS.search(name):
        return SIGHTLESS if found is None else replace(found, coords=None)
    return found


def _normalize_name(model: str) -> str:
    """Return a model's name in lower case, without folders and publishers, with its version as "3.8"."""
    name = re.split(r"[/\\]", model.rstrip("/\\"))[-1].lower()
    name = re.sub(r"(qwen\d)_(\d)(?!\d*b)", r"\1.\2", name).replace("_", "-")
    name = re.sub(r"(qwen\d)-(\d)(?=-(vl\b|\d+(\.\d+)?b))", r"\1.\2", name)  # qwen3-8-27b, qwen2-5-vl
    while match := _PUBLISHER.match(name):
        name = name[match.end() :]
    return name
