"""What the command line learns of the server; the web framework is imported when it starts."""

from __future__ import annotations

import click

from maskmill import hookimpl


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill serve` and `maskmill annotate`."""
    from .annotate.command import annotate
    from .command import serve

    cli.add_command(serve)
    cli.add_command(annotate)
