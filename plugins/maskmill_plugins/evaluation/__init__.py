"""`maskmill evaluate` and `maskmill compare`: masks against the truth, and runs against each other."""

from __future__ import annotations

from .hooks import register_commands

__all__ = ["register_commands"]
