"""`maskmill check`: find mistakes before a run."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from .options import load_pipeline, pipeline_options


@click.command("check")
@pipeline_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object to standard output instead.")
def command(as_json: bool, **chosen: Any) -> int:
    """Validate the pipeline FILE and everything it refers to, and print it with all defaults filled in."""
    if as_json:
        return _print_json(chosen)
    import yaml

    pipeline = load_pipeline(**chosen)
    problems = pipeline.check()
    for problem in problems:
        click.echo(str(problem), err=True)
    if any(not problem.warning for problem in problems):
        return 2
    for line in [*pipeline.unmatched(), *pipeline.dataset.describe_buckets(), *pipeline.probe()]:
        click.echo(line, err=True)
    text = yaml.safe_dump(pipeline.config.resolved(), allow_unicode=True, sort_keys=False, default_flow_style=None)
    click.echo(text, nl=False)
    return 0


def _print_json(chosen: dict[str, Any]) -> int:
    """Print what is wrong and the resolved pipeline; an error that ends the check is a problem, too."""
    from ..errors import Problem, UsageError

    resolved, problems, workers = None, list[Problem](), list[str]()
    try:
        pipeline = load_pipeline(**chosen)
        problems = list(pipeline.check())
        if all(problem.warning for problem in problems):
            problems += [Problem(line.removeprefix("warning: "), warning=True) for line in pipeline.unmatched()]
            workers = pipeline.probe()
        resolved = pipeline.config.resolved()
    except UsageError as error:
        problems += error.problems
    valid = all(problem.warning for problem in problems)
    content = {"schema": 1, "valid": valid, "problems": [asdict(one) for one in problems], "pipeline": resolved}
    if workers:
        content["workers"] = workers
    click.echo(json.dumps(content, ensure_ascii=False, indent=2, default=str))
    return 0 if valid else 2
