"""Registers the backend `hf` and the command `maskmill models`."""

from __future__ import annotations

from collections.abc import Callable

import click

from maskmill import Backend, hookimpl

from .backend import Hf
from .commands import models


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `hf`."""
    register("hf", Hf)


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill models`."""
    cli.add_command(models)
