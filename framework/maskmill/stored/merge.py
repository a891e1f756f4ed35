"""Merging runs: the results of shards or machines in one folder that can be read, exported and evaluated.

The files of writers are not copied: `export` makes them from the merged results.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..chain.fingerprint import PARTIAL, Fingerprint
from ..errors import OutputError, Problem
from ..files import TEMPORARY_PREFIX, replace, write_atomic
from ..output.folder import LOCK, check_output
from ..output.join import NumberedRow, join_runs
from ..output.ledger import Ledger
from ..output.records import write_failures, write_run
from ..output.run import Run
from ..output.store import result_path
from ..plugins.stage import digest
from ..results import FINISHED, LedgerRow
from ..wording import count_noun
from .merge_shards import check_shards, merge_tables

Prefer = Literal["first", "last", "done"]
#: Keys listed when runs contradict each other.
MAX_LISTED = 5


@dataclass(frozen=True)
class MergeReport:
    """The outcome of a merge.

    Attributes:
        counts: images by status.
        doubled: number of images that more than one run had.
        doubts: images by the code of their doubts.
    """

    counts: Mapping[str, int]
    doubled: int
    doubts: Mapping[str, int]


def merge(folders: Sequence[Path], target: Path, prefer: Prefer | None = None, partial: bool = False) -> MergeReport:
    """Merge runs into a new folder; it appears whole or not at all.

    Args:
        folders: output folders of runs, at least one.
        target: the new folder.
        prefer: which result to take where runs have different ones for an image: that of the `first` or
            the `last` run named, or the one that is `done`; None refuses.
        partial: merge what is there, also where shards are missing or did not come to their end.

    Raises:
        OutputError: a folder holds no run or an active one, the target is not empty, shards are missing, or runs
            contradict each other.
    """
    _check_target(target, folders)
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(Run(folder)) for folder in folders]
        for run in runs:
            if run.is_running():
                raise OutputError(Problem(f"a run is working in '{run.folder}'", hint="wait for it to end"))
        if not partial:
            check_shards(runs)
        choose = _Chooser(runs, prefer)
        choose.check()
        unfinished = target.with_name(f"{TEMPORARY_PREFIX}{digest(target.name)}")
        shutil.rmtree(unfinished, ignore_errors=True)  # left by a merge that was killed
        try:
            unfinished.mkdir(parents=True)
            _write_merged(unfinished, runs, choose)
            if target.exists():
                shutil.rmtree(target)  # empty, see `_check_target`
            replace(unfinished, target)
        except OSError as error:
            raise OutputError(f"cannot write '{target}': {error.strerror or error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        with Run(target) as merged:
            return MergeReport(merged.counts(), choose.doubled, merged.doubt_counts()[1])


def _check_target(target: Path, folders: Sequence[Path]) -> None:
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise OutputError("the same run is named twice")
    if target.is_dir() and any(path.name != LOCK for path in target.iterdir()):
        raise OutputError(
            Problem(f"'{target}' is not empty", hint="give a new folder; runs are not merged into an existing one")
        )
    if problems := check_output(target):
        raise OutputError(*problems)


class _Chooser:
    """Chooses one row for each key from those of several runs, in key order; memory does not grow with them.

    Attributes:
        doubled: keys that more than one run has, among those chosen so far.
    """

    def __init__(self, runs: Sequence[Run], prefer: Prefer | None) -> None:
        self._runs = runs
        self._prefer = prefer
        self.doubled = 0

    def check(self) -> None:
        """Check all rows before anything is written.

        Raises:
            OutputError: runs have different results for an image, and `prefer` is not given.
        """
        first: list[str] = []
        count = 0
        for same in join_runs(self._runs):
            if len(same) > 1 and self._choose(same) is None:
                count += 1
                if len(first) < MAX_LISTED:
                    first.append(
                        f"{same[0][0]} ({', '.join(f'{self._runs[n].folder}: {row.status}' for _, n, row in same)})"
                    )
        if count:
            more = f"\n  and {count - len(first)} more" if count > len(first) else ""
            listed = "".join(f"\n  {line}" for line in first)
            text = f"the runs have different results for {count_noun(count, 'image')}:{listed}{more}"
            raise OutputError(Problem(text, hint="choose one: --prefer first, last or done"))

    def rows(self) -> Iterator[tuple[int, LedgerRow]]:
        """(number of the run, row) of each key."""
        for same in join_runs(self._runs):
            self.doubled += len(same) > 1
            chosen = self._choose(same)
            assert chosen is not None, "checked before"
            yield chosen

    def _choose(self, same: list[NumberedRow]) -> tuple[int, LedgerRow] | None:
        """The row to take, None if that is undecided."""
        if self._prefer == "done":
            same = [item for item in same if item[2].status in ("done", "empty")] or same
        if self._prefer != "last" and (self._prefer == "first" or self._are_equal(same)):
            return same[0][1:]
        return same[-1][1:] if self._prefer == "last" else None

    def _are_equal(self, same: list[NumberedRow]) -> bool:
        """Whether the stored results are the same except for the files of writers."""
        return (
            len(same) == 1 or len({digest(_comparable_result(self._runs[number], row)) for _, number, row in same}) == 1
        )


def _comparable_result(run: Run, row: LedgerRow) -> Any:
    try:
        stored = _read_stored(run, row)
    except OutputError:  # a failed image without details
        return row.status
    names = ["status", "size", "sha256"]
    if row.status in FINISHED:  # what an image that failed has depends on how far it came
        names += ["prompts", "masks", "raw", "reason"]
    parts = {name: stored[name] for name in names}
    return {**parts, "doubts": stored.get("doubts", [])}


def _read_stored(run: Run, row: LedgerRow) -> dict[str, Any]:
    """The stored result as plain data, validated.

    Raises:
        OutputError: it is missing or damaged.
    """
    run.result(row)
    try:
        data = json.loads(result_path(run.folder, row.key).read_bytes())
        assert isinstance(data, dict), "run.result read it"
    except (OSError, ValueError) as error:
        raise OutputError(f"the stored result of {row.key} in '{run.folder}' cannot be read: {error}") from None
    return data


def _write_merged(folder: Path, runs: Sequence[Run], choose: _Chooser) -> None:
    """Write results, ledger, run.json and failures.jsonl of the merged run."""
    models = {run.masks_fingerprint for run in runs}
    with Ledger.create(folder) as ledger:
        for number, row in choose.rows():
            _copy_result(runs[number], row, folder)
            kept = row._replace(fingerprint=_without_writers(row.fingerprint), listing=ledger.listing)
            ledger.record(kept, runs[number].doubts_of(row.key), host=runs[number].host_of(row.key))
        seconds: Counter[str] = Counter()
        for run in runs:
            seconds.update(run.stage_seconds())
        ledger.set_meta("stage_seconds", dict(seconds))
        ledger.set_meta("merged", [str(run.folder.absolute()) for run in runs])
        ledger.set_meta("masks", models.pop() if len(models) == 1 else None)
        ledger.set_meta("clean", True)
        ledger.commit()
        write_failures(folder, ledger)
        doubtful, doubts = ledger.doubt_counts()
        counted = {"counts": ledger.counts(), "doubtful": doubtful, "doubts": doubts}
        write_run(folder, {**_describe(runs), **counted}, None, "merged")
        merge_tables(runs, folder)


def _copy_result(run: Run, row: LedgerRow, folder: Path) -> None:
    """Copy a stored result, without the files of writers."""
    if row.status in ("failed", "quarantined") and not result_path(run.folder, row.key).exists():
        return
    data = _read_stored(run, row)
    data["artifacts"] = []
    data["provenance"].setdefault("run", str(run.folder.absolute()))  # identifies the run among several with one model
    for name in {"fingerprint", PARTIAL} & data["provenance"].keys():
        data["provenance"][name] = _without_writers(data["provenance"][name])
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    write_atomic(result_path(folder, row.key), text.encode())


def _without_writers(text: str) -> str:
    try:
        made = Fingerprint.parse(text)
    except ValueError:
        return text
    return str(Fingerprint(made.prompts, made.masks, made.filters, ()))


def _describe(runs: Sequence[Run]) -> dict[str, Any]:
    """The content of `run.json`: the merged runs, and the values that all of them share."""
    parts = [part for run in runs for part in run.parts()]
    about: dict[str, Any] = {"merged": parts}
    for name in ("name", "pipeline", "fingerprint", "versions", "machine"):
        values = [part.get(name) for part in parts]
        about[name] = values[0] if all(value == values[0] for value in values) else None
    about["name"] = about["name"] or " + ".join(dict.fromkeys(str(part.get("name")) for part in parts))
    return about
