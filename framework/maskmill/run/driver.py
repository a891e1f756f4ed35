"""A run: every image of the dataset brought to its status, recorded, reported.

What has to be done is decided in `plan`, what an outcome means in `record`, when to try again
in `dispatch`; the work itself happens in `chain.py`, inside the engine.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

from ..config.config import Config
from ..errors import OutputError, StopRun, UsageError
from ..files import TEMPORARY_PREFIX
from ..images import ImageRef
from ..output import environment, records as reports
from ..output.folder import claim, remove_leftovers, sweep
from ..output.ledger import NAME, Ledger
from ..plugins.engine import Engine
from ..plugins.optional import max_concurrent
from ..plugins.stage import digest
from ..results import Artifact, Row, RunInfo, RunReport
from .dispatch import MAX_TRIES, QueuedImage, Stop, dispatch, signals
from .dry_run import choose_resources, count_first_images
from .finish import finish
from .forecast import require_consent
from .plan import Plan, RunRequest, check_same_backend, listing
from .progress import JsonLog, Progress
from .prompt_lane import Lane
from .prompts_csv import NAME as ACCOUNTS, Surveys, update_prompts_csv
from .record import Recorder

__all__ = ["RunInfo", "RunRequest", "run"]


def run(config: Config, options: RunRequest, notices: Sequence[str] = ()) -> RunReport:
    """Run a checked pipeline over its dataset.

    Args:
        config: the pipeline.
        options: what is asked of this run.
        notices: lines to show at the start.

    Raises:
        UsageError: the run cannot start: no images, the output folder is in use or
            belongs to another model, a plugin cannot be opened, a stage wants `yes` first.
        StopRun: the output cannot be written any more; a rerun goes on.
    """
    images = count_first_images(config, options)
    surveys = Surveys(config)
    require_consent(config, options)
    with claim(config.output, fresh=options.fresh) as notice, Ledger.create(config.output) as ledger:
        try:
            return _Run(config, options, ledger, images, surveys).execute([*notices, *surveys.warnings(), notice])
        except (sqlite3.Error, OSError) as error:  # a full disk, a folder that is gone
            text = f"the output '{config.output}' cannot be written any more: {error}"
            if not (config.output / NAME).exists():
                text = f"the output '{config.output}' is gone: it was deleted or moved while the run was going"
            raise StopRun(f"{text}\n  When that is mended, go on with: {options.command}") from error


class _Run:
    """One run; `execute` is its life."""

    def __init__(self, config: Config, options: RunRequest, ledger: Ledger, images: int, surveys: Surveys) -> None:
        self.config = config
        self.surveys = surveys
        self.options = options
        self.ledger = ledger
        self.stages = config.stages()
        self.engine = cast(Engine, config.engine.stage)
        self.model_id = self.stages.backend[1].model_id()
        self.fingerprints = config.fingerprints(self.model_id)
        self.plan = Plan(config, options, self.fingerprints)
        self.resources = choose_resources(config, images, ledger.meta("threads"))
        self.info = RunInfo(config.name, config.output, config.resolved(), self.resources.jobs, self.resources.threads)
        self.story = options.verbose or (images == 1 and not options.quiet)
        self.stop = Stop()
        progress = JsonLog if options.log_json else Progress
        self.progress = progress(listing(config, options), options.quiet)
        self.records = Recorder(config, options, self.info, ledger, self.progress, self.stop)

    def execute(self, notices: Sequence[str]) -> RunReport:
        """Do the work and report; a signal ends the preparations at once, and drains the work."""
        check_same_backend(self.ledger, self.fingerprints.masks, self.config)
        self.stages.prepare((lambda line: None) if self.options.quiet else self.progress.say)
        with signals(self.stop):
            return self._executed(notices)

    def _executed(self, notices: Sequence[str]) -> RunReport:
        sweep(self.config.output, self.ledger)
        self.ledger.set_meta("threads", self.resources.threads)
        whole = self.options.limit is None and self.options.only is None
        if whole:
            self.ledger.begin_listing()
        self.ledger.commit()
        self._announce(notices)
        started = time.monotonic()
        reports.write_run(self.config.output, self._about(), None)
        self.records.observe("run_started")
        try:
            self._work()
            self._check_output()
            self._add_up()
            if whole and not self.stop.asked:
                self.ledger.end_listing()
            writers, verify = self.fingerprints.writers, self.options.verify
            artifacts = finish(self.config, self.stages, self.ledger, self.stop, writers, again=verify)
            accounted = self._account()
        except UsageError as error:
            reports.write_run(self.config.output, {**self._about(), "message": str(error)}, None, "not started")
            raise
        finally:
            self.progress.close()
        for warning in self.plan.dataset.warnings:
            self.progress.say(f"warning: {warning}")
        if accounted and not self.options.quiet:
            self.progress.say(accounted)
        report = self._report(time.monotonic() - started, artifacts)
        reports.write_failures(self.config.output, self.ledger)
        self.ledger.set_meta("clean", not self.stop.interrupted)
        self.ledger.commit()
        reports.write_run(self.config.output, self._about(), report)
        self.records.observe("run_finished", report=report)
        return report

    def _check_output(self) -> None:
        """Look at what deaths and deletions left.

        Raises:
            FileNotFoundError: the folder was deleted or moved away under the run.
        """
        output = self.config.output
        if not (output / NAME).exists():
            if output.exists():  # a worker was just writing: what it left has to be known as a run's
                reports.write_run(output, self._about(), None, "cut short")
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(output))
        if self.records.losses or self.stop.now:
            remove_leftovers(output)

    def _announce(self, notices: Sequence[str]) -> None:
        chosen = self.resources
        lines = [*notices, f"{self.config.name}: {chosen}", chosen.warning]
        lines += [f"plugin {path} (sha256 {sha[:12]})" for path, sha in self.config.registry.drop_ins.items()]
        for line in lines:
            if line and not self.options.quiet:
                self.progress.say(line)

    def _work(self) -> None:
        worker = {
            "stages": self.config.worker_data(self.surveys.memories),
            "output": str(self.config.output),
            "max_pixels": self.config.run.max_pixels,
            "model_id": self.model_id,
            "backend_digest": self.stages.backend[1].digest(),
        }
        slots = self.resources.jobs
        lane = self._lane(worker, slots)
        items = self._items() if lane is None else lane.feed(self._items())
        ended = False
        try:
            self.engine.start(worker, slots, self.resources.environment())
            for event in dispatch(self.engine, items, slots, self.config.run.timeout, self.stop):
                if event is not None:
                    self.records.outcome(*event)
                elif lane is not None:
                    lane.pump()
                self.ledger.commit(only_if_due=True)
                self.progress.tick()
            ended = True
        finally:
            self._end_workers(lane, kill=not ended)
            self.ledger.commit()

    def _end_workers(self, lane: Lane | None, kill: bool) -> None:
        """Let them close; a second signal ends them at once."""
        try:
            self.stop.alone = True  # from here on it raises; one that came before is in `now`
            self._end_each(lane, kill or self.stop.now)
        except KeyboardInterrupt:
            self.stop.alone = False
            self._end_each(lane, kill=True)
        self.stop.alone = False

    def _end_each(self, lane: Lane | None, kill: bool) -> None:
        self.engine.stop(kill)
        if lane is not None:
            lane.close(kill)
            self.records.stage_seconds["prompts, ahead"] += lane.seconds["prompts"]

    def _lane(self, worker: dict[str, Any], slots: int) -> Lane | None:
        """The prompt lane, where a source waits on a network and there are processes at all."""
        waiting = [source for _, source in self.stages.prompts if source.waits]
        if not waiting or not self.engine.processes:
            return None
        setup = {**worker, "threads": max(max_concurrent(source) for source in waiting)}
        return Lane(setup, slots, self.config.run.timeout, self.stop, self.records.lost, self.progress.say)

    def _items(self) -> Iterator[QueuedImage | None]:
        for batch in self.plan.batches(self.ledger):
            for ref, row, wanted in batch:
                item = self._item(ref, row, wanted) if wanted else None
                if item is None:
                    self.progress.skip(1)
                else:
                    yield item
            yield None  # lets the driver look at the clock in a long row of finished images

    def _item(self, ref: ImageRef, row: Row | None, wanted: str) -> QueuedImage | None:
        lost = 0 if self.options.retry_failed else self.ledger.lost(ref.key)
        task = {
            "ref": [ref.uri, ref.key],
            "fingerprint": wanted,
            "story": self.story,
            "attempts": row.attempts if row else 0,
            "trace": str(self.config.output / f"{TEMPORARY_PREFIX}{digest(ref.key)}.stack"),
        }
        item = QueuedImage(task, lost)
        if lost >= MAX_TRIES:
            self.records.quarantine(item, "WorkerLost", f"it took its process down {lost} times")
            return None
        if not self.engine.processes:
            self.ledger.set_lost(ref.key, lost + 1)  # its death would be ours: count it before
        return item

    def _add_up(self) -> None:
        """Keep what the stages took, over all runs into this folder."""
        total = Counter(self.ledger.meta("stage_seconds", {}))
        total.update(self.records.stage_seconds)
        self.ledger.set_meta("stage_seconds", {stage: round(seconds, 3) for stage, seconds in total.items()})
        self.ledger.commit()

    def _account(self) -> str:
        """Write `prompts.csv`, unless the run was cut short; a line about it, or ""."""
        if self.stop.asked:
            return ""
        try:
            return update_prompts_csv(self.config, self.surveys, self.ledger, self.records.ran, lambda: self.stop.asked)
        except KeyboardInterrupt:
            return ""
        except (OutputError, PermissionError) as error:  # on Windows: a table program has it open
            self.stop.ask(f"{ACCOUNTS} could not be written: {error}")
            return ""

    def _report(self, seconds: float, artifacts: tuple[Artifact, ...]) -> RunReport:
        outcome: Literal["finished", "interrupted", "stopped"] = "finished"
        if self.stop.asked:
            outcome = "interrupted" if self.stop.interrupted else "stopped"
        return RunReport(
            output=self.config.output,
            outcome=outcome,
            counts=self.ledger.counts(),
            ran=self.records.ran,
            seconds=round(seconds, 3),
            stage_seconds={stage: round(value, 3) for stage, value in sorted(self.records.stage_seconds.items())},
            images_per_second=round(self.records.ran / max(seconds, 1e-9), 3),
            artifacts=artifacts,
            message=self.stop.message,
        )

    def _about(self) -> dict[str, Any]:
        return {
            "name": self.config.name,
            "command": self.options.command,
            "pipeline": self.config.resolved(),
            "fingerprint": {"masks": self.fingerprints.masks, "model": self.model_id},
            "jobs": self.resources.jobs,
            "drop_ins": {str(path): sha256 for path, sha256 in self.config.registry.drop_ins.items()},
            "prompts": self.surveys.about(),
            "versions": environment.versions(),
            "machine": environment.machine(self.resources.threads),
        }
