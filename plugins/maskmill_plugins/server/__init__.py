"""`maskmill serve`: any backend over HTTP, for the backend `remote`, other programs, and the annotation page."""

from __future__ import annotations

from .hooks import register_commands

__all__ = ["register_commands"]
