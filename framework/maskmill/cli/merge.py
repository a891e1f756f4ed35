"""`maskmill merge OUTPUT... -o MERGED`: several runs made one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import FILE

if TYPE_CHECKING:
    from ..stored.merge import Prefer


@click.command("merge")
@click.argument("outputs", metavar="OUTPUT...", nargs=-1, required=True, type=FILE)
@click.option("-o", "--output", "target", required=True, type=FILE, help="The new folder.")
@click.option(
    "--prefer",
    type=click.Choice(["first", "last", "done"]),
    help="Where runs have different results of an image: of the first or the last run named, or one that is done.",
)
def command(outputs: tuple[Path, ...], target: Path, prefer: Prefer | None) -> int:
    """Make one run of several, such as shards or runs of two machines, in a new folder.

    It has the results, not the files of writers: `maskmill export` makes those. `status`, `explain`
    and `evaluate` read it as they do any run. Exit code 1 if images of it have failed.
    """
    from ..stored.merge import merge

    merged = merge(outputs, target, prefer)
    total = sum(merged.counts.values())
    parts = ", ".join(f"{count} {status}" for status, count in merged.counts.items() if count)
    images, runs = (f"{n} {what}{'s' if n != 1 else ''}" for n, what in ((total, "image"), (len(outputs), "run")))
    click.echo(f"{images} of {runs}: {parts or 'none'}")
    if merged.doubled:
        click.echo(f"{merged.doubled} of them stood in more than one")
    click.echo(f"Output: {target}")
    click.echo(f"To make files of it: maskmill export {target} --to WRITER")
    return 1 if merged.counts["failed"] + merged.counts["quarantined"] else 0
