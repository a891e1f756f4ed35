"""Registers the backend `hf`."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import Backend, hookimpl

from .backend import Hf


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `hf`."""
    register("hf", Hf)
