"""`maskmill review`: a page on which people look at the results of a run, and the file of what they decided."""

from __future__ import annotations

import click

from maskmill import hookimpl


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill review`; the web framework is imported when it starts."""
    from .command import review

    cli.add_command(review)
