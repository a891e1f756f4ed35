"""The backend `remote`: masks from a SAM server, `maskmill serve`, on this machine or another."""

from __future__ import annotations

from .backend import Remote, register_backends

__all__ = ["Remote", "register_backends"]
