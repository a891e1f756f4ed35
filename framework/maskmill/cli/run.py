"""`maskmill run`, and `run-pipeline`: run a pipeline over its dataset."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from .options import LOAD, as_typed, load, pipeline_options


@click.command("run", context_settings={"help_option_names": ["-h", "--help"]})
@pipeline_options
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N images.")
@click.option("--only", metavar="GLOB", help="Only images whose key matches, for example 'sub/*.jpg'.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--probe",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --dry-run: time N images, and say how long all will take.",
)
@click.option("--fresh", is_flag=True, help="Start over; an earlier run is moved aside, not deleted.")
@click.option("--retry-failed", is_flag=True, help="Try failed and quarantined images again.")
@click.option("--verify", is_flag=True, help="Compare files by content, and look for missing outputs.")
@click.option("--offline", is_flag=True, help="Refuse plugins that reach beyond this machine.")
@click.option("--yes", is_flag=True, help="Start also where a plugin objects, because of what it would cost.")
@click.option("--log-json", is_flag=True, help="Progress as JSON lines on the standard error.")
@click.option("-v", "--verbose", is_flag=True, help="A line for each step.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
def command(dry_run: bool, probe: int | None, **given: Any) -> int:
    """Segment a folder of images as the pipeline FILE says; PHOTOS replaces its dataset.

    Run it again to go on where it stopped. Exit code: 0 all is well, 1 images failed,
    2 the pipeline is wrong, 130 interrupted.
    """
    from ..output.records import format_summary
    from ..run.plan import RunRequest

    if probe and not dry_run:
        raise click.UsageError("--probe goes with --dry-run")
    pipeline = load(**{name: given.pop(name) for name in LOAD})
    request = RunRequest(**given, command=_command_to_go_on())
    if dry_run:
        click.echo(pipeline.rehearse(request, probe or 0))
        return 0
    report = pipeline.run(request)
    if not request.quiet or report.exit_code:
        click.echo(format_summary(report, request.command), err=bool(report.exit_code))
    return report.exit_code


def _command_to_go_on() -> str:
    """What was typed, without what must not be repeated."""
    name = "run-pipeline" if "run-pipeline" in Path(sys.argv[0]).name else "maskmill"
    once = {"--fresh", "--retry-failed"}
    parts = [name, *(argument for argument in sys.argv[1:] if argument not in once)]
    return as_typed(parts)


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of `run-pipeline`."""
    from .errors import guarded

    return guarded(command, arguments)
