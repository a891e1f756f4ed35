"""The prompt source `detect`: boxes of named objects, by a detector of the transformers library on this machine."""

from .source import register_prompt_sources

__all__ = ["register_prompt_sources"]
