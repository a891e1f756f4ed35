"""Segment Anything on this machine, with the weights and architecture of Meta's `segment_anything`.

Reference: Kirillov et al., Segment Anything, arXiv:2304.02643.
"""

from __future__ import annotations

from .backend import Sam
from .hooks import register_backends, register_commands

__all__ = ["Sam", "register_backends", "register_commands"]
