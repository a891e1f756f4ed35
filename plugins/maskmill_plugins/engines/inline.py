"""Inline."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import hookimpl
from maskmill.run.engine import Engine


class Inline(Engine):
    """TODO."""


@hookimpl
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer `inline`."""
    register("inline", Inline)
