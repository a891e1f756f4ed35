"""One execution of a prepared run: announces it, processes the images, brings the output up to date and reports."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ..corrections import format_verdicts
from ..errors import OutputError, UsageError
from ..output import records
from ..output.folder import clean_up, is_small, remove_leftovers
from ..output.ledger import NAME
from ..output.outdated import OutdatedFiles, count_outdated
from ..results import Outdated, RunReport
from ..stored.prune import prune_run
from ..tables import ACCOUNTS
from ..wording import count_noun
from ..work import WORK
from .context import RunContext
from .finish import FinishRequest, finish
from .plan import listing
from .process_images import process_images
from .prompts_csv import update_prompts_csv
from .stop import Stopped, handle_signals
from .tracker import Tracker

#: Images that a warning names.
MOST_NAMED = 5


class RunExecution:
    """One run, or one round of a run that watches its dataset; `execute` runs it."""

    def __init__(self, context: RunContext) -> None:
        self.run = context
        rounds, options = context.rounds, context.options
        self._is_first = rounds is None or rounds.is_first
        #: whether the files about the dataset are made at the end
        self._is_last = rounds is None or rounds.at_rest
        self._is_whole = self._is_last and options.limit is None and options.only is None

    def execute(self, notices: Sequence[str]) -> RunReport:
        """Do the work and report; a signal aborts the preparation, and later only stops new images."""
        with handle_signals(self.run.stop):
            self.run.progress.answer(self.run.stop, self.run.count_running)
            return self._execute(notices)

    def _execute(self, notices: Sequence[str]) -> RunReport:
        run = self.run
        self._begin(notices)
        started = time.monotonic()
        try:
            process_images(run, self._describe_work)
            self._check_output()
            self._add_up()
            if self._is_whole and not run.stop.requested:
                self._end_listing()
            told: list[str] = []
            files: Mapping[str, int] = {}
            outdated, pruned = Outdated(), 0
            if self._is_last:
                files = self._finish(told)
                told.append(self._account())
                outdated, pruned = self._look_back()
        except UsageError as error:
            records.write_run(run.config.output, {**run.describe(), "message": str(error)}, None, "not started")
            raise
        finally:
            run.progress.close()
        for warning in run.listed.warnings:
            run.progress.log(f"warning: {warning}")
        run.tell(*told, format_verdicts(run.plan.count_verdicts()))
        report = replace(self._report(time.monotonic() - started, files), outdated=outdated, pruned=pruned)
        records.write_failures(run.config.output, run.ledger)
        run.ledger.set_meta("clean", not run.stop.interrupted)
        run.ledger.commit()
        if run.rounds is None:
            self.close(report)
        return report

    def close(self, report: RunReport) -> None:
        """Record that the run has ended, and call the observers."""
        run = self.run
        records.write_run(run.config.output, run.describe(), report)
        if run.mirror is not None:
            known = run.ledger.meta("uploaded") or {}
            run.ledger.set_meta("uploaded", run.mirror.upload_run(run.ledger.files.current(), known))
            run.ledger.commit()
            run.tell(f"{'uploaded' if run.mirror.is_bucket else 'copied'} to {run.mirror.address}")
        run.recorder.observe("run_finished", report=report)
        run.progress.end(report)

    def _begin(self, notices: Sequence[str]) -> None:
        """Make the output folder ready, and announce the run."""
        run = self.run
        clean_up(run.config.output, run.ledger)
        run.ledger.files.adopt()
        run.ledger.set_meta("threads", run.resources.threads)
        if self._is_whole:
            run.ledger.begin_listing()
        run.ledger.commit()
        if self._is_first:
            self._announce(notices)
        run.progress.count_in_background(listing(run.config, run.options, run.listed))
        if self._is_first:
            run.progress.begin(run.info, run.options.command, self._count_listed())
        records.write_run(run.config.output, run.describe(), None)
        if run.options.pipeline_text:
            records.write_pipeline(run.config.output, run.options.pipeline_text)
        if self._is_first:
            run.recorder.observe("run_started")

    def _announce(self, notices: Sequence[str]) -> None:
        run = self.run
        shard = "" if run.options.shard is None else f", shard {run.options.shard}"
        run.tell(*notices, f"{run.config.name}{shard}: {run.resources}", run.resources.warning)
        run.tell(*(f"plugin {path} (sha256 {sha[:12]})" for path, sha in run.config.registry.drop_ins.items()))

    def _count_listed(self) -> int | None:
        """How many images there are, if the dataset is listed to its end already."""
        run = self.run
        return sum(1 for _ in listing(run.config, run.options, run.listed)) if run.listed.is_complete else None

    def _describe_work(self) -> str:
        """What the run is doing, for the progress; "" while images finish."""
        run = self.run
        running = run.count_running()
        if run.stop.requested:
            return f"finishing {count_noun(running, 'image')}" if running else "stopping"
        if run.recorder.ran:
            return ""
        if not run.running:
            return "finding images to process"
        return "first image" if running else f"loading {run.stages.backend[0]}"

    def _describe_end(self, text: str) -> None:
        self.run.progress.describe("stopping" if self.run.stop.requested else text)

    def _check_output(self) -> None:
        """Check that the folder is still there, and remove what processes that died left.

        Raises:
            FileNotFoundError: the folder was deleted or moved away during the run.
        """
        run, output = self.run, self.run.config.output
        if not (output / NAME).exists():
            if output.exists():  # a worker was just writing: its files must be recognisable as a run's
                records.write_run(output, run.describe(), None, "cut short")
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(output))
        if run.recorder.deaths or run.stop.at_once:
            remove_leftovers(output, is_small(run.ledger))

    def _add_up(self) -> None:
        """Add the stage times of this run to the totals of the folder."""
        ledger = self.run.ledger
        total = Counter(ledger.meta("stage_seconds", {}))
        total.update(self.run.recorder.stage_seconds)
        ledger.set_meta("stage_seconds", {stage: round(seconds, 3) for stage, seconds in total.items()})
        ledger.commit()

    def _end_listing(self) -> None:
        """Note that the dataset was listed to its end; tell of decisions about images that are not in it."""
        self.run.ledger.end_listing()
        if unknown := self.run.plan.list_unknown_corrections():
            names = ", ".join(unknown[:MOST_NAMED]) + (", ..." if len(unknown) > MOST_NAMED else "")
            many = count_noun(len(unknown), "correction is", "corrections are")
            self.run.progress.log(f"warning: {many} of images that are not in the dataset: {names}")

    def _finish(self, told: list[str]) -> Mapping[str, int]:
        """Write the files about the whole dataset; returns their numbers, and adds what the writers tell to `told`."""
        run = self.run
        tracker = Tracker(run.stop.check)
        run.progress.describe(lambda: "stopping" if run.stop.requested else tracker.describe())
        return finish(
            FinishRequest(
                run.config,
                run.stages,
                run.ledger,
                run.entries,
                run.stop,
                run.fingerprints.writers,
                run.options.verify,
                told.append,
                tracker,
            )
        )

    def _account(self) -> str:
        """Write `prompts.csv`, unless the run was cut short; a line about it, or ""."""
        run, stop = self.run, self.run.stop
        self._describe_end(f"writing {ACCOUNTS}")
        if stop.requested:
            return ""
        try:
            with stop.interruptible():
                ran, shard = run.recorder.ran, run.options.shard
                return update_prompts_csv(run.config, run.surveys, run.ledger, ran, lambda: stop.requested, shard)
        except (Stopped, KeyboardInterrupt):
            return ""
        except (OutputError, PermissionError) as error:  # on Windows: a table program has it open
            stop.request(f"{ACCOUNTS} could not be written: {error}")
            return ""

    def _look_back(self) -> tuple[Outdated, int]:
        """Count the outdated files of earlier runs, or remove them; returns what there is now, and how many went."""
        run, output, pruned = self.run, self.run.config.output, 0
        self._describe_end("looking for files of earlier runs")
        if run.stop.requested:
            return Outdated(), 0
        try:
            with run.stop.interruptible():
                if run.mirror is not None:
                    with OutdatedFiles(output, run.ledger) as found:
                        run.mirror.delete_all(found.removed())
                if run.options.prune:
                    pruned = prune_run(output, run.ledger, run.progress.log).files
                return count_outdated(output, run.ledger, again=run.recorder.ran > 0), pruned
        except (Stopped, KeyboardInterrupt):
            return Outdated(), pruned

    def _report(self, seconds: float, files: Mapping[str, int]) -> RunReport:
        run, recorder = self.run, self.run.recorder
        outcome: Literal["finished", "interrupted", "stopped"] = "finished"
        if run.stop.requested:
            outcome = "interrupted" if run.stop.interrupted else "stopped"
        doubtful, doubts = run.ledger.doubt_counts()
        run_doubts = run.surveys.doubts()
        fail_on = {*run.config.run.fail_on, *run.options.fail_on}
        return RunReport(
            output=run.config.output,
            outcome=outcome,
            counts=run.ledger.counts(),
            ran=recorder.ran,
            seconds=round(seconds, 3),
            stage_seconds={stage: round(value, 3) for stage, value in sorted(recorder.stage_seconds.items())},
            images_per_second=round(recorder.ran / max(seconds, 1e-9), 3),
            files=files,
            message=run.stop.reason,
            doubtful=doubtful,
            doubts=doubts,
            left_out=dict(run.listed.left_out),
            remaining=run.queue.count_remaining(run.stop),
            warnings=tuple(run.surveys.warnings()),
            run_doubts=run_doubts,
            refused_doubts=tuple(code for code in run_doubts if code in fail_on),
            work={work: recorder.work[work] for work in WORK if recorder.work[work]},
        )
