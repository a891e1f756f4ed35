"""`maskmill status OUTPUT`: the state of a run, what failed and why, how to continue."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import FILE

if TYPE_CHECKING:
    from ..output.run import Run

#: Keys shown for each reason.
EXAMPLES = 3
#: Reasons that are told apart.
MOST_REASONS = 200
#: As in `output.records`, which is imported only when it is needed.
FAILURES = "failures.jsonl"


@click.command("status")
@click.argument("output", type=FILE)
def command(output: Path) -> int:
    """Show the state of the run in the folder OUTPUT: counts, failures, how to continue."""
    from ..output.records import describe_outdated
    from ..output.run import Run
    from ..results import DOUBTS

    with Run(output) as run:
        counts, about, running = run.counts(), run.about, run.is_running()
        outdated = run.outdated()
        reasons, examples = _count_reasons(run)
        _, doubts = run.doubt_counts()
        doubtful = {code: run.keys_with_doubt(code, EXAMPLES) for code in doubts}
    outcome = "running now" if running else str(about.get("outcome", "unknown")).replace("running", "cut short")
    click.echo(f"{run.name}: {outcome}")
    click.echo(", ".join(f"{count} {status}" for status, count in counts.items() if count) or "no image finished yet")
    for reason, count in reasons.most_common():
        more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
        click.echo(f"  {count} {reason}\n    {', '.join(examples[reason])}{more}")
    for code, count in doubts.items():
        more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
        click.echo(f"  {count} doubtful ({code}): {DOUBTS[code]}\n    {', '.join(doubtful[code])}{more}")
    for code, count in about.get("run_doubts", {}).items():
        click.echo(f"  {count} doubtful ({code}) that belong to no image")
    if line := describe_outdated(output, outdated):
        click.echo(line)
    if merged := about.get("merged"):
        click.echo(
            f"Merged from {', '.join(str(part.get('folder')) for part in merged)}; to continue, continue those runs"
        )
    else:
        _advise(str(about.get("command", "run-pipeline FILE")), outcome, Counter(counts))
    return 0


def _count_reasons(run: Run) -> tuple[Counter[str], dict[str, list[str]]]:
    """The failed images by their reason, and the first keys of each."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for row in run.rows(("failed", "quarantined")):
        failure = run.result(row).failure
        text = failure.message if failure else "unknown"
        reason = f"{row.status} at {failure.stage if failure else '?'}: {text.replace(row.key, '...')}"
        if reason not in counts and len(counts) >= MOST_REASONS:
            reason = f"for other reasons, which are in {FAILURES}"
        counts[reason] += 1
        if len(keys := examples.setdefault(reason, [])) < EXAMPLES:
            keys.append(row.key)
    return counts, examples


def _advise(command: str, outcome: str, counts: Counter[str]) -> None:
    from ..output.records import add_option

    if outcome == "running now":
        return
    if outcome != "finished":
        click.echo(f"To continue: {command}")
    if counts["failed"] + counts["quarantined"]:
        click.echo(f"To retry the failed ones: {add_option(command, '--retry-failed')}")
