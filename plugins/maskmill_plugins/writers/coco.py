"""Coco."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import Writer, hookimpl


class Coco(Writer):
    """TODO."""


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Offer `coco`."""
    register("coco", Coco)
