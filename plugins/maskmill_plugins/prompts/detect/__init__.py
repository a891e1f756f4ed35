"""The prompt source `detect`: boxes of named objects, by a detector on this machine."""

from .source import register_prompt_sources

__all__ = ["register_prompt_sources"]
