"""`maskmill status OUTPUT`: the state of a run, what failed and why, how to continue."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from .options import FILE

#: Keys shown for each reason.
EXAMPLES = 3


@click.command("status")
@click.argument("output", type=FILE)
def command(output: Path) -> int:
    """Show the state of the run in the folder OUTPUT: counts, failures, how to continue."""
    from ..output.run import Run
    from ..results import DOUBTS

    with Run(output) as run:
        counts, about, running = run.counts(), run.about, run.is_running()
        reasons: dict[str, list[str]] = {}
        for row in run.rows(("failed", "quarantined")):
            failure = run.result(row).failure
            text = f"at {failure}" if failure else "for an unknown reason"
            reason = f"{row.status} {text.replace(row.key, '...')}"
            reasons.setdefault(reason, []).append(row.key)
        _, doubts = run.doubt_counts()
        doubtful = {code: run.keys_with_doubt(code, EXAMPLES) for code in doubts}
    outcome = "running now" if running else str(about.get("outcome", "unknown")).replace("running", "cut short")
    click.echo(f"{run.name}: {outcome}")
    click.echo(", ".join(f"{count} {status}" for status, count in counts.items() if count) or "no image finished yet")
    for reason, keys in sorted(reasons.items(), key=lambda item: -len(item[1])):
        more = f" and {len(keys) - EXAMPLES} more" if len(keys) > EXAMPLES else ""
        click.echo(f"  {len(keys)} {reason}\n    {', '.join(keys[:EXAMPLES])}{more}")
    for code, count in doubts.items():
        more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
        click.echo(f"  {count} doubtful ({code}): {DOUBTS[code]}\n    {', '.join(doubtful[code])}{more}")
    for code, count in about.get("run_doubts", {}).items():
        click.echo(f"  {count} doubtful ({code}) that belong to no image")
    if merged := about.get("merged"):
        click.echo(
            f"Merged from {', '.join(str(part.get('folder')) for part in merged)}; to continue, continue those runs"
        )
    else:
        _advise(str(about.get("command", "run-pipeline FILE")), outcome, Counter(counts))
    return 0


def _advise(command: str, outcome: str, counts: Counter[str]) -> None:
    from ..output.records import add_option

    if outcome == "running now":
        return
    if outcome != "finished":
        click.echo(f"To continue: {command}")
    if counts["failed"] + counts["quarantined"]:
        click.echo(f"To retry the failed ones: {add_option(command, '--retry-failed')}")
