"""The records of a run: `run.json`, `failures.jsonl`, and the summary on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..files import write_atomic
from ..results import RunReport
from .ledger import Ledger

RUN = "run.json"
FAILURES = "failures.jsonl"


def write_run(output: Path, values: Mapping[str, Any], report: RunReport | None, outcome: str = "running") -> None:
    """Write `run.json`: what the run is and, once it has ended, its report (until then only `outcome`)."""
    content = {"schema": 1, **values, "outcome": outcome}
    if report is not None:
        ended = asdict(report)
        del ended["output"]
        content |= ended
        content["exit_code"] = report.exit_code
    text = json.dumps(content, ensure_ascii=False, indent=2, default=str)
    write_atomic(output / RUN, f"{text}\n".encode())


def read_about(output: Path) -> dict[str, Any]:
    """The content of `run.json`, {} if it is gone or damaged."""
    try:
        content = json.loads((output / RUN).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_failures(output: Path, ledger: Ledger) -> int:
    """Write `failures.jsonl`: one line for each failed or quarantined image, in key order."""
    lines = []
    for row in ledger.rows(("failed", "quarantined")):
        failure = ledger.result(row).failure
        values = {"key": row.key, "status": row.status, "attempts": row.attempts}
        lines.append(json.dumps(values | (asdict(failure) if failure else {}), ensure_ascii=False))
    write_atomic(output / FAILURES, "".join(f"{line}\n" for line in lines).encode())
    return len(lines)


def list_counts(counts: Mapping[str, int]) -> str:
    """Counts in words, such as "3 truncated, 1 conflict"."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def format_summary(report: RunReport, command: str) -> str:
    """What happened and what to do next, in a few lines.

    Args:
        report: the run.
        command: that started it, repeated in the advice.
    """
    total = sum(report.counts.values())
    parts = ", ".join(f"{count} {status}" for status, count in report.counts.items() if count)
    already = total - report.ran
    lines = [
        f"{total} image{'s' if total != 1 else ''}: {parts or 'none'}"
        + (f" ({already} were there already)" if already > 0 else "")
    ]
    if report.ran:
        lines[0] += f", {report.seconds:.1f} s, {report.images_per_second:.2f} images/s"
    if report.outcome == "interrupted":
        lines.append(f"Interrupted. To continue: {command}")
    elif report.outcome == "stopped":
        lines.append(f"Stopped: {report.message}")
        lines.append(f"After fixing this, continue with: {command}")
    if report.doubtful:
        doubts = list_counts(report.doubts)
        lines.append(f"{report.doubtful} doubtful ({doubts}); list them with: maskmill status {report.output}")
    if bad := report.counts.get("failed", 0) + report.counts.get("quarantined", 0):
        lines.append(f"{bad} failed; the reasons are in {report.output / FAILURES}")
        lines.append(f"To retry them: {command} --retry-failed")
    lines.append(f"Output: {report.output}")
    return "\n".join(lines)
