"""Registers the command `maskmill serve`; the web framework is imported when it starts."""

from __future__ import annotations

import click

from maskmill import hookimpl


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill serve`."""
    from .command import serve

    cli.add_command(serve)
