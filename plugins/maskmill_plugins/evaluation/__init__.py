"""`maskmill evaluate` compares masks with ground truth, `maskmill compare` compares runs."""

from __future__ import annotations

from .hooks import register_commands

__all__ = ["register_commands"]
