"""diary: an observer that keeps a diary of runs, one line of JSON each, in diary.jsonl beside the output folder.

It uses all three observer hooks. Observers run only in the driver and cannot change results.
If an observer raises an exception, it is reported and the run continues.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from maskmill import ImageResult, RunInfo, RunReport, hookimpl

#: This many failed images are printed at once; all of them are in the diary.
PRINTED = 3


@dataclass
class Page:
    """Data collected during a run."""

    started: str
    masks: int = 0
    labels: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)


_pages: dict[Path, Page] = {}


@hookimpl
def run_started(run: RunInfo) -> None:
    """Start a page."""
    _pages[run.output] = Page(time.strftime("%Y-%m-%d %H:%M:%S"))


@hookimpl
def image_finished(run: RunInfo, result: ImageResult) -> None:
    """Count the masks, and print the first failures at once."""
    page = _pages[run.output]
    page.masks += len(result.kept)
    page.labels |= {mask.label for mask in result.kept if mask.label is not None}
    if result.failure is not None:
        page.failed.append(result.key)
        if len(page.failed) <= PRINTED:
            print(f"diary: {result.key} failed: {result.failure.message}", file=sys.stderr)


@hookimpl
def run_finished(run: RunInfo, report: RunReport) -> None:
    """Append the page to the diary."""
    page = _pages.pop(run.output)
    line = {
        "began": page.started,
        "name": run.name,
        "outcome": report.outcome,
        "ran": report.ran,
        "counts": {status: count for status, count in report.counts.items() if count},
        "masks": page.masks,
        "labels": sorted(page.labels),
        "failed": page.failed,
        "seconds": round(report.seconds, 1),
    }
    with (run.output.parent / "diary.jsonl").open("a", encoding="utf-8") as diary:
        diary.write(json.dumps(line, ensure_ascii=False) + "\n")
