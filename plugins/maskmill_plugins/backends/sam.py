"""Sam."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import Backend, hookimpl


class Sam(Backend):
    """TODO."""


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `sam`."""
    register("sam", Sam)
