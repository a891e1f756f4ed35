"""Merging the shards of one dataset: none may be missing, and their tables of prompts become one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from ..errors import OutputError, Problem
from ..output.run import Run
from ..tables import ACCOUNTS, OTHER_SHARD, PROMPTS_CSV, read_table, write_table

#: Missing shards that a message names.
MOST_NAMED = 10


def check_shards(runs: Sequence[Run]) -> None:
    """Refuse runs of which some are shards, but not all shards of their dataset, or not all at their end.

    Raises:
        OutputError: names what is missing.
    """
    parts = [part for run in runs for part in run.parts() if part.get("shard")]
    if not parts:
        return
    hint = "add the others, or merge what is there with --partial"
    counts = sorted({str(part["shard"]).partition("/")[2] for part in parts})
    if len(counts) > 1:
        text = f"the runs are shards of {' and of '.join(counts)}, which do not belong together"
        raise OutputError(Problem(text, hint="merge shards of one number, or merge what is there with --partial"))
    there = {str(part["shard"]) for part in parts}
    missing = [shard for number in range(1, int(counts[0]) + 1) if (shard := f"{number}/{counts[0]}") not in there]
    if missing:
        more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
        listed = ", ".join(missing[:MOST_NAMED])
        which = f"the shard {listed} is" if len(missing) == 1 else f"the shards {listed}{more} are"
        raise OutputError(Problem(f"{which} missing", hint=hint))
    for part in parts:
        if (outcome := part.get("outcome")) not in ("finished", None):
            text = f"the shard {part['shard']} in '{part.get('folder')}' did not come to its end ({outcome})"
            raise OutputError(Problem(text, hint="continue it, or merge what is there with --partial"))


def merge_tables(runs: Sequence[Run], target: Path) -> None:
    """Write `prompts.csv` of the merged run, where every run is a shard that has one.

    Every shard has a row for every prompt, in the same order; the row of the shard that has the image counts.

    Args:
        runs: that are merged.
        target: the folder of the merged run.
    """
    tables = [run.folder / ACCOUNTS for run in runs]
    if not all(run.about.get("shard") for run in runs) or not all(table.exists() for table in tables):
        return
    unfinished = target / ACCOUNTS
    with write_table(unfinished, PROMPTS_CSV) as write:
        for rows in zip_longest(*(read_table(table, "replace") for table in tables)):
            named = {tuple(row[name] for name in PROMPTS_CSV[:4]) if row else None for row in rows}
            if len(named) > 1:  # the prompts changed between the runs: no row can be told to be the same
                break
            write(next((row for row in rows if row["outcome"] != OTHER_SHARD), rows[0]).values())
        else:
            return
    unfinished.unlink()
