"""Registers the backends `sam` and `local`, and the commands for weights, the cache and the self-test."""

from __future__ import annotations

from collections.abc import Callable

import click

from maskmill import Backend, hookimpl

from .backend import Sam
from .commands import cache, weights
from .selftest import selftest


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `sam`, also under the name `local`."""
    register("sam", Sam)
    register("local", Sam)


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill cache`, `maskmill selftest` and `maskmill weights`."""
    for command in (cache, selftest, weights):
        cli.add_command(command)
