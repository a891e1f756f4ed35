"""Png."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import Writer, hookimpl


class Png(Writer):
    """TODO."""


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Offer `png`."""
    register("png", Png)
