"""Overlay."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import Writer, hookimpl


class Overlay(Writer):
    """TODO."""


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Offer `overlay`."""
    register("overlay", Overlay)
