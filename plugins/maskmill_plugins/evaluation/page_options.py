"""What the pages of `evaluate` and `compare` take from the command line and from the runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

#: The page that the writer `report` leaves in a run's folder.
_REPORT = Path("report", "report.html")

PICTURES = click.option(
    "--pictures",
    type=click.IntRange(min=0),
    default=100,
    show_default=True,
    help="How many of the worst images the page shows.",
)


def find_run_pages(runs: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    """(name, page) of those runs, given as (name, folder), that have a report."""
    return [(name, folder / _REPORT) for name, folder in runs if (folder / _REPORT).is_file()]
