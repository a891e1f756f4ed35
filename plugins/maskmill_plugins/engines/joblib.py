"""Joblib."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import hookimpl
from maskmill.run.engine import Engine


class Joblib(Engine):
    """TODO."""


@hookimpl
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer `joblib`."""
    register("joblib", Joblib)
