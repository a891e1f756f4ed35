"""What makes the commands known; the rest of the package is imported when one of them starts."""

from __future__ import annotations

import click

from maskmill import hookimpl


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill evaluate` and `maskmill compare`."""
    from .compare_command import compare
    from .evaluate_command import evaluate

    cli.add_command(compare)
    cli.add_command(evaluate)
