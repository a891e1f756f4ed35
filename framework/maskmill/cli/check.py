"""`maskmill check`: find mistakes before a run."""

from __future__ import annotations

from typing import Any

import click

from .options import load_pipeline, pipeline_options


@click.command("check")
@pipeline_options
def command(**chosen: Any) -> int:
    """Validate the pipeline FILE and everything it refers to, and print it with all defaults filled in."""
    import yaml

    pipeline = load_pipeline(**chosen)
    problems = pipeline.check()
    for problem in problems:
        click.echo(str(problem), err=True)
    if any(not problem.warning for problem in problems):
        return 2
    for warning in pipeline.unmatched():
        click.echo(warning, err=True)
    text = yaml.safe_dump(pipeline.config.resolved(), allow_unicode=True, sort_keys=False, default_flow_style=None)
    click.echo(text, nl=False)
    return 0
