"""`maskmill annotate`: a page on which a person draws prompts, and the file they are kept in."""

from __future__ import annotations

from .hooks import register_commands

__all__ = ["register_commands"]
