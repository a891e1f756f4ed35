"""Executes a run: processes every image that is due, records the outcomes and reports the result.

What has to be done is decided in `plan`, what an outcome means in `record`, when to try again
in `dispatch`; the work itself is done by `chain.chain`, inside the engine.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

from ..config.config import Config
from ..corrections import format_verdicts
from ..dataset.dataset import Dataset
from ..dataset.listing import SharedListing
from ..errors import OutputError, StopRun, UsageError
from ..files import (
    absolute_path,
    gather_temporary_files,
    known_hashes,
    quote_command,
    release_temporary_files,
    write_atomic,
)
from ..images import PACKAGE
from ..output import environment, records
from ..output.entry_store import NAME as ENTRIES, EntryStore
from ..output.folder import claim, clean_up, is_small, remove_leftovers
from ..output.ledger import NAME, Ledger
from ..output.outdated import count_outdated
from ..output.rebuild import rebuild_ledger
from ..plugins.engine import Engine
from ..plugins.messages import RUN_MARK, RunMark, WorkerSetup
from ..plugins.optional import has_entries, max_concurrent
from ..results import Outdated, RunInfo, RunReport
from ..storage import configure, is_address, options_to_json
from ..stored.prune import prune_run
from ..tables import ACCOUNTS
from ..wording import count_noun
from ..work import WORK
from .dispatch import QueuedImage, dispatch
from .dry_run import choose_resources, count_first_images, describe_skipped
from .finish import FinishRequest, finish
from .forecast import require_consent
from .image_queue import ImageQueue
from .plan import Plan, RunRequest, check_same_backend, check_same_shard, listing, stat
from .progress import JsonLog, Progress
from .prompt_lane import Lane
from .prompts_csv import Surveys, update_prompts_csv
from .record import Recorder
from .rounds import Rounds
from .stop import Stop, Stopped, handle_signals
from .tracker import Tracker

#: Images that a warning names.
MOST_NAMED = 5

__all__ = ["RunInfo", "RunRequest", "run"]


def run(config: Config, options: RunRequest, check: Callable[[], Sequence[str]] = tuple) -> RunReport:
    """Run a pipeline over its dataset.

    Args:
        config: the pipeline.
        options: what is asked of this run.
        check: checks the pipeline first; returns lines to show at the start.

    Raises:
        UsageError: what `check` raises; the run cannot start: no images, the output folder is in use or
            belongs to another model, a plugin cannot be opened, a stage wants `yes` first.
        StopRun: the output can no longer be written; a rerun goes on.
    """
    options = replace(options, command=options.command or make_command(config, options))
    configure(config.storage)
    with (
        start_progress(options) as progress,
        SharedListing(Dataset(config.dataset, config.dataset_base)) as listed,
    ):
        progress.describe("checking the pipeline")
        notices = check()
        progress.describe("listing images")
        images = count_first_images(config, options, listed)
        skipped = describe_skipped(listed)
        progress.describe("preparing")
        fetch_results(config, progress)
        rebuilt = "" if options.fresh else rebuild_ledger(config.output)
        surveys = Surveys(config, listed)
        require_consent(config, options, listed)
        with open_output(config, options) as (notice, ledger), open_entries(config) as entries:
            this = RunExecution(config, options, ledger, entries, images, surveys, listed, progress)
            return this.execute([*notices, skipped, *surveys.warnings(), notice, rebuilt])


@contextlib.contextmanager
def open_output(config: Config, options: RunRequest) -> Iterator[tuple[str, Ledger]]:
    """Hold the output of a run; gives a notice for the user, or "", and the ledger.

    Raises:
        OutputInUseError: another run holds it.
        OutputError: it cannot be written, or holds other files.
        StopRun: it could no longer be written in between.
    """
    mirror = config.mirror()
    with (
        claim(config.output, fresh=options.fresh) as notice,
        mirror.claim() if mirror else contextlib.nullcontext(),
        Ledger.create(config.output) as ledger,
    ):
        gather_temporary_files(config.output)
        try:
            yield notice, ledger
        except (sqlite3.Error, OSError) as error:
            raise StopRun(describe_output_error(config, options, error)) from error
        finally:
            release_temporary_files(config.output)


def fetch_results(config: Config, progress: Progress) -> None:
    """Download what other machines stored for an output in object storage, so that the run goes on from it."""
    if (mirror := config.mirror()) is None:
        return
    mirror.prepare()
    if not (config.output / NAME).exists():
        progress.describe("looking for stored results in the bucket")
        mirror.fetch(progress.log)


def start_progress(options: RunRequest) -> Progress:
    """The progress that is asked for; a context manager."""
    return (JsonLog if options.log_json else Progress)(options.quiet)


def describe_output_error(config: Config, options: RunRequest, error: Exception) -> str:
    """Why the output can no longer be written (a full disk, a folder that is gone), and how to go on."""
    text = f"the output '{config.output}' can no longer be written: {error}"
    if not (config.output / NAME).exists():
        text = f"the output '{config.output}' is gone: it was deleted or moved during the run"
    return f"{text}\n  After fixing this, continue with: {options.command}"


def open_entries(config: Config) -> contextlib.AbstractContextManager[EntryStore | None]:
    """The entries of the output folder, None if no writer has any."""
    wanted = any(has_entries(use.stage) for use in config.writers)
    return EntryStore(config.output / ENTRIES) if wanted else contextlib.nullcontext()


def make_command(config: Config, options: RunRequest) -> str:
    """What goes on with a run that was started from Python: the command line, or the same call."""
    if config.file is None:
        return "the same call in Python"
    parts = ["run-pipeline", str(config.file), "-o", str(config.output)]
    entry = config.dataset[0] if len(config.dataset) == 1 else ""
    if entry and (config.dataset_base != config.base or entry != config.document.tree.get("dataset", entry)):
        parts.insert(2, entry if entry.startswith(PACKAGE) or is_address(entry) else str(config.dataset_base / entry))
    if options.only is not None:
        parts += ["--only", options.only]
    if options.limit is not None:
        parts += ["--limit", str(options.limit)]
    if options.shard is not None:
        parts += ["--shard", str(options.shard)]
    return quote_command(parts)


class RunExecution:
    """One run, or one round of a run that watches its dataset; `execute` runs it."""

    def __init__(
        self,
        config: Config,
        options: RunRequest,
        ledger: Ledger,
        entries: EntryStore | None,
        images: int,
        surveys: Surveys,
        listed: SharedListing,
        progress: Progress,
        rounds: Rounds | None = None,
    ) -> None:
        self.rounds = rounds
        self.config = config
        self.listed = listed
        self.surveys = surveys
        self.options = options
        self.ledger = ledger
        self.entries = entries
        self.stages = config.stages()
        self.engine = cast(Engine, config.engine.stage)
        self.stop = Stop() if rounds is None else rounds.stop
        self.progress = progress
        self._prepare()
        self.models = self.stages.model_ids()
        self.fingerprints = config.fingerprints(self.models)
        check_same_backend(ledger, self.fingerprints.masks, config)
        check_same_shard(ledger, options.shard, config)
        ledger.set_meta("masks", self.fingerprints.masks)
        ledger.set_meta("shard", None if options.shard is None else str(options.shard))
        self.plan = Plan(config, options, self.fingerprints, listed)
        self.resources = choose_resources(config, images, ledger.meta("threads"))
        self.info = RunInfo(config.name, config.output, config.resolved(), self.resources.jobs, self.resources.threads)
        self.verbose = options.verbose or (images == 1 and not options.quiet)
        self.mirror = config.mirror()
        self.recorder = Recorder(config, options, self.info, ledger, entries, self.progress, self.stop, self.mirror)
        ready = None if rounds is None else rounds.ready
        self.queue = ImageQueue(self.plan, ledger, self.recorder, self.verbose, self.engine.processes, ready)
        self.running: dict[int, QueuedImage] = {}

    def _prepare(self) -> None:
        """Let the stages fetch what is missing, unless the run would be refused all the same."""
        if self.options.pipeline_text:
            records.check_pipeline(self.config.output)
        models = self.stages.model_ids()
        if models.backend:  # else it is known after a download
            check_same_backend(self.ledger, self.config.fingerprints(models).masks, self.config)
        self.stages.prepare((lambda line: None) if self.options.quiet else self.progress.log)

    def execute(self, notices: Sequence[str]) -> RunReport:
        """Do the work and report; a signal aborts the preparation, and later only stops new images."""
        with handle_signals(self.stop):
            self.progress.answer(self.stop, self._count_running)
            return self._execute(notices)

    def _count_running(self) -> int:
        """How many images are in progress."""
        return 0 if self.engine.is_opening() else len(self.running)

    def _describe_work(self) -> str:
        """What the run is doing, for the progress; "" while images finish."""
        running = self._count_running()
        if self.stop.requested:
            return f"finishing {count_noun(running, 'image')}" if running else "stopping"
        if self.recorder.ran:
            return ""
        if not self.running:
            return "finding images to process"
        return "first image" if running else f"loading {self.stages.backend[0]}"

    def _execute(self, notices: Sequence[str]) -> RunReport:
        clean_up(self.config.output, self.ledger)
        self.ledger.files.adopt()
        self.ledger.set_meta("threads", self.resources.threads)
        ends = self.rounds is None or self.rounds.at_rest
        whole = ends and self.options.limit is None and self.options.only is None
        if whole:
            self.ledger.begin_listing()
        self.ledger.commit()
        is_first = self.rounds is None or self.rounds.is_first
        if is_first:
            self._announce(notices)
        self.progress.count_in_background(listing(self.config, self.options, self.listed))
        if is_first:
            self.progress.begin(self.info, self.options.command, self._count_listed())
        started = time.monotonic()
        records.write_run(self.config.output, self._about(), None)
        if self.options.pipeline_text:
            records.write_pipeline(self.config.output, self.options.pipeline_text)
        if is_first:
            self.recorder.observe("run_started")
        try:
            self._work()
            self._check_output()
            self._add_up()
            if whole and not self.stop.requested:
                self._end_listing()
            told: list[str] = []
            files: Mapping[str, int] = {}
            accounted, outdated, pruned = "", Outdated(), 0
            if ends:
                files = self._finish(told)
                self.progress.describe("stopping" if self.stop.requested else f"writing {ACCOUNTS}")
                accounted = self._account()
                self.progress.describe("stopping" if self.stop.requested else "looking for files of earlier runs")
                outdated, pruned = self._look_back()
        except UsageError as error:
            records.write_run(self.config.output, {**self._about(), "message": str(error)}, None, "not started")
            raise
        finally:
            self.progress.close()
        for warning in self.listed.warnings:
            self.progress.log(f"warning: {warning}")
        self._tell([*told, accounted, format_verdicts(self.plan.count_verdicts())])
        report = self._report(time.monotonic() - started, files)
        report = replace(report, outdated=outdated, pruned=pruned)
        records.write_failures(self.config.output, self.ledger)
        self.ledger.set_meta("clean", not self.stop.interrupted)
        self.ledger.commit()
        if self.rounds is None:
            self.close(report)
        return report

    def close(self, report: RunReport) -> None:
        """Record that the run has ended, and call the observers."""
        records.write_run(self.config.output, self._about(), report)
        if self.mirror is not None:
            known = self.ledger.meta("uploaded") or {}
            self.ledger.set_meta("uploaded", self.mirror.upload_run(self.ledger.files.current(), known))
            self.ledger.commit()
            if not self.options.quiet:
                self.progress.log(f"uploaded to {self.mirror.address}")
        self.recorder.observe("run_finished", report=report)
        self.progress.end(report)

    def _finish(self, told: list[str]) -> Mapping[str, int]:
        """Write the files about the whole dataset; returns their numbers, and adds what the writers tell to `told`."""
        tracker = Tracker(self.stop.check)
        self.progress.describe(lambda: "stopping" if self.stop.requested else tracker.describe())
        return finish(
            FinishRequest(
                self.config,
                self.stages,
                self.ledger,
                self.entries,
                self.stop,
                self.fingerprints.writers,
                self.options.verify,
                told.append,
                tracker,
            )
        )

    def _end_listing(self) -> None:
        """Note that the dataset was listed to its end; tell of decisions about images that are not in it."""
        self.ledger.end_listing()
        if unknown := self.plan.list_unknown_corrections():
            names = ", ".join(unknown[:MOST_NAMED]) + (", ..." if len(unknown) > MOST_NAMED else "")
            many = count_noun(len(unknown), "correction is", "corrections are")
            self.progress.log(f"warning: {many} of images that are not in the dataset: {names}")

    def _count_listed(self) -> int | None:
        """How many images there are, if the dataset is listed to its end already."""
        if not self.listed.is_complete:
            return None
        return sum(1 for _ in listing(self.config, self.options, self.listed))

    def _check_output(self) -> None:
        """Check that the folder is still there, and remove what processes that died left.

        Raises:
            FileNotFoundError: the folder was deleted or moved away during the run.
        """
        output = self.config.output
        if not (output / NAME).exists():
            if output.exists():  # a worker was just writing: its files must be recognisable as a run's
                records.write_run(output, self._about(), None, "cut short")
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(output))
        if self.recorder.deaths or self.stop.at_once:
            remove_leftovers(output, is_small(self.ledger))

    def _announce(self, notices: Sequence[str]) -> None:
        chosen = self.resources
        shard = "" if self.options.shard is None else f", shard {self.options.shard}"
        lines = [*notices, f"{self.config.name}{shard}: {chosen}", chosen.warning]
        lines += [f"plugin {path} (sha256 {sha[:12]})" for path, sha in self.config.registry.drop_ins.items()]
        for line in lines:
            if line and not self.options.quiet:
                self.progress.log(line)

    def _sign_output(self) -> RunMark:
        """Mark the output folder, so that each worker can tell that it sees this one, and the same images."""
        token = self.rounds.token if self.rounds else secrets.token_hex(16)
        write_atomic(self.config.output / RUN_MARK, token.encode())
        images = listing(self.config, self.options, self.listed)
        first = next(images, None) if self.rounds is None else None  # it must not change from round to round
        if first is None or first.is_remote:  # a bucket is the same from everywhere
            return RunMark(token, platform.node())
        return RunMark(token, platform.node(), first, stat(first)[0])

    def _work(self) -> None:
        setup = WorkerSetup(
            self.config.chain_spec(self.surveys.memories),
            str(self.config.output),
            self.config.run.max_pixels,
            (*self.config.run.fail_on, *self.options.fail_on),
            self.models,
            self.stages.backend[1].digest(),
            self.config.images.as_conversion(),
            self.config.run.conflict_iou,
            known_hashes(),
            self._sign_output(),
            options_to_json(self.config.storage),
            self.config.bucket,
            in_lane=self.engine.processes and bool(self.stages.list_ahead()),
        )
        slots = self.resources.jobs
        lane = self._lane(setup, slots)
        images = self.queue.draw() if lane is None else lane.feed(self.queue.draw())
        ended = False
        try:
            environment = self.resources.environment()
            if self.rounds is None:
                self.engine.start(setup, slots, environment)
            else:
                self.rounds.start(self.engine, setup, slots, environment, self.surveys.state())
            self.progress.describe(self._describe_work)
            for event in dispatch(self.engine, images, self.config.run.timeout, self.stop, self.running):
                if event is not None:
                    self.recorder.record(*event)
                elif lane is not None:
                    lane.pump()
                for warning in self.engine.take_warnings():
                    self.progress.log(f"warning: {warning}")
                self.ledger.commit(only_if_due=True)
            ended = True
        finally:
            self._end_workers(lane, kill=not ended)
            (self.config.output / RUN_MARK).unlink(missing_ok=True)
            self.ledger.commit()

    def _end_workers(self, lane: Lane | None, kill: bool) -> None:
        """Let the workers and the lane close; a second signal ends them at once."""
        try:
            with self.stop.interruptible():  # a second signal that came before is in `at_once`
                self._end_each(lane, kill or self.stop.at_once)
        except (Stopped, KeyboardInterrupt):
            self._end_each(lane, kill=True)

    def _end_each(self, lane: Lane | None, kill: bool) -> None:
        kill = kill or (self.stop.interrupted and self.engine.is_opening())  # then no image has begun
        if self.rounds is None:
            self.engine.stop(kill)
        elif kill or self.stop.requested:
            self.rounds.end(kill)
        if lane is not None:
            lane.close(kill)
            self.recorder.stage_seconds["prompts, ahead"] += lane.seconds["prompts"]

    def _lane(self, setup: WorkerSetup, slots: int) -> Lane | None:
        """The prompt lane, if a source waits on a network and the engine has processes at all."""
        if not setup.in_lane:
            return None
        waiting = [source for _, source in self.stages.list_reachable() if source.waits]
        threads = max(max_concurrent(source) for source in waiting)
        timeout, log = self.config.run.timeout, self.progress.log
        return Lane(setup, threads, self.engine.slots, timeout, self.stop, self.recorder.record_death, log)

    def _add_up(self) -> None:
        """Add the stage times of this run to the totals of the folder."""
        total = Counter(self.ledger.meta("stage_seconds", {}))
        total.update(self.recorder.stage_seconds)
        self.ledger.set_meta("stage_seconds", {stage: round(seconds, 3) for stage, seconds in total.items()})
        self.ledger.commit()

    def _tell(self, lines: Sequence[str]) -> None:
        """Show the lines that are not empty, unless the run is quiet."""
        for line in filter(None, () if self.options.quiet else lines):
            self.progress.log(line)

    def _account(self) -> str:
        """Write `prompts.csv`, unless the run was cut short; a line about it, or ""."""
        if self.stop.requested:
            return ""
        try:
            with self.stop.interruptible():
                ran, shard = self.recorder.ran, self.options.shard
                return update_prompts_csv(
                    self.config, self.surveys, self.ledger, ran, lambda: self.stop.requested, shard
                )
        except (Stopped, KeyboardInterrupt):
            return ""
        except (OutputError, PermissionError) as error:  # on Windows: a table program has it open
            self.stop.request(f"{ACCOUNTS} could not be written: {error}")
            return ""

    def _look_back(self) -> tuple[Outdated, int]:
        """Count the outdated files of earlier runs, or remove them; returns what there is now, and how many went."""
        if self.stop.requested:
            return Outdated(), 0
        output, pruned = self.config.output, 0
        try:
            with self.stop.interruptible():
                if self.options.prune:
                    pruned = prune_run(output, self.ledger, self.progress.log).files
                return count_outdated(output, self.ledger, again=self.recorder.ran > 0), pruned
        except (Stopped, KeyboardInterrupt):
            return Outdated(), pruned

    def _report(self, seconds: float, files: Mapping[str, int]) -> RunReport:
        outcome: Literal["finished", "interrupted", "stopped"] = "finished"
        if self.stop.requested:
            outcome = "interrupted" if self.stop.interrupted else "stopped"
        doubtful, doubts = self.ledger.doubt_counts()
        run_doubts = self.surveys.doubts()
        fail_on = {*self.config.run.fail_on, *self.options.fail_on}
        return RunReport(
            output=self.config.output,
            outcome=outcome,
            counts=self.ledger.counts(),
            ran=self.recorder.ran,
            seconds=round(seconds, 3),
            stage_seconds={stage: round(value, 3) for stage, value in sorted(self.recorder.stage_seconds.items())},
            images_per_second=round(self.recorder.ran / max(seconds, 1e-9), 3),
            files=files,
            message=self.stop.reason,
            doubtful=doubtful,
            doubts=doubts,
            left_out=dict(self.listed.left_out),
            remaining=self.queue.count_remaining(self.stop),
            warnings=tuple(self.surveys.warnings()),
            run_doubts=run_doubts,
            refused_doubts=tuple(code for code in run_doubts if code in fail_on),
            work={work: self.recorder.work[work] for work in WORK if self.recorder.work[work]},
        )

    def _about(self) -> dict[str, Any]:
        return {
            "name": self.config.name,
            "command": self.options.command,
            "file": str(absolute_path(self.config.file)) if self.config.file else None,
            **({"shard": str(shard)} if (shard := self.options.shard) else {}),
            "pipeline": self.config.resolved(),
            "fingerprint": {"masks": self.fingerprints.masks, "model": self.models.backend},
            "jobs": self.resources.jobs,
            "drop_ins": {str(path): sha256 for path, sha256 in self.config.registry.drop_ins.items()},
            "prompts": self.surveys.about(),
            "versions": environment.read_versions(),
            "machine": environment.describe_machine(self.resources.threads),
            **({"hosts": hosts} if (hosts := self.engine.hosts()) else {}),
        }
