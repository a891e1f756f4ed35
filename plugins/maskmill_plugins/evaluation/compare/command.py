"""`maskmill compare A B`, and `maskmill compare FILE --vary KEY=VALUE,VALUE`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from maskmill.cli.options import FILE, IMAGES
from maskmill.files import quote_command

from ..page_options import PICTURES, find_run_pages

if TYPE_CHECKING:
    from maskmill import Run

    from ..report.pages import ReportFolder, Table
    from .comparison import Comparison

SHOWN = 5


@click.command("compare")
@click.argument("what", metavar="A B... | FILE [PHOTOS]", nargs=-1, required=True, type=FILE)
@click.option("-o", "--folder", type=FILE, help="Folder for the report; with --vary also for the runs.")
@click.option(
    "--vary",
    metavar="KEY=VALUE,VALUE",
    help="Run the pipeline FILE with each value and compare the runs; KEY={NAME: VALUE, NAME: VALUE} names them.",
)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="With --vary: override one value in all runs.")
@click.option("--limit", type=click.IntRange(min=1), help="With --vary: process only the first N images.")
@click.option(
    "--plugins", multiple=True, type=FILE, metavar="PATH", help="With --vary: load drop-in plugins from here."
)
@PICTURES
@IMAGES
def compare(
    what: tuple[Path, ...],
    folder: Path | None,
    vary: str | None,
    sets: tuple[str, ...],
    limit: int | None,
    plugins: tuple[Path, ...],
    pictures: int,
    images: Path | None,
) -> int:
    """Compare runs over the same images: A with B (and more), or a pipeline FILE with several values of an option.

    Exit code: 0 compared, 1 some images could not be compared or failed in a run of --vary, 2 nothing compared.
    """
    if vary is None:
        if len(what) < 2 or sets or limit or plugins:
            raise click.UsageError("give two output folders, or a pipeline file and --vary KEY=VALUE,VALUE")
        return _compare_runs(what, _name_runs(what), ComparisonFolder(folder, pictures, images))
    if len(what) > 2:
        raise click.UsageError("with --vary: give a pipeline file, and optionally the photos")
    from maskmill.run.plan import RunRequest

    from .variants import COMPARISON, load_variants

    dataset = (str(what[1]),) if len(what) == 2 else None
    chosen = load_variants(what[0], vary, folder, sets, dataset=dataset, plugins=plugins)
    options = [("--set", each) for each in sets] + [("--plugins", str(each)) for each in plugins]
    options += [("--limit", str(limit))] if limit else []
    worst = 0
    for variant in chosen:
        click.echo(variant.name, err=True)
        alone = [*options, ("--set", variant.setting), ("-o", str(variant.pipeline.config.output))]
        command = quote_command(["run-pipeline", *map(str, what), *(part for option in alone for part in option)])
        report = variant.pipeline.run(RunRequest(limit=limit, command=command))
        if report.outcome != "finished":
            stopped = report.outcome == "stopped"
            message = f"Stopped: {report.message}" if stopped else "Interrupted. Run the command again to continue."
            click.echo(message, err=True)
            return report.exit_code
        worst = max(worst, report.exit_code)
    outputs = [variant.pipeline.config.output for variant in chosen]
    target = ComparisonFolder(outputs[0].parent / COMPARISON, pictures, images)
    return max(worst, _compare_runs(outputs, [variant.name for variant in chosen], target))


def _name_runs(folders: Sequence[Path]) -> list[str]:
    """The names of the folders, or their paths if two have the same name."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


@dataclass(frozen=True)
class ComparisonFolder:
    """Where the reports of a comparison are written, and with what.

    Attributes:
        folder: the folder; None: nowhere. Of more than two runs, each comparison has a subfolder.
        pictures: how many images the pages show.
        images: contains the photos now; None: they are where the runs read them.
    """

    folder: Path | None
    pictures: int
    images: Path | None

    def place(self, number: int, several: bool) -> Path | None:
        """The folder of the comparison of the first run with this one."""
        return None if self.folder is None else self.folder / f"{number:02}" if several else self.folder


def _compare_runs(folders: Sequence[Path], names: Sequence[str], target: ComparisonFolder) -> int:
    """Compare each run with the first and return the exit code."""
    from maskmill import OutputError, Run
    from maskmill.output.folder import COMPARED

    from ..report.pages import PAGE, ReportFolder
    from . import comparison

    numbers = range(1, len(folders))
    below = {number: target.place(number, len(folders) > 2) for number in numbers}
    variants = [(f"{names[0]} – {names[n]}", place / PAGE) for n, place in below.items() if place is not None]
    code = 0
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(Run(folder)) for folder in folders]
        for number in numbers:
            place = below[number]
            report = None if place is None else ReportFolder(place, COMPARED)
            found = comparison.compare(runs[0], runs[number], (names[0], names[number]), target.pictures)
            if not sum(found.statuses.values()):
                raise OutputError(f"'{folders[0]}' and '{folders[number]}' have no image in common")
            if number > 1:
                click.echo("")
            for line in format_lines(found):
                click.echo(line)
            if report is not None:
                others = [link for link in variants if link[1].parent != report.path]
                _write(report, found, (runs[0], runs[number]), others, target.images)
                click.echo(f"\nReport with numbers and the images that differ most: {report.path}")
            code = max(code, int(bool(found.errors.count)))
    return code


def _write(
    target: ReportFolder,
    found: Comparison,
    runs: tuple[Run, Run],
    others: Sequence[tuple[str, Path]],
    images: Path | None,
) -> None:
    from maskmill.stored.originals import OriginalImages

    from ..report.pages import PageContent
    from .comparison import draw_comparison

    names = (found.a.name, found.b.name)
    links = [*others, *find_run_pages([(name, run.folder) for name, run in zip(names, runs, strict=True)])]
    content = PageContent("compare", f"{names[0]} – {names[1]}", found.pairs.ranked(), found.pairs.total, links)
    with OriginalImages(runs[0], images) as originals:
        drawn = (draw_comparison(*runs, key, value, originals) for key, value in found.worst)
        target.fill({"schema": 1, **found.to_json()}, content, drawn)


def format_lines(found: Comparison) -> Iterator[str]:
    """The comparison as lines for the terminal."""
    yield f"{found.a.name} and {found.b.name}"
    yield from summarize(found)
    for table in make_tables(found):
        yield ""
        yield from table.lines()


def summarize(found: Comparison) -> list[str]:
    """A line for each fact: what was compared and what was not."""
    identical = found.identical_images
    facts = [
        f"images finished in both runs: {found.images}, {identical} of them with identical masks",
        f"pairs of masks: {len(found.ious)} ({found.by_prompt} by equal prompts,"
        f" {len(found.ious) - found.by_prompt} by overlap), {found.identical} of them identical",
    ]
    for (a, b), count in sorted(found.statuses.items()):
        if a != b:
            facts.append(f"{a} in {found.a.name} and {b} in {found.b.name}: {count}")
    for names, side in zip(found.only, (found.a, found.b), strict=True):
        if names.count:
            facts.append(f"only in {side.name}: {names.count} ({', '.join(names.first[:SHOWN])})")
    if found.errors.count:
        facts.append(f"could not be compared: {found.errors.count} ({'; '.join(found.errors.first[:SHOWN])})")
    return facts


def make_tables(found: Comparison) -> list[Table]:
    """Tables of the agreement, and of the masks and processing time of each run."""
    from ..report.pages import Table, format_number

    about = found.to_json()
    shares = about["share_of_pairs_from_iou"]
    head = ["mean agreement", "mean IoU", "median IoU", *(f"IoU ≥ {step}" for step in shares)]
    row = [format_number(about[key]) for key in ("mean_agreement", "mean_iou", "median_iou")]
    sides = [
        [
            side["name"],
            str(side["masks"]),
            str(side["masks_without_partner"]),
            format_number(side["seconds_per_image"]["mean"], 2),
            format_number(side["seconds_per_image"]["median"], 2),
        ]
        for side in (about["a"], about["b"])
    ]
    columns = ["run", "masks", "without partner", "s/image, mean", "median"]
    return [Table(head, [[*row, *(f"{share:.1%}" for share in shares.values())]]), Table(columns, sides)]
