"""`maskmill export OUTPUT --to WRITER`: write stored masks in another format."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from ..wording import count_noun
from .options import BESIDE, DROP_INS_HINT, FILE, IMAGES, PLUGINS, load_registry, parse_settings, show_failures


@click.command("export")
@click.argument("output", type=FILE)
@click.option("--to", "writer", required=True, metavar="WRITER", help="The writer to use: coco, png, overlay, ...")
@click.option("-o", "--folder", type=FILE, help="Output folder, instead of OUTPUT/exports/WRITER.")
@click.option("--set", "sets", multiple=True, metavar="OPTION=VALUE", help="Set an option of the writer.")
@IMAGES
@PLUGINS
@BESIDE
@click.option("-j", "--jobs", type=int, help="Number of processes; by default chosen from the number of images.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
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
    """Write the masks of the run in the folder OUTPUT in another format, without running the model again.

    Exit code: 0 success, 1 some images could not be exported, 2 the export could not start.
    """
    from ..output.records import list_counts
    from ..output.run import Run
    from ..stored.export import ExportRequest, export

    if jobs == 0:
        raise click.UsageError("--jobs 0: expected a number of processes, or -1 for one per core")
    registry = load_registry(plugins, file)
    entry = registry.get("writer", writer, "" if file or plugins else DROP_INS_HINT)
    show_failures(registry)
    settings = parse_settings(sets, lambda: [entry.cls])
    request = ExportRequest(writer, settings, folder, images, list(registry.drop_ins), jobs)
    with Run(output) as run:
        if run.is_running() and not quiet:
            click.echo("the run is still going on; only finished images are exported", err=True)
        log = partial(click.echo, err=True)
        done = export(run, request, log, (lambda line: None) if quiet else log)
    if not quiet or done.failed:
        for line in _summarize(done.images, done.failed, done.files, done.left_out):
            click.echo(line, err=bool(done.failed))
        if done.doubts:
            text = f"doubtful among them: {list_counts(done.doubts)}; list them with: maskmill status {output}"
            click.echo(text, err=bool(done.failed))
        click.echo(f"Output: {done.folder}", err=bool(done.failed))
    return 1 if done.failed else 0


def _summarize(images: int, failed: int, files: int, left_out: int) -> list[str]:
    lines = [f"{count_noun(images, 'image')} exported, {count_noun(files, 'file')}"]
    if failed:
        lines.append(f"{failed} could not be exported; for the reasons, see above or its record, .export.jsonl")
    if left_out:
        who = "1 image failed in the run and is" if left_out == 1 else f"{left_out} images failed in the run and are"
        lines.append(f"{who} not exported")
    return lines
