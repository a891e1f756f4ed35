"""Asks a Qwen model where the things are that a pipeline file names: at Alibaba, or on a server of one's own."""

from __future__ import annotations

from .plugin import Qwen, register_commands, register_prompt_sources

__all__ = ["Qwen", "register_commands", "register_prompt_sources"]
