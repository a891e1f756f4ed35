"""Asks a Qwen model where the things are that a pipeline file names: at Alibaba, or on a server of one's own."""

from __future__ import annotations

from .hooks import register_commands, register_prompt_sources
from .source import Qwen

__all__ = ["Qwen", "register_commands", "register_prompt_sources"]
