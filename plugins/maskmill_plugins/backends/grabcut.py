"""GrabCut."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import Backend, hookimpl


class GrabCut(Backend):
    """TODO."""


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `grabcut`."""
    register("grabcut", GrabCut)
