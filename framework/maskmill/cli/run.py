"""`maskmill run`, and `run-pipeline`: run a pipeline over its dataset."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ..files import quote_command
from . import run_command
from .options import LOAD, load_pipeline, pipeline_options

if TYPE_CHECKING:
    from ..api import Pipeline


@click.command("run", context_settings={"help_option_names": ["-h", "--help"]})
@pipeline_options
@click.option("--limit", type=click.IntRange(min=1), help="Process only the first N images.")
@click.option("--only", metavar="GLOB", help="Process only images whose key matches, for example 'sub/*.jpg'.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Process only part I of N, such as 2/8; auto: as a SLURM job array or a Kubernetes Indexed Job says.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, without doing it.")
@click.option(
    "--probe",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --dry-run: time N images and estimate how long all will take.",
)
@click.option("--fresh", is_flag=True, help="Start over; the earlier run is moved aside, not deleted.")
@click.option("--retry-failed", is_flag=True, help="Retry failed and quarantined images.")
@click.option("--retry-doubtful", multiple=True, metavar="CODE", help="Make images with this doubt again; repeatable.")
@click.option("--fail-on", multiple=True, metavar="CODE", help="Let images with this doubt fail; repeatable.")
@click.option("--verify", is_flag=True, help="Compare files by content, and check for missing outputs.")
@click.option("--prune", is_flag=True, help="At the end, remove outdated files of earlier runs; see maskmill prune.")
@click.option("--offline", is_flag=True, help="Refuse to start if a plugin needs the network.")
@click.option("--yes", is_flag=True, help="Start even if a plugin warns about its cost.")
@click.option("--watch", is_flag=True, help="Go on with images that are added or changed, until Ctrl-C.")
@click.option("--log-json", is_flag=True, help="Print progress, warnings and errors as JSON lines to standard error.")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each step.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.version_option(package_name="maskmill")
def command(dry_run: bool, probe: int | None, **given: Any) -> int:
    """Segment a folder of images as described in the pipeline FILE; PHOTOS replaces its dataset.

    Run the same command again to continue an unfinished run. Exit code: 0 success, 1 images failed,
    2 the pipeline is wrong, 75 another run is working in the output folder, 130 interrupted.
    """
    pipeline = load_pipeline(**{name: given.pop(name) for name in LOAD})
    return execute(pipeline, dry_run=dry_run, probe=probe, **given)


def execute(pipeline: Pipeline, *, dry_run: bool, probe: int | None, **given: Any) -> int:
    """Run a pipeline, or say what would be done, and print the summary; returns the exit code.

    Args:
        pipeline: loaded, not checked.
        dry_run: only say what would be done.
        probe: with `dry_run`, so many images are timed.
        given: fields of `RunRequest`.
    """
    from ..dataset.shard import Shard
    from ..output.records import format_summary
    from ..run.plan import RunRequest

    if given["watch"] and dry_run:
        raise click.UsageError("--watch does not go with --dry-run")
    if probe and not dry_run:
        raise click.UsageError("--probe needs --dry-run")
    shard = given.pop("shard", None)
    request = RunRequest(
        **given, shard=None if shard is None else Shard.parse(shard, os.environ), command=_repeat_command()
    )
    if dry_run:
        click.echo(pipeline.rehearse(request, probe or 0))
        return 0
    report = pipeline.run(request)
    if not request.quiet or report.exit_code:
        with contextlib.suppress(OSError):  # a closed terminal must not change the exit code
            to_stderr = bool(report.exit_code) and not request.log_json
            click.echo(format_summary(report, request.command, _repeat_command("--limit")), err=to_stderr)
    return report.exit_code


#: Options that apply once, and whether they have a value.
_ONCE = {"--fresh": False, "--retry-failed": False, "--retry-doubtful": True}


def _repeat_command(*without: str) -> str:
    """The command line to continue the run: as typed, without options that apply once.

    Args:
        without: options with a value that are left out, too.
    """
    left_out = _ONCE | dict.fromkeys(without, True)
    program = Path(sys.argv[0])
    if program.name == "__main__.py":  # python -m maskmill
        parts = [sys.executable, "-m", "maskmill"]
    else:
        parts = ["run-pipeline" if "run-pipeline" in program.name else "maskmill"]
    given = iter(sys.argv[1:])
    for argument in given:
        name, equals, _ = argument.partition("=")
        if argument == "--":
            return quote_command([*parts, argument, *given])
        if name not in left_out:
            parts.append(argument)
        elif left_out[name] and not equals:
            next(given, None)
    return quote_command(parts)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of `run-pipeline`."""
    run_command(command, arguments)
