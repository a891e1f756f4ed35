"""The images that a run works on, drawn one by one from its plan, and how many remain when it is cut short."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator

from ..files import TEMPORARY_PREFIX
from ..output.ledger import Ledger
from ..output.records import MOST_REMAINING
from ..plugins.messages import Task
from ..plugins.stage import digest
from ..wording import count_noun
from .dispatch import QueuedImage
from .plan import DueImage, Plan
from .record import Recorder
from .stop import Stop, Stopped

#: Seconds after which a run that was cut short no longer counts what remains.
SECONDS_TO_COUNT = 3.0


class ImageQueue:
    """Draws the images that are due; the others are counted as skipped.

    Args:
        plan: of the run.
        ledger: of the output folder.
        recorder: quarantines an image that took its process down too often in earlier runs.
        verbose: whether a line for each step is wanted.
        processes: False if images are processed in this process, which a crash would end.
        ready: keys of the images that may be drawn; None for all.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        recorder: Recorder,
        verbose: bool,
        processes: bool,
        ready: Collection[str] | None = None,
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._recorder = recorder
        self._verbose = verbose
        self._processes = processes
        self._ready = ready
        self._planned = (image for batch in plan.batches(ledger) for image in (*batch, None))
        self._drawn = 0

    def draw(self) -> Iterator[QueuedImage | None]:
        """The images for the engine; None after each batch: the driver looks at the clock in a long row of old ones."""
        for planned in self._planned:
            if planned is None:
                yield None
                continue
            if planned.due and self._ready is not None and planned.ref.key not in self._ready:
                continue  # its file may still be written
            self._drawn += planned.due
            if not planned.due:
                self._recorder.skip(planned.work)
            elif image := self._queue(planned):
                yield image

    def count_remaining(self, stop: Stop) -> int:
        """How many images a run that was cut short did not get to; else those without a result beyond its limit."""
        if not stop.requested:
            return self._plan.count_beyond_limit(self._ledger, MOST_REMAINING)
        remaining = self._drawn - self._recorder.ran
        deadline = time.monotonic() + SECONDS_TO_COUNT
        with contextlib.suppress(Stopped, KeyboardInterrupt), stop.interruptible():
            for planned in self._planned:
                remaining += planned is not None and planned.due
                if remaining >= MOST_REMAINING or stop.at_once or time.monotonic() > deadline:
                    break
        return remaining

    def _queue(self, planned: DueImage) -> QueuedImage | None:
        """The image for the engine; None if it is quarantined for its deaths in earlier runs."""
        ref, row, recorder = planned.ref, planned.row, self._recorder
        stack_file = recorder.config.output / f"{TEMPORARY_PREFIX}{digest(ref.key)}.stack"
        lost = 0 if recorder.options.retry_failed else self._ledger.count_losses(ref.key)
        task = Task(
            ref,
            planned.fingerprint,
            self._verbose,
            str(stack_file),
            afresh=planned.afresh,
            careful=lost > 0,
            correction=self._plan.find_decision(ref.key),
        )
        image = QueuedImage(task, row.attempts if row else 0, lost, planned.work)
        if image.is_spent:
            recorder.quarantine(image, "WorkerLost", f"its worker process died {count_noun(lost, 'time')}")
            return None
        if not self._processes:
            self._ledger.record_losses(ref.key, lost + 1)  # if it crashes, so does the driver: count it first
        return image
