"""`maskmill plugins check FILE`: does a drop-in file keep its contract?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from .options import FILE, settings


@click.command("check")
@click.argument("file", type=FILE)
@click.option("--set", "sets", multiple=True, metavar="OPTION=VALUE", help="Give an option of the plugin a value.")
@click.option("--inline", is_flag=True, help="Run it in this process only, not through joblib as well.")
def check(file: Path, sets: Sequence[str], inline: bool) -> int:
    """Try the plugins of a drop-in FILE on generated images, and run them for real beside fakes."""
    from ..testing.check import check_file

    problems = 0
    for verdict in check_file(file, settings(sets), ("inline",) if inline else ("inline", "joblib")):
        click.echo(str(verdict))
        problems += bool(verdict.problem)
    click.echo("no problems" if not problems else f"{problems} problem{'s' if problems > 1 else ''}")
    return 1 if problems else 0
