"""Score."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import Filter, hookimpl


class Score(Filter):
    """TODO."""


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `score`."""
    register("score", Score)
