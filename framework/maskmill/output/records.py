"""The records of a run: `run.json`, `failures.jsonl`, and the summary on the terminal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..decoding.formats import describe_left_out
from ..errors import OutputError, Problem
from ..files import atomic_path, quote_command, write_atomic
from ..results import Outdated, RunReport
from ..wording import count_noun
from ..work import NO_WORK, WORK, Work
from .ledger import Ledger

RUN = "run.json"
#: The pipeline of a run that had no pipeline file.
PIPELINE = "pipeline.yaml"
FAILURES = "failures.jsonl"
#: Images beyond a limit that are counted.
MOST_REMAINING = 100_000


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


def check_pipeline(output: Path) -> None:
    """Refuse to overwrite a pipeline file that is not as `write_pipeline` left it.

    Raises:
        OutputError: somebody changed it, or it cannot be read.
    """
    file = output / PIPELINE
    try:
        seal, _, text = file.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"cannot read '{file}': {error.strerror or error}") from error
    if seal.strip() != _seal(text.replace(b"\r\n", b"\n")):
        message = f"'{file}' was changed since it was written, and would be overwritten"
        hint = f"move it to another folder, or run it instead: {quote_command(['run-pipeline', str(file)])}"
        raise OutputError(Problem(message, hint=hint))


def write_pipeline(output: Path, text: str) -> None:
    """Write `pipeline.yaml`; its first line is a checksum, by which it is recognised as ours."""
    content = text.encode()
    write_atomic(output / PIPELINE, _seal(content) + b"\n" + content)


def _seal(content: bytes) -> bytes:
    return b"# written by maskmill, checksum " + hashlib.sha256(content).hexdigest()[:16].encode()


def read_about(output: Path) -> dict[str, Any]:
    """The content of `run.json`, {} if it is gone or damaged."""
    try:
        content = json.loads((output / RUN).read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    content.pop("artifacts", None)  # of earlier versions: a list that may have an entry for each image
    return content


def write_failures(output: Path, ledger: Ledger) -> int:
    """Write `failures.jsonl`: one line for each failed or quarantined image, in key order."""
    count = 0
    with atomic_path(output / FAILURES) as unfinished, unfinished.open("w", encoding="utf-8", newline="\n") as out:
        for row in ledger.rows(("failed", "quarantined")):
            result = ledger.result(row)
            values: dict[str, Any] = {"key": row.key, "status": row.status, "attempts": row.attempts}
            values |= asdict(result.failure) if result.failure else {}
            if host := ledger.hosts.find(row.key):
                values["host"] = host
            if result.doubts:
                values["doubts"] = [asdict(doubt) for doubt in result.doubts]
            out.write(json.dumps(values, ensure_ascii=False) + "\n")
            count += 1
    return count


def add_option(command: str, option: str) -> str:
    """A command line with one more option, before a `--` that ends the options."""
    before, end, after = command.partition(" -- ")
    return f"{before} {option}{end}{after}"


def list_counts(counts: Mapping[str, int]) -> str:
    """Counts in words, such as "3 truncated, 1 conflict"."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def format_bytes(size: int) -> str:
    """A size in words, such as "1.5 MB"."""
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return count_noun(size, "byte")


def describe_outdated(output: Path, outdated: Outdated) -> str:
    """A line about the files of earlier runs that are no longer part of the run; "" if there are none."""
    if not outdated.files:
        return ""
    why = [f"{count_noun(outdated.images, 'image')} left the dataset"] if outdated.images else []
    if outdated.writers:
        why.append(f"files in {', '.join(f'{folder}/' for folder in outdated.writers)} are no longer made")
    files = f"{count_noun(outdated.files, 'outdated file')} ({format_bytes(outdated.bytes)}) of earlier runs"
    command = quote_command(["maskmill", "prune", str(output)])
    return f"{files}: {'; '.join(why)}. To remove them: {command} (--dry-run lists them)"


def describe_counts(counts: Mapping[str, int]) -> str:
    """Images by status in words, such as "3 images: 2 done, 1 failed"."""
    total = sum(counts.values())
    return f"{total} image{'s' if total != 1 else ''}: {list_counts(counts)}" if total else "no image finished yet"


def describe_work(work: Mapping[Work, int], **other_words: str) -> str:
    """Images by what a run does for them in words, such as "20 new; 280 already done".

    Args:
        work: as in a report.
        other_words: instead of those of `WORK`.
    """
    return "; ".join(f"{count} {other_words.get(name, WORK[name])}" for name, count in work.items())


def format_summary(report: RunReport, command: str, unlimited: str = "") -> str:
    """What happened and what to do next, in a few lines.

    Args:
        report: the run.
        command: that started it, repeated in the advice.
        unlimited: the same without a limit, for the images that it left.
    """
    total = sum(report.counts.values())
    already = total - report.ran
    lines = [
        describe_counts(report.counts)
        + (f" ({already} {'was' if already == 1 else 'were'} there already)" if already > 0 else "")
    ]
    if report.ran:
        lines[0] += f", {report.seconds:.1f} s, {report.images_per_second:.2f} images/s"
    if set(report.work) - {"new", *NO_WORK}:
        lines.append(f"This run: {describe_work(report.work)}")
    if report.outcome == "interrupted":
        remain = f", {_count_remaining(report.remaining)}" if report.remaining else ""
        lines.append(f"Interrupted{remain}. To continue: {command}")
    elif report.outcome == "stopped":
        lines.append(f"Stopped: {report.message}")
        lines += [_count_remaining(report.remaining)] if report.remaining else []
        lines.append(f"After fixing this, continue with: {command}")
    if report.left_out:
        lines.append(describe_left_out(report.left_out))
    if report.doubtful:
        doubts = list_counts(report.doubts)
        status = quote_command(["maskmill", "status", str(report.output)])
        lines.append(f"{report.doubtful} doubtful ({doubts}); list them with: {status}")
    if report.run_doubts:
        doubts = list_counts(report.run_doubts)
        lines.append(f"Doubtful without an image: {doubts}; the prompts files and prompts.csv have the details")
    if bad := report.counts.get("failed", 0) + report.counts.get("quarantined", 0):
        lines.append(f"{bad} failed; the reasons are in {report.output / FAILURES}")
        lines.append(f"To retry them: {add_option(command, '--retry-failed')}")
    if report.remaining and report.outcome == "finished":
        text = f"{_count_remaining(report.remaining)} beyond the limit"
        lines.append(text + (f"; to process them: {unlimited}" if unlimited else ""))
    if report.pruned:
        lines.append(f"{count_noun(report.pruned, 'outdated file')} of earlier runs removed")
    if line := describe_outdated(report.output, report.outdated):
        lines.append(line)
    lines += report.warnings
    lines.append(f"Output: {report.output}")
    lines += [f"Report: {page}" for page in _list_pages(report)]
    return "\n".join(lines)


def _list_pages(report: RunReport) -> list[Path]:
    """The HTML pages about the whole dataset that writers made, such as `report/report.html`."""
    return [
        page for name, count in report.files.items() if count for page in sorted((report.output / name).glob("*.html"))
    ]


def _count_remaining(count: int) -> str:
    if count >= MOST_REMAINING:
        return f"{MOST_REMAINING:,} or more images remain"
    return "1 image remains" if count == 1 else f"{count} images remain"
