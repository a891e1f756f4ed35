"""`maskmill annotate`: a page for drawing prompts on images, and the file in which they are saved."""

from __future__ import annotations

from .hooks import register_commands

__all__ = ["register_commands"]
