"""`maskmill export OUTPUT --to WRITER`: files of stored masks, without making them again."""

from __future__ import annotations

from pathlib import Path

import click

from .options import BESIDE, FILE, IMAGES, PLUGINS, settings


@click.command("export")
@click.argument("output", type=FILE)
@click.option("--to", "writer", required=True, metavar="WRITER", help="The writer: coco, png, overlay, ...")
@click.option("-o", "--folder", type=FILE, help="Where to, instead of OUTPUT/exports/WRITER.")
@click.option("--set", "sets", multiple=True, metavar="OPTION=VALUE", help="Give an option of the writer a value.")
@IMAGES
@PLUGINS
@BESIDE
@click.option("-j", "--jobs", type=int, help="Processes; by the number of images if left out.")
@click.option("-q", "--quiet", is_flag=True, help="Errors only.")
def command(
    output: Path,
    writer: str,
    folder: Path | None,
    sets: tuple[str, ...],
    images: Path | None,
    plugins: tuple[Path, ...],
    file: Path | None,
    jobs: int | None,
    quiet: bool,
) -> int:
    """Write the masks of the run in the folder OUTPUT in another format; SAM is not run again.

    Exit code: 0 all is well, 1 images could not be exported, 2 nothing could be done.
    """
    from ..output.run import Run
    from ..plugins.find import find_drop_ins
    from ..stored.export import ExportRequest, export

    if jobs == 0:
        raise click.UsageError("--jobs 0: expected a number of processes, or -1 for one on each core")
    request = ExportRequest(writer, settings(sets), folder, images, find_drop_ins(file, plugins), jobs)
    with Run(output) as run:
        if run.is_running() and not quiet:
            click.echo("the run is going on; what it has finished is exported", err=True)
        done = export(run, request, lambda line: click.echo(line, err=True))
    if not quiet or done.failed:
        for line in _summary(done.images, done.failed, done.files, done.left_out):
            click.echo(line, err=bool(done.failed))
        click.echo(f"Output: {done.folder}", err=bool(done.failed))
    return 1 if done.failed else 0


def _summary(images: int, failed: int, files: int, left_out: int) -> list[str]:
    lines = [f"{images} image{'s' if images != 1 else ''} exported, {files} file{'s' if files != 1 else ''}"]
    if failed:
        lines.append(f"{failed} could not be exported; the reasons are above and in export.jsonl")
    if left_out:
        lines.append(f"{left_out} failed in the run and {'have' if left_out > 1 else 'has'} no masks to export")
    return lines
