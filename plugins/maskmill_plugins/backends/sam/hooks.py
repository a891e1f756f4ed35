"""Registers the backends `sam` and `local`, and the commands about weights, the cache and the self-test."""

from __future__ import annotations

from collections.abc import Callable

import click

from maskmill import Backend, hookimpl

from .backend import Sam


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `sam`, also under the name `local`."""
    register("sam", Sam)
    register("local", Sam)


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill cache`, `maskmill selftest` and `maskmill weights`."""
    from .embedding_cache.command import cache
    from .selftest import selftest
    from .weights.command import weights

    cli.add_command(cache)
    cli.add_command(selftest)
    cli.add_command(weights)
