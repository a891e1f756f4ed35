"""`maskmill serve`: any backend over HTTP, for the backend `remote`, other programs, and the annotation page."""

from __future__ import annotations

import click

from maskmill import hookimpl


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill serve`; the web framework is imported when it starts."""
    from .command import serve

    cli.add_command(serve)
