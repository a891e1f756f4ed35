"""The prompt source `qwen`: asks a Qwen model, at Alibaba or on the user's own server, to locate objects."""

from __future__ import annotations

from .hooks import register_commands, register_prompt_sources
from .source import Qwen

__all__ = ["Qwen", "register_commands", "register_prompt_sources"]
