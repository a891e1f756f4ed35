"""A run that does not end: it looks for new and changed images, and processes them in rounds.

The dataset is polled, which works on network drives, too. An image is due as in any run; it is processed
once its size and time were the same in two looks, so that files that are still being written are left alone.
When nothing has come for a while, the files about the whole dataset are made anew.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..config.config import Config
from ..dataset.dataset import Dataset
from ..dataset.listing import SharedListing
from ..errors import DatasetError, UsageError
from ..output.ledger import Ledger
from ..output.rebuild import rebuild_ledger
from ..output.records import list_counts
from ..results import RunReport
from ..storage import configure
from ..wording import count_noun
from ..work import NO_WORK, Work
from .context import RunContext, RunParts
from .driver import make_command, open_entries, open_output, start_progress
from .dry_run import FIRST
from .execution import RunExecution
from .forecast import require_consent
from .plan import Plan, RunRequest, stat
from .prompts_csv import Surveys
from .rounds import Rounds
from .stop import Stop, handle_signals

#: Seconds between two looks at the dataset, at least; a look that takes longer is followed by a pause LAZINESS as long.
PAUSE = 2.0
LAZINESS = 10
#: Seconds without an image to process after which the files about the whole dataset are made.
REST = 5.0
#: Images that one round processes at most, so that memory does not grow with the dataset.
MOST = 100_000


def watch(config: Config, options: RunRequest, check: Callable[[], Sequence[str]] = tuple) -> RunReport:
    """Run a pipeline over its dataset and over what is added to it, until a signal ends it.

    Args:
        config: the pipeline.
        options: what is asked of the run.
        check: checks the pipeline first; returns lines to show at the start.

    Returns:
        The report of all rounds. Its outcome is "finished" if it was ended by one signal.

    Raises:
        UsageError: the run cannot start.
        StopRun: the output can no longer be written; a rerun goes on.
    """
    options = replace(options, command=options.command or make_command(config, options))
    configure(config.storage)
    notices = check()
    rebuilt = "" if options.fresh else rebuild_ledger(config.output)
    with open_output(config, options) as (notice, ledger):
        this = Watch(config, replace(options, fresh=False), ledger, [*notices, notice, rebuilt])
        try:
            with handle_signals(this.rounds.stop):
                this.work()
            return this.finish()
        finally:
            this.rounds.end(kill=this.rounds.stop.at_once)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the dataset found.

    Attributes:
        images: how many there are.
        known: how many of them have a result.
        due: size and time of the images to process, by key; of at most MOST.
    """

    images: int
    known: int
    due: Mapping[str, tuple[int, int]]


class Watch:
    """The rounds; `work` goes on until a stop is requested, `finish` makes the last one."""

    def __init__(self, config: Config, options: RunRequest, ledger: Ledger, notices: Sequence[str]) -> None:
        self.rounds = Rounds()
        self._config = config
        self._options = options
        self._ledger = ledger
        self._notices = notices
        self._models = config.stages().model_ids()
        self._due: Mapping[str, tuple[int, int]] = {}
        self._problem = ""
        self._ran, self._seconds = 0, 0.0
        self._stage_seconds: Counter[str] = Counter()
        self._work: Counter[Work] = Counter()
        self._last: tuple[RunExecution, RunReport] | None = None

    def work(self) -> None:
        """Look, process what is complete, rest; until a stop is requested."""
        stop = self.rounds.stop
        unfinished, busy_at = True, time.monotonic()
        while not stop.requested:
            began = time.monotonic()
            ready, look = self.look()
            if ready:
                self._round(ready)
                unfinished, busy_at = True, time.monotonic()
            elif look is not None and look.images:
                unfinished = unfinished or self._is_smaller(look)
                if unfinished and time.monotonic() - busy_at >= REST:
                    self._round(frozenset(), at_rest=True)
                    unfinished = False
                    self._say(f"{list_counts(self._ledger.counts())}; waiting for new images, Ctrl-C ends")
            spent = 0.0 if ready else time.monotonic() - began
            stop.wait(max(PAUSE, LAZINESS * spent))

    def finish(self) -> RunReport:
        """Bring the files about the whole dataset up to date, and report on all rounds.

        A run that a signal ended has finished; a second signal interrupts it.
        """
        first = self.rounds.stop
        if first.interrupted and not first.at_once:
            self.rounds.stop = Stop()
            with handle_signals(self.rounds.stop):
                _, look = self.look()
                if look is not None:
                    self._round(frozenset(), at_rest=True)
                if look is not None and look.due:
                    self._say(f"{count_noun(len(look.due), 'image')} not processed; to go on: {self._options.command}")
        if self._last is None:
            raise DatasetError(f"no image was processed: {self._problem or 'there was none'}")
        execution, report = self._last
        report = replace(
            report,
            ran=self._ran,
            seconds=round(self._seconds, 3),
            stage_seconds=dict(sorted(self._stage_seconds.items())),
            work=dict(self._work),
            images_per_second=round(self._ran / max(self._seconds, 1e-9), 3),
        )
        execution.close(report)
        return report

    def look(self) -> tuple[frozenset[str], Look | None]:
        """The keys of the images that are complete, and what there is; None if the dataset cannot be listed now."""
        try:
            look = self._list()
        except (UsageError, OSError) as error:
            return self._wait_for(str(error))
        if not look.images and any(self._ledger.counts().values()):  # a network drive that is gone looks empty
            return self._wait_for(f"there are no images in {', '.join(self._config.dataset)}")
        self._problem = ""
        ready = frozenset(key for key, state in look.due.items() if state[0] != 0 and self._due.get(key) == state)
        self._due = look.due
        return ready, look

    def _wait_for(self, problem: str) -> tuple[frozenset[str], None]:
        if problem != self._problem:
            self._say(f"{problem}\n  waiting until this is over")
        self._problem = problem
        return frozenset(), None

    def _list(self) -> Look:
        config = self._renew_sources()
        with SharedListing(Dataset(config.dataset, config.dataset_base)) as listed:
            Surveys(config, listed)
            if not self._models.backend:  # known after the first round has downloaded it
                self._models = config.stages().model_ids()
            plan = Plan(config, self._options, config.fingerprints(self._models), listed)
            images = known = 0
            due: dict[str, tuple[int, int]] = {}
            for batch in plan.batches(self._ledger, listed=False):
                for image in batch:
                    images += 1
                    known += 1 if image.row is not None else 0
                    if image.due and len(due) < MOST:
                        due[image.ref.key] = stat(image.ref)
                if self.rounds.stop.requested:
                    break
        return Look(images, known, due)

    def _renew_sources(self) -> Config:
        """The pipeline with new prompt sources, which read again what may have changed."""
        gc.collect()  # the files of the sources before, some of which refer to themselves
        uses = (replace(use, stage=type(use.stage).from_options(use.options, use.base)) for use in self._config.prompts)
        return replace(self._config, prompts=tuple(uses))

    def _is_smaller(self, look: Look) -> bool:
        """Whether images with results are gone from the dataset."""
        return self._options.only is None and look.known < sum(self._ledger.counts().values())

    def _round(self, ready: frozenset[str], at_rest: bool = False) -> None:
        """Process these images, or make the files about the whole dataset."""
        config, rounds, options = self._renew_sources(), self.rounds, self._options
        rounds.ready, rounds.at_rest = ready, at_rest
        with (
            start_progress(options) as progress,
            SharedListing(Dataset(config.dataset, config.dataset_base)) as listed,
            open_entries(config) as entries,
        ):
            surveys = Surveys(config, listed)
            if ready:
                require_consent(config, options, listed)
            parts = RunParts(config, options, self._ledger, entries, surveys, listed, progress, rounds)
            execution = RunExecution(RunContext(parts, FIRST))
            report = execution.execute([*self._notices, *surveys.warnings()] if rounds.is_first else [])
        rounds.is_first = False
        if ready:  # what was asked for once has been done
            self._options = replace(options, retry_failed=False, retry_doubtful=(), verify=False)
        self._ran += report.ran
        self._seconds += report.seconds
        self._stage_seconds.update(report.stage_seconds)
        self._work.update({work: count for work, count in report.work.items() if work not in NO_WORK})
        self._last = execution, report

    def _say(self, line: str) -> None:
        if not self._options.quiet and self._last is not None:
            self._last[0].run.progress.log(line)
