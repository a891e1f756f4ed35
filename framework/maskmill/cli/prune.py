"""`maskmill prune OUTPUT`: remove files of earlier runs that the last run would not make."""

from __future__ import annotations

from pathlib import Path

import click

from .options import FILE


@click.command("prune")
@click.argument("output", type=FILE)
@click.option("--dry-run", is_flag=True, help="List the files that would be removed, without removing them.")
def command(output: Path, dry_run: bool) -> int:
    """Remove outdated files from the run in the folder OUTPUT.

    These are the files of images that are no longer in the dataset, with their stored results, and the files of
    writers that are no longer in the pipeline. Files that were changed, and files that the run did not make, are kept.

    Exit code: 0 success, 1 some files could not be removed, 2 nothing was done.
    """
    from ..output.records import format_bytes
    from ..stored.prune import prune
    from ..wording import count_noun

    report = prune(output, lambda line: click.echo(line, err=True), click.echo if dry_run else None)
    if report.files:
        size, images = format_bytes(report.bytes), count_noun(report.images, "image")
        done = "would be removed" if dry_run else "removed"
        more = f", with all that is recorded of {images} no longer in the dataset" if report.images else ""
        click.echo(f"{count_noun(report.files, 'file')} ({size}) {done}{more}")
    else:
        click.echo("nothing to remove")
    if report.kept:
        click.echo(f"{count_noun(report.kept, 'file')} kept")
    return 1 if report.failed else 0
