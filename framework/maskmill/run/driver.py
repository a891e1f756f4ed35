"""A run: every image of the dataset brought to its status, recorded, reported.

The driver decides what has to be done (`_Run._item`), what a lost worker means
(`_Run._lost`), and when to stop; the work itself happens in `chain.py`, inside the engine.
"""

from __future__ import annotations

import fnmatch
import itertools
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..chain import replace_result
from ..datasets import Dataset
from ..errors import DatasetError, ImageReadError, PluginError
from ..images import ImageRef
from ..results import Artifact, Failure, ImageResult, RunReport, Status, load_result
from ..stages import digest
from ..steps import without_addresses
from . import report as reports
from .dispatch import MAX_TRIES, Item, Stop, dispatch, lost_reason, signals
from .engine import Engine, Lost, NotOpened
from .lane import Lane
from .ledger import Ledger, Row
from .output import check_same_backend, claim, sweep
from .progress import Progress
from .resources import Resources, share_out

if TYPE_CHECKING:
    from ..config import Config

BATCH = 256
#: `max_failures` in percent is judged from this many finished images on.
ENOUGH_TO_JUDGE = 100


@dataclass(frozen=True)
class RunOptions:
    """What a user asks of one run, beside the pipeline file.

    Attributes:
        limit: only the first so many images of the dataset; None for all.
        only: only images whose key matches this pattern (`fnmatch`); None for all.
        fresh: move an existing run aside and start over.
        retry_failed: try failed and quarantined images again.
        verify: compare the files' sha256, not only size and time, and look for missing outputs.
        verbose: tell the story of each image.
        quiet: show nothing but errors.
        command: what to repeat to go on, for the summary.
        dry_run: say what would be done, and do nothing.
    """

    limit: int | None = None
    only: str | None = None
    fresh: bool = False
    retry_failed: bool = False
    verify: bool = False
    verbose: bool = False
    quiet: bool = False
    command: str = "run-pipeline"
    dry_run: bool = False


@dataclass(frozen=True)
class RunInfo:
    """What observers (hooks `run_started`, `image_finished`, `run_finished`) see of a run.

    Attributes:
        name: the pipeline's name.
        output: the output folder.
        options: the resolved pipeline, secrets masked.
        jobs: number of workers.
        threads: threads per worker.
    """

    name: str
    output: Path
    options: dict[str, Any] = field(repr=False)
    jobs: int = 1
    threads: int = 1


def run(config: Config, options: RunOptions) -> RunReport:
    """Run a checked pipeline over its dataset.

    Raises:
        UsageError: the run cannot start: no images, the output folder is in use or
            belongs to another model, a plugin cannot be opened.
    """
    first = list(itertools.islice(_refs(Dataset(config.dataset, config.dataset_base), options), 64))
    if not first:
        where = ", ".join(config.dataset) + (f" matching {options.only!r}" if options.only else "")
        raise DatasetError(f"there are no images in {where}")
    if options.dry_run:
        return _Run(config, options, None, len(first)).rehearse()
    with claim(config.output, fresh=options.fresh) as notice, Ledger.create(config.output) as ledger:
        return _Run(config, options, ledger, len(first)).execute(notice)


def _refs(dataset: Dataset, options: RunOptions) -> Iterator[ImageRef]:
    refs: Iterable[ImageRef] = dataset
    if options.only is not None:
        pattern = options.only
        refs = (ref for ref in refs if fnmatch.fnmatchcase(ref.key, pattern))
    return itertools.islice(refs, options.limit)


class _Run:
    """One run; `execute` is its life."""

    def __init__(self, config: Config, options: RunOptions, ledger: Ledger | None, at_least: int) -> None:
        self.config = config
        self.options = options
        self.at_least = at_least
        self.dataset = Dataset(config.dataset, config.dataset_base)
        self.stop = Stop()
        self.ran = 0
        self.failures = 0
        self.stage_seconds: Counter[str] = Counter()
        self.tally: Counter[str] = Counter()
        self.model_id = config.backend.stage.model_id()  # type: ignore[attr-defined]
        self.fingerprints = config.fingerprints(self.model_id)
        self.story = options.verbose or (at_least == 1 and not options.quiet)
        if ledger is not None:
            self.ledger = ledger
            self.resources = self._resources(ledger.meta("threads"))
            self.info = RunInfo(
                config.name, config.output, config.resolved(), self.resources.jobs, self.resources.threads
            )

    def _resources(self, kept_threads: int | None) -> Resources:
        wanted = self.config.run
        small = self.at_least if self.at_least < 64 else None
        need = self.config.backend.stage.memory_per_worker()  # type: ignore[attr-defined]
        if not self.config.engine.stage.processes:  # type: ignore[attr-defined]
            return share_out(1, wanted.threads, need, kept_threads)
        return share_out(wanted.jobs, wanted.threads, need, kept_threads, small)

    # ---- the life of a run

    def execute(self, notice: str) -> RunReport:
        """Do the work and report."""
        check_same_backend(self.ledger, self.fingerprints.masks, self.config)
        sweep(self.config.output, self.ledger)
        self.ledger.set_meta("threads", self.resources.threads)
        whole = self.options.limit is None and self.options.only is None
        if whole:
            self.ledger.begin_listing()
        self.ledger.commit()
        listing = Dataset(self.config.dataset, self.config.dataset_base)
        self.progress = Progress(_refs(listing, self.options), self.options.quiet)
        for line in (notice, self._choice(), self.resources.warning):
            if line and not self.options.quiet:
                self.progress.say(line)
        started = time.monotonic()
        reports.write_run(self.config.output, self._about(), None)
        self._observe("run_started")
        self.scratch = Path(tempfile.mkdtemp(prefix="maskmill-"))
        try:
            with signals(self.stop):
                self._work()
            if whole and not self.stop.asked:
                self.ledger.end_listing()
            artifacts = self._finish()
        finally:
            self.progress.close()
            shutil.rmtree(self.scratch, ignore_errors=True)
        for warning in self.dataset.warnings:
            self.progress.say(f"warning: {warning}")
        report = self._report(time.monotonic() - started, artifacts)
        reports.write_failures(self.config.output, self.ledger)
        self.ledger.set_meta("clean", not self.stop.now)
        self.ledger.commit()
        reports.write_run(self.config.output, self._about(), report)
        self._observe("run_finished", report=report)
        return report

    def rehearse(self) -> RunReport:
        """Count what a run would do."""
        counts: Counter[str] = Counter()
        ledger = None
        if (self.config.output / "ledger.sqlite").exists():
            ledger = Ledger.open_existing(self.config.output)
        for batch in _batches(_refs(self.dataset, self.options), BATCH):
            known = ledger.known([ref.key for ref in batch], listed=False) if ledger else {}
            for ref in batch:
                row = known.get(ref.key)
                counts["to do" if self._due(ref, row) else row.status if row else "to do"] += 1
        if ledger is not None:
            ledger.close()
        message = f"dry run: {counts['to do']} images to do, {sum(counts.values()) - counts['to do']} there already"
        return RunReport(self.config.output, "finished", {}, 0, 0.0, {}, 0.0, message=message)

    def _work(self) -> None:
        engine = self.config.engine.stage
        assert isinstance(engine, Engine)
        worker = {
            "stages": self.config.worker_data(),
            "output": str(self.config.output),
            "max_pixels": self.config.run.max_pixels,
            "model_id": self.model_id,
        }
        slots = self.resources.jobs
        lane = self._lane(worker, slots) if engine.processes else None
        items = self._plan() if lane is None else lane.feed(self._plan())
        ended = False
        try:
            engine.start(worker, slots, self.resources.environment())
            for event in dispatch(engine, items, slots, self.config.run.timeout, self.stop):
                if event is not None:
                    self._record(*event)
                elif lane is not None:
                    lane.pump()
                self.ledger.commit(only_if_due=True)
                self.progress.tick()
            ended = True
        finally:
            engine.stop(kill=not ended or self.stop.now)
            if lane is not None:
                lane.close(kill=not ended or self.stop.now)
                self.stage_seconds["prompts, ahead"] += lane.seconds["prompts"]
            self.ledger.commit()

    def _lane(self, worker: dict[str, Any], slots: int) -> Lane | None:
        """The prompt lane, where a source waits on a network."""
        waiting = [source for _, source in self.config.stages().prompts if source.waits]
        if not waiting:
            return None
        setup = {**worker, "threads": max(source.at_once() for source in waiting)}
        return Lane(setup, slots, self.config.run.timeout, self.stop, self._lost, self.progress.say)

    # ---- what has to be done

    def _plan(self) -> Iterator[Item | None]:
        for batch in _batches(_refs(self.dataset, self.options), BATCH):
            known = self.ledger.known([ref.key for ref in batch])
            for ref in batch:
                item = self._item(ref, known.get(ref.key))
                if item is None:
                    self.progress.skip(1)
                else:
                    yield item
            yield None  # lets the driver look at the clock in a long row of finished images

    def _due(self, ref: ImageRef, row: Row | None) -> str:
        """The fingerprint that the image's result needs, "" if its result is up to date."""
        wanted = str(self.fingerprints.of(ref))
        if row is None or self.options.verify or wanted != row.fingerprint:
            return wanted
        if self.options.retry_failed and row.status in ("failed", "quarantined"):
            return wanted
        return "" if _stat(ref) == (row.bytes, row.mtime) else wanted

    def _item(self, ref: ImageRef, row: Row | None) -> Item | None:
        wanted = self._due(ref, row)
        if not wanted:
            return None
        lost = 0 if self.options.retry_failed else self.ledger.lost(ref.key)
        task = {
            "ref": [ref.uri, ref.key],
            "fingerprint": wanted,
            "story": self.story,
            "attempts": row.attempts if row else 0,
            "trace": str(self.scratch / digest(ref.key)),
        }
        item = Item(task, lost)
        if lost >= MAX_TRIES:
            self._quarantine(item, "WorkerLost", f"it took its process down {lost} times")
            return None
        if not self.config.engine.stage.processes:  # type: ignore[attr-defined]
            self.ledger.set_lost(ref.key, lost + 1)  # its death would be ours: count it before
        return item

    # ---- what came of it

    def _record(self, item: Item, outcome: dict[str, Any] | Lost | NotOpened) -> None:
        if isinstance(outcome, NotOpened):
            if self.options.verbose and outcome.traceback:
                self.progress.say(outcome.traceback)
            raise PluginError(outcome.reason)
        if isinstance(outcome, Lost):
            self._lost(item, outcome)
            return
        for line in outcome["lines"]:
            self.progress.say(line)
        if "stop" in outcome:
            self.stop.ask(outcome["stop"])
            return
        self.stage_seconds.update(outcome["seconds"])
        seconds = sum(outcome["seconds"].values())
        self._enter(item, outcome["status"], outcome["bytes"], outcome["mtime"], seconds)
        failure = outcome["failure"]
        if failure is not None and not self.story and not self.options.quiet:
            self.progress.say(f"{item.task['ref'][1]}: failed at {failure['stage']}: {failure['message']}")

    def _lost(self, item: Item, lost: Lost) -> None:
        """A process died with this image in it; the third time it is put aside."""
        key = item.task["ref"][1]
        self.ledger.set_lost(key, item.lost)
        trace = Path(item.task["trace"])
        stack = trace.read_text(encoding="utf-8", errors="replace") if trace.exists() else ""
        trace.unlink(missing_ok=True)
        kind, message = lost_reason(lost, stack, self.config.run.timeout)
        if item.lost >= MAX_TRIES:
            self._quarantine(item, kind, message, stack)
        elif not self.options.quiet:
            self.progress.say(f"{key}: try {item.lost} of {MAX_TRIES} ended: {lost.reason or kind}")

    def _quarantine(self, item: Item, kind: str, message: str, stack: str = "") -> None:
        ref = ImageRef(*item.task["ref"])
        provenance = {"fingerprint": item.task["fingerprint"], "model": self.model_id}
        failure = Failure("worker", "", kind, message, without_addresses(stack))
        result = ImageResult(ref.key, "quarantined", provenance=provenance, failure=failure)
        replace_result(self.config.output, load_result(self.config.output, ref.key), result)
        self._enter(item, "quarantined", *_stat(ref), 0.0)
        if not self.options.quiet:
            self.progress.say(f"{ref.key}: quarantined: {message}")

    def _enter(self, item: Item, status: Status, size: int, mtime: int, seconds: float) -> None:
        """Into the ledger, the progress, the observers; and stop if too many failed."""
        key = item.task["ref"][1]
        attempts = item.task["attempts"] + item.lost + (status != "quarantined")
        if self.ran == 0:
            self.ledger.set_meta("finished", None)
        self.ledger.record(
            Row(key, status, item.task["fingerprint"], size, mtime, attempts, round(seconds, 3), self.ledger.listing)
        )
        self.ran += 1
        self.failures += status in ("failed", "quarantined")
        self.progress.step(status)
        if self.config.registry.manager.hook.image_finished.get_hookimpls():
            self._observe("image_finished", result=load_result(self.config.output, key))
        if self._too_many():
            self.stop.ask(f"{self.failures} of {self.ran} images failed (max_failures: {self.config.run.max_failures})")

    def _too_many(self) -> bool:
        limit = self.config.run.max_failures
        if limit is None or not self.failures:
            return False
        if isinstance(limit, int):
            return self.failures > limit
        return self.ran >= ENOUGH_TO_JUDGE and self.failures > self.ran * float(limit.rstrip("% ")) / 100

    # ---- the end

    def _finish(self) -> tuple[Artifact, ...]:
        """The files about the whole dataset, unless the run was cut short or nothing changed."""
        if self.stop.asked:
            return ()
        writers = [(use.name, folder, use.stage.digest()) for use, folder in self.config.writer_folders()]
        state = digest([writers, self.ledger.counts()])
        finished = self.ledger.meta("finished")
        if finished is not None and finished["state"] == state and not self.options.verify:
            return tuple(Artifact(**values) for values in finished["artifacts"])
        artifacts: list[Artifact] = []
        for use, folder in self.config.writer_folders():
            results = (self.ledger.result(row) for row in self.ledger.rows(("done", "empty")))
            try:
                use.stage.open()
                made = use.stage.finish(results, self.config.output / folder)  # type: ignore[attr-defined]
                use.stage.close()
            except Exception as error:
                self.stop.ask(f"the writer {use.name!r} could not finish: {type(error).__name__}: {error}")
                return tuple(artifacts)
            artifacts += [Artifact(f"{folder}/{item.path}", item.sha256, item.bytes) for item in made]
        self.ledger.set_meta("finished", {"state": state, "artifacts": [asdict(item) for item in artifacts]})
        self.ledger.commit()
        return tuple(artifacts)

    def _report(self, seconds: float, artifacts: tuple[Artifact, ...]) -> RunReport:
        outcome: Literal["finished", "interrupted", "stopped"] = "finished"
        if self.stop.asked:
            outcome = "interrupted" if self.stop.interrupted else "stopped"
        return RunReport(
            output=self.config.output,
            outcome=outcome,
            counts=self.ledger.counts(),
            ran=self.ran,
            seconds=round(seconds, 3),
            stage_seconds={stage: round(value, 3) for stage, value in sorted(self.stage_seconds.items())},
            images_per_second=round(self.ran / max(seconds, 1e-9), 3),
            artifacts=artifacts,
            message=self.stop.message,
        )

    def _about(self) -> dict[str, Any]:
        return {
            "name": self.config.name,
            "pipeline": self.config.resolved(),
            "fingerprint": {"masks": self.fingerprints.masks, "model": self.model_id},
            "jobs": self.resources.jobs,
            "drop_ins": {str(path): sha256 for path, sha256 in self.config.registry.drop_ins.items()},
            "versions": reports.versions(),
            "machine": reports.machine(self.resources.threads),
        }

    def _choice(self) -> str:
        chosen = self.resources
        jobs = f"{chosen.jobs} worker{'s' if chosen.jobs > 1 else ''} × {chosen.threads} threads ({chosen.why})"
        loaded = "".join(f"\nplugin {path} (sha256 {sha[:12]})" for path, sha in self.config.registry.drop_ins.items())
        return f"{self.config.name}: {jobs}{loaded}"

    def _observe(self, hook: str, **values: Any) -> None:
        """Tell the observers; one that fails is named, and the run goes on."""
        for implementation in getattr(self.config.registry.manager.hook, hook).get_hookimpls():
            given = {"run": self.info, **values}
            try:
                implementation.function(**{name: given[name] for name in implementation.argnames})
            except Exception as error:
                self.progress.say(f"{implementation.plugin_name}: {hook} raised {type(error).__name__}: {error}")


def _stat(ref: ImageRef) -> tuple[int, int]:
    try:
        return ref.stat()
    except (OSError, ImageReadError):
        return -1, -1


def _batches(refs: Iterator[ImageRef], size: int) -> Iterator[list[ImageRef]]:
    while batch := list(itertools.islice(refs, size)):
        yield batch
