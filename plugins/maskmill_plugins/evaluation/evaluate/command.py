"""`maskmill evaluate OUTPUT --truth FILE`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from maskmill.cli.options import FILE, IMAGES
from maskmill.output.records import FAILURES
from maskmill.wording import count_noun

from ..page_options import PICTURES, find_run_pages

if TYPE_CHECKING:
    from maskmill import Run

    from ..report.pages import ListedNames, Table
    from .evaluation import Evaluation

#: Names and classes shown in the terminal; the files list all of them.
SHOWN = 5
MOST_ROWS = 30


@click.command("evaluate")
@click.argument("output", type=FILE)
@click.option(
    "--truth",
    required=True,
    type=FILE,
    help="COCO (instances or panoptic), CVAT's XML, a folder as in VOC, or class maps with labels.txt.",
)
@click.option("-o", "--folder", type=FILE, help="Folder for the report instead of OUTPUT/evaluation.")
@click.option(
    "--by-class/--one-class",
    default=None,
    help="Whether a mask must have its object's class; default: if any mask has a class of the truth.",
)
@PICTURES
@IMAGES
def evaluate(
    output: Path, truth: Path, folder: Path | None, by_class: bool | None, pictures: int, images: Path | None
) -> int:
    """Compare the masks of the run OUTPUT with ground truth: COCO's AP, mean IoU, boundary F, the worst images.

    Exit code: 0 evaluated, 1 some images could not be evaluated, 2 none could be evaluated.
    """
    from maskmill import OutputError, Run
    from maskmill.output.folder import EVALUATED, EVALUATION
    from maskmill.stored.originals import OriginalImages

    from ..report.pages import PageContent, ReportFolder
    from ..truth import read_truth
    from . import evaluation

    with Run(output) as run, OriginalImages(run, images) as originals:
        place = ReportFolder(folder or output / EVALUATION, EVALUATED)
        true = read_truth(truth)
        found = evaluation.evaluate(run, true, by_class, pictures)
        if problem := _find_obstacle(run, found):
            raise OutputError(problem)
        pairs = evaluation.ImagePairs(run, true)
        drawn = (
            evaluation.draw_evaluation(run, key, value, pairs.get(key), found, originals) for key, value in found.worst
        )
        title = f"{run.name} against {truth.name}"
        facts, tables = summarize(found), make_tables(found)
        about = {"schema": 1, "run": str(output.absolute()), "name": run.name, **found.to_json()}
        links = find_run_pages([(run.name, output)])
        rows = found.objects
        place.fill(about, PageContent("evaluate", title, rows.ranked(), rows.total, links), drawn)
    for line in [title, *facts, *(line for table in tables for line in ["", *table.lines()[: MOST_ROWS + 1]])]:
        click.echo(line)
    click.echo(f"\nReport with numbers and the worst images: {place.path}")
    return 1 if found.errors.count else 0


def _find_obstacle(run: Run, found: Evaluation) -> str:
    """Why there is nothing to evaluate, "" if there is."""
    folder, source = run.folder, found.truth.source
    if not sum(run.counts().values()):
        message = str(run.about.get("message") or "it was cut short before the first image")
        return f"the run in '{folder}' has no result: {message}"
    if not found.truth.images:
        return f"the ground truth '{source}' lists no image"
    if found.failed.count and found.failed.count == found.images:
        many = f"all {found.images} images" if found.images > 1 else "the only image"
        failed = ", ".join(found.failed.first[:SHOWN])
        text = f"{many} that the run in '{folder}' and the ground truth share failed in the run: {failed}"
        return f"{text}\n  the reasons are in {folder / FAILURES}"
    if found.images:
        return ""
    text = f"no image of the run in '{folder}' is in the ground truth '{source}'"
    for names, whose in ((found.only_in_run, "the run"), (found.only_in_truth, "the ground truth")):
        text += f"\n  {whose} has {', '.join(names.first[:SHOWN])}" if names.count else ""
    return "\n".join([text, *found.errors.first[:SHOWN]])


def summarize(found: Evaluation) -> list[str]:
    """A line for each fact: what was counted and what was not."""
    ways, tally = found.tallies.ways, found.tallies.all
    counted = f"{count_noun(found.images, 'image')}, {count_noun(tally.objects, 'object')}"
    extra = count_noun(found.tallies.extra, "mask matches", "masks match")
    lines = [
        f"{counted}: {ways['id']} matched by the id of a mask's prompt,"
        f" {ways['overlap']} by overlap, {ways['missed']} missed; {extra} no object",
        "classes are compared" if found.by_class else "classes are ignored: every mask may match any object",
    ]
    if confusions := found.tallies.confusions:
        pairs = confusions.most_common(SHOWN)
        listed = ", ".join(f"{true} as {mask or '(none)'} {count}" for (true, mask), count in pairs)
        lines.append(f"objects that only a mask of another class covers: {confusions.total()} ({listed})")
    if not tally.objects:
        where = "these images" if found.truth.images.objects else "any image"
        crowds = found.truth.images.crowds and not found.truth.images.objects
        but = " but crowd regions" if crowds else ""
        lines.append(
            f"the ground truth has no object{but} in {where}: there was nothing to find, and every mask is extra"
        )
    elif found.truth.kind == "box":
        lines.append("the ground truth has only boxes: the boxes of the masks were compared, without boundary F")
    if merged := len(found.truth.merged):
        lines.append(
            f"the ground truth does not tell the objects of {merged} classes apart: in each image, they are one"
        )
    lines += list(found.truth.warnings)
    lines += _list_names("images that failed in the run; their objects count as missed", found.failed)
    lines += _list_names("images that could not be evaluated and are ignored", found.errors)
    lines += _list_names("images of the run without ground truth, ignored", found.only_in_run)
    lines += _list_names("images with ground truth that are not in the run, ignored", found.only_in_truth)
    if unknown := found.unknown_labels:
        listed = ", ".join(f"{label or '(none)'} ({count})" for label, count in sorted(unknown.items()))
        lines.append(f"masks with labels that are not in the ground truth are ignored: {listed}")
    return lines


def _list_names(what: str, names: ListedNames) -> list[str]:
    if not names.count:
        return []
    more = f" and {names.count - SHOWN} more" if names.count > SHOWN else ""
    return [f"{what}: {names.count} ({', '.join(names.first[:SHOWN])}{more})"]


def make_tables(found: Evaluation) -> Sequence[Table]:
    """COCO's numbers, and one table each by class, size and kind of prompt."""
    from ..report.pages import Table, format_number
    from .precision import STATS

    precision = found.precision
    stats = Table(STATS[:6], [[format_number(precision.get(name)) for name in STATS[:6]]])
    columns = ("objects", "answered", "IoU ≥ 0.5", "mean IoU", "boundary F")
    tables = [stats]
    every = {"all": {"all objects": found.tallies.all.means()}, **dict(found.tallies.groups())}
    for group, means in every.items():
        rows = []
        for name, values in means.items():
            counts = [str(values[key]) for key in ("objects", "answered", "iou_50")]
            row = [name, *counts, format_number(values["mean_iou"]), format_number(values["mean_boundary_f"])]
            rows.append(
                [*row, format_number(precision.get(f"AP {name}"))] if group == "class" and found.by_class else row
            )
        head = ["" if group == "all" else group, *columns]
        tables.append(Table([*head, "AP"] if group == "class" and found.by_class else head, rows))
    return tables
