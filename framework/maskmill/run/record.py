"""What came of each image: into the ledger, the progress, the observers; and whether to stop."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ..chain.plugin_call import without_addresses
from ..config.config import Config
from ..errors import PluginError
from ..images import ImageRef
from ..output.ledger import Ledger
from ..output.store import load_result, replace_result
from ..plugins.engine import MAX_OPENINGS, OpenFailure, WorkerDied
from ..results import Failure, ImageResult, Row, RunInfo, Status
from .dispatch import MAX_TRIES, QueuedImage, SlotGivenUp, Stop, lost_reason, with_hint
from .plan import RunRequest, stat
from .progress import Progress

#: `max_failures` in percent is judged from this many finished images on.
ENOUGH_TO_JUDGE = 100


class Recorder:
    """Turns outcomes into records.

    Args:
        config: the pipeline.
        options: of this run.
        info: what observers see.
        ledger: of the output folder.
        progress: shows how it goes.
        stop: asked when a plugin says so or too many images failed.

    Attributes:
        ran: images that this run finished.
        losses: processes that died.
        stage_seconds: summed over them, by stage.
    """

    def __init__(
        self, config: Config, options: RunRequest, info: RunInfo, ledger: Ledger, progress: Progress, stop: Stop
    ) -> None:
        self.config = config
        self.options = options
        self.info = info
        self.ledger = ledger
        self.progress = progress
        self.stop = stop
        self.ran = 0
        self.failures = 0
        self.losses = 0
        self.stage_seconds: Counter[str] = Counter()

    def outcome(self, item: QueuedImage, outcome: dict[str, Any] | WorkerDied | OpenFailure | SlotGivenUp) -> None:
        """An image ended, one way or another.

        Raises:
            PluginError: the chain could not be opened.
        """
        if isinstance(outcome, OpenFailure):
            self._unblame(item)
            if self.stop.asked:
                return
            if self.options.verbose and outcome.traceback:
                self.progress.say(outcome.traceback)
            raise PluginError(_died(outcome.reason) if outcome.died else outcome.reason)
        if isinstance(outcome, SlotGivenUp):
            workers = f"{outcome.slots} worker{'s' if outcome.slots > 1 else ''}"
            self.progress.say(f"warning: {_died(outcome.reason)}; the run goes on with {workers}")
            return
        if isinstance(outcome, WorkerDied):
            self.lost(item, outcome)
            return
        for line in outcome["lines"]:
            self.progress.say(line)
        if "stop" in outcome:
            self._unblame(item)
            self.stop.ask(outcome["stop"])
            return
        self.stage_seconds.update(outcome["seconds"])
        seconds = sum(outcome["seconds"].values())
        self._enter(item, outcome["status"], outcome["bytes"], outcome["mtime"], seconds)
        failure = outcome["failure"]
        if failure is not None and not item.task["story"] and not self.options.quiet:
            self.progress.say(f"{item.task['ref'][1]}: failed at {failure['stage']}: {failure['message']}")

    def _unblame(self, item: QueuedImage) -> None:
        """Without worker processes an image counts as lost while it is in work; this one is not to blame."""
        self.ledger.set_lost(item.task["ref"][1], item.lost)

    def lost(self, item: QueuedImage, lost: WorkerDied) -> None:
        """A process died with this image in it; the third time it is put aside."""
        self.losses += 1
        key = item.task["ref"][1]
        self.ledger.set_lost(key, item.lost)
        trace = Path(item.task["trace"])
        stack = trace.read_text(encoding="utf-8", errors="replace") if trace.exists() else ""
        trace.unlink(missing_ok=True)
        kind, message = lost_reason(lost, stack, self.config.run.timeout)
        if item.lost >= MAX_TRIES:
            self.quarantine(item, kind, message, stack)
        elif not self.options.quiet:
            why = f"took longer than {self.config.run.timeout:g} s" if kind == "Timeout" else lost.reason or kind
            self.progress.say(f"{key}: try {item.lost} of {MAX_TRIES} ended: {why}")

    def quarantine(self, item: QueuedImage, kind: str, message: str, stack: str = "") -> None:
        """Put an image aside that took its process down."""
        ref = ImageRef(*item.task["ref"])
        provenance = {"fingerprint": item.task["fingerprint"]}
        failure = Failure("worker", "", kind, message, without_addresses(stack))
        result = ImageResult(ref.key, "quarantined", provenance=provenance, failure=failure)
        replace_result(self.config.output, load_result(self.config.output, ref.key), result)
        self._enter(item, "quarantined", *stat(ref), 0.0)
        if not self.options.quiet:
            self.progress.say(f"{ref.key}: quarantined: {message}")

    def _enter(self, item: QueuedImage, status: Status, size: int, mtime: int, seconds: float) -> None:
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
        self.progress.step(status, key, seconds)
        if self.config.registry.manager.hook.image_finished.get_hookimpls():
            self.observe("image_finished", result=load_result(self.config.output, key))
        if self._too_many():
            self.stop.ask(f"{self.failures} of {self.ran} images failed (max_failures: {self.config.run.max_failures})")

    def _too_many(self) -> bool:
        limit = self.config.run.max_failures
        if limit is None or not self.failures:
            return False
        if isinstance(limit, int):
            return self.failures > limit
        return self.ran >= ENOUGH_TO_JUDGE and self.failures > self.ran * float(limit.rstrip("% ")) / 100

    def observe(self, hook: str, **values: Any) -> None:
        """Tell the observers; one that fails is named, and the run goes on."""
        for implementation in getattr(self.config.registry.manager.hook, hook).get_hookimpls():
            given = {"run": self.info, **values}
            try:
                implementation.function(**{name: given[name] for name in implementation.argnames})
            except Exception as error:
                self.progress.say(f"{implementation.plugin_name}: {hook} raised {type(error).__name__}: {error}")


def _died(reason: str) -> str:
    return f"a worker died {MAX_OPENINGS} times in a row while it was getting ready: {with_hint(reason)}"
