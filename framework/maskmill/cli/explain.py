"""`maskmill explain OUTPUT KEY`: where the masks of one image come from."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import FILE, IMAGES


@click.command("explain")
@click.argument("output", type=FILE)
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with everything that is recorded.")
@IMAGES
def command(output: Path, key: str, as_json: bool, images: Path | None) -> int:
    """Say where the masks of the image KEY in the run OUTPUT come from, and whether its files are as they were.

    KEY is the image's path below the dataset, as `status` and `failures.jsonl` show it.
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
