"""Models of the Segment Anything family in the format of the transformers library."""

from __future__ import annotations

from .backend import Hf
from .hooks import register_backends, register_commands

__all__ = ["Hf", "register_backends", "register_commands"]
