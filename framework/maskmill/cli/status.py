"""`maskmill status OUTPUT`: the state of a run, what failed and why, how to continue."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .options import FILE

if TYPE_CHECKING:
    from ..output.run import Run

#: Keys shown for each reason.
EXAMPLES = 3
#: Machines listed for each reason, those with most images first.
MOST_HOSTS = 20
#: Keys listed for each reason with `--json`, and reasons that are told apart; so memory does not grow with the images.
MOST_KEYS, MOST_REASONS = 1000, 200


@click.command("status")
@click.argument("output", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def command(output: Path, as_json: bool) -> int:
    """Show the state of the run in the folder OUTPUT: counts, failures, how to continue."""
    from ..output.run import Run

    with Run(output, rebuild=True) as run:
        state = describe_run(run)
    if as_json:
        click.echo(json.dumps(state, ensure_ascii=False, indent=2))
    else:
        for line in _format_lines(state):
            click.echo(line)
    return 0


def describe_run(run: Run) -> dict[str, Any]:
    """The state of a run, as `--json` prints it; docs/results.md lists the members."""
    from ..output.records import add_option
    from ..results import DOUBTS
    from ..stored.reviews import count_reviews

    about, counts, running = run.about, run.counts(), run.is_running()
    reasons = _count_reasons(run)
    doubtful, doubts = run.doubt_counts()
    outcome = "running now" if running else str(about.get("outcome", "unknown")).replace("running", "cut short")
    command, merged = str(about.get("command", "run-pipeline FILE")), about.get("merged")
    advised = not running and not merged
    return {
        "schema": 1,
        "name": run.name,
        "output": str(run.folder),
        "shard": about.get("shard"),
        "outcome": outcome,
        "running": running,
        "notice": run.notice,
        "counts": counts,
        "remaining": about.get("remaining") if about.get("outcome") in ("interrupted", "stopped") else None,
        "failures": [
            {
                "status": reason.status,
                "stage": reason.stage,
                "plugin": reason.plugin,
                "message": reason.message,
                "count": found.count,
                "keys": found.keys,
                "hosts": dict(found.hosts.most_common(MOST_HOSTS)),
            }
            for reason, found in sorted(reasons.items(), key=lambda item: -item[1].count)
        ],
        "doubtful": doubtful,
        "doubts": [
            {"code": code, "meaning": DOUBTS[code], "count": count, "keys": run.keys_with_doubt(code, EXAMPLES)}
            for code, count in doubts.items()
        ],
        "run_doubts": about.get("run_doubts", {}),
        "reviews": count_reviews(run),
        "outdated": asdict(run.outdated()),
        "hosts": run.hosts(),
        "merged": [str(part.get("folder")) for part in merged] if merged else [],
        "continue": command if advised and outcome != "finished" else None,
        "retry": add_option(command, "--retry-failed") if advised and _has_failed(counts) else None,
    }


def _has_failed(counts: Mapping[str, int]) -> bool:
    return bool(counts["failed"] + counts["quarantined"])


class _Reason(NamedTuple):
    status: str
    stage: str
    plugin: str
    message: str


@dataclass
class _Images:
    """Images with the same reason: their number, the first keys, and by machine where machines are told apart."""

    count: int = 0
    keys: list[str] = field(default_factory=list)
    hosts: Counter[str] = field(default_factory=Counter)


def _count_reasons(run: Run) -> dict[_Reason, _Images]:
    """The failed and the rejected images by status, stage and message."""
    from ..output.records import FAILURES

    found: dict[_Reason, _Images] = {}
    for row in run.rows(("rejected", "failed", "quarantined")):
        failure = run.result(row).failure
        step = (failure.stage, failure.plugin, failure.text) if failure else ("?", "", "unknown")
        reason = _Reason(row.status, *step[:2], step[2].replace(row.key, "..."))
        if reason not in found and len(found) >= MOST_REASONS:
            reason = _Reason(row.status, "?", "", f"other reasons, which are in {FAILURES}")
        images = found.setdefault(reason, _Images())
        images.count += 1
        if len(images.keys) < MOST_KEYS:
            images.keys.append(row.key)
        if host := run.host_of(row.key):
            images.hosts[host] += 1
    return found


def _format_lines(state: dict[str, Any]) -> list[str]:
    """The state in words."""
    from ..output.hosts import format_hosts
    from ..output.records import describe_outdated, list_counts
    from ..results import Outdated

    remaining = f", {state['remaining']} not processed yet" if state["remaining"] else ""
    shard = f", shard {state['shard']}" if state["shard"] else ""
    lines = [f"{state['name']}{shard}: {state['outcome']}{remaining}"]
    lines += [state["notice"]] if state["notice"] else []
    lines.append(list_counts(state["counts"]) or "no image finished yet")
    lines += [f"Hosts: {line}"] if (line := format_hosts(state["hosts"])) else []
    for failed in state["failures"]:
        where = f"{failed['stage']} {failed['plugin']}".rstrip()
        what = f"{failed['count']} {failed['status']} at {where}: {failed['message']}"
        what += _format_places(failed["hosts"])
        lines.append(f"  {what}\n    {_list_keys(failed['keys'], failed['count'])}")
    for doubt in state["doubts"]:
        what = f"{doubt['count']} doubtful ({doubt['code']}): {doubt['meaning']}"
        lines.append(f"  {what}\n    {_list_keys(doubt['keys'], doubt['count'])}")
    lines += [f"  {count} doubtful ({code}) that belong to no image" for code, count in state["run_doubts"].items()]
    lines += _list_reviews(state["reviews"])
    if line := describe_outdated(Path(state["output"]), Outdated(**state["outdated"])):
        lines.append(line)
    if state["merged"]:
        lines.append(f"Merged from {', '.join(state['merged'])}; to continue, continue those runs")
    if state["continue"]:
        lines.append(f"To continue: {state['continue']}")
    if state["retry"]:
        lines.append(f"To retry the failed ones: {state['retry']}")
    return lines


def _format_places(hosts: dict[str, int]) -> str:
    """On which machines images failed, in words."""
    counts = [f"{name}: {count}" for name, count in list(hosts.items())[:EXAMPLES]] if len(hosts) > 1 else list(hosts)
    return f" (on {', '.join(counts)})" if counts else ""


def _list_reviews(reviews: dict[str, Any] | None) -> list[str]:
    """What people decided, in words."""
    from ..corrections import format_verdicts
    from ..wording import count_noun

    if reviews is None:
        return []
    lines = [line] if (line := format_verdicts(reviews)) else []
    if waiting := reviews["waiting"]:
        lines.append(f"  {count_noun(waiting, 'decision is', 'decisions are')} not in the results yet: run again")
    if older := reviews["on_older_result"]:
        lines.append(f"  {older} reviewed on an older result\n    {_list_keys(reviews['keys_on_older_result'], older)}")
    return [*lines, *(f"  the corrections cannot be used: {problem}" for problem in reviews["problems"])]


def _list_keys(keys: list[str], count: int) -> str:
    more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
    return f"{', '.join(keys[:EXAMPLES])}{more}"
