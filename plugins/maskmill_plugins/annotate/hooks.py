"""Registers the command `maskmill annotate`; the web framework is imported when it starts."""

from __future__ import annotations

import click

from maskmill import hookimpl


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill annotate`."""
    from .command import annotate

    cli.add_command(annotate)
