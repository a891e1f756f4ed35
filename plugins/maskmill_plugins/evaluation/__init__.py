"""`maskmill evaluate` compares masks with ground truth, `maskmill compare` compares runs."""

from __future__ import annotations

import click

from maskmill import hookimpl


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `maskmill evaluate` and `maskmill compare`; the rest is imported when one of them starts."""
    from .compare.command import compare
    from .evaluate.command import evaluate

    cli.add_command(compare)
    cli.add_command(evaluate)
