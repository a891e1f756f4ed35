"""`maskmill merge OUTPUT... -o MERGED`: combine several runs into one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..wording import count_noun
from .options import FILE

if TYPE_CHECKING:
    from ..stored.merge import Prefer


@click.command("merge")
@click.argument("outputs", metavar="OUTPUT...", nargs=-1, required=True, type=FILE)
@click.option("-o", "--output", "target", required=True, type=FILE, help="The new output folder.")
@click.option(
    "--prefer",
    type=click.Choice(["first", "last", "done"]),
    help="If runs differ in an image: take it from the first or the last run given, or one that is done.",
)
@click.option("--partial", is_flag=True, help="Merge what is there, even if shards are missing or did not finish.")
def command(outputs: tuple[Path, ...], target: Path, prefer: Prefer | None, partial: bool) -> int:
    """Combine several runs, such as shards or runs on two machines, in a new folder.

    Results are copied, files of writers are not; `maskmill export` creates them. `status`, `explain`
    and `evaluate` work on the merged run as on any other. Exit code 1 if it contains failed images.
    """
    from ..output.records import list_counts
    from ..stored.merge import merge

    merged = merge(outputs, target, prefer, partial)
    total = sum(merged.counts.values())
    counts = f": {list_counts(merged.counts)}" if total else ", none of which has a finished image"
    click.echo(f"{count_noun(total, 'image')} from {count_noun(len(outputs), 'run')}{counts}")
    if merged.doubled:
        click.echo(f"{merged.doubled} of them {'was' if merged.doubled == 1 else 'were'} in more than one run")
    if merged.doubts:
        click.echo(f"doubtful: {list_counts(merged.doubts)}; list them with: maskmill status {target}")
    click.echo(f"Output: {target}")
    click.echo(f"To write files from it: maskmill export {target} --to WRITER")
    return 1 if merged.counts["failed"] + merged.counts["quarantined"] else 0
