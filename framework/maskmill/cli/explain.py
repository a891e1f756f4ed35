"""`maskmill explain OUTPUT KEY`: how the masks of one image were made."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import FILE, IMAGES


@click.command("explain")
@click.argument("output", type=FILE)
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="Print everything that is recorded, as JSON.")
@IMAGES
def command(output: Path, key: str, as_json: bool, images: Path | None) -> int:
    """Show how the masks of the image KEY in the run OUTPUT were made, and whether its files have changed since.

    KEY is the image's path within the dataset, as in `status` and `failures.jsonl`.
    """
    from ..output.run import Run
    from ..stored.explain import explain, format_lines

    with Run(output) as run:
        about = explain(run, key, images)
    if as_json:
        click.echo(json.dumps(about, ensure_ascii=False, indent=2))
    else:
        for line in format_lines(about):
            click.echo(line)
    return 0
