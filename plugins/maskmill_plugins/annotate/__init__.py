"""`maskmill annotate`: a page for drawing prompts on images, and the file in which they are saved."""

from __future__ import annotations

import click

from maskmill import hookimpl


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill annotate`; the web framework is imported when it starts."""
    from .command import annotate

    cli.add_command(annotate)
