"""Records each outcome in the ledger and the progress, calls the observers, and stops the run if needed."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ..chain.fingerprint import PARTIAL, Fingerprint, plan_reuse
from ..chain.plugin_call import remove_addresses
from ..config.config import Config
from ..errors import ImageReadError, PluginError
from ..output.entry_store import EntryStore, Origin
from ..output.ledger import Ledger
from ..output.mirror import Mirror
from ..output.store import StoredResult, load_result, stat_result
from ..plugins.engine import MAX_OPENINGS, Outcome
from ..plugins.messages import HostLost, NotBegun, OpenFailure, Reply, WorkerDied
from ..results import DOUBTFUL, UNFINISHED, Failure, ImageResult, LedgerRow, RunInfo, Status
from ..wording import count_noun
from ..work import Work, name_work
from .dispatch import MAX_TRIES, QueuedImage, SlotGivenUp, describe_death, explain_exit
from .plan import RunRequest, stat
from .progress import Progress
from .same_failures import SameFailures
from .stop import Stop

#: `max_failures` in percent is judged from this many finished images on.
ENOUGH_TO_JUDGE = 100


class Recorder:
    """Turns outcomes into records.

    Args:
        config: the pipeline.
        options: of this run.
        info: what observers get.
        ledger: of the output folder.
        entries: of the output folder, None if no writer has any.
        progress: shows how far the run is.
        stop: requested when a plugin asks for it or too many images failed.

    Attributes:
        ran: images that this run finished.
        deaths: processes that died.
        stage_seconds: seconds by stage, summed over the images of this run.
        work: images by what was done for them.
    """

    def __init__(
        self,
        config: Config,
        options: RunRequest,
        info: RunInfo,
        ledger: Ledger,
        entries: EntryStore | None,
        progress: Progress,
        stop: Stop,
        mirror: Mirror | None = None,
    ) -> None:
        self._mirror = mirror
        self.config = config
        self.options = options
        self.info = info
        self.ledger = ledger
        self.entries = entries
        self.progress = progress
        self.stop = stop
        self.ran = 0
        self.failures = 0
        self.deaths = 0
        self.stage_seconds: Counter[str] = Counter()
        self.work: Counter[Work] = Counter()
        self._losses_told: set[str] = set()
        counts = ledger.counts()
        has_worked = bool(counts["done"] + counts["empty"])
        self._alike = SameFailures(None if has_worked else config.run.same_failures)

    def skip(self, work: Work) -> None:
        """Count an image that needs no work."""
        self.progress.skip(1)
        self.work[work] += 1

    def record(self, image: QueuedImage, outcome: Outcome | SlotGivenUp) -> None:
        """Record how an image ended.

        Raises:
            PluginError: the chain could not be opened.
        """
        if isinstance(outcome, OpenFailure):
            self._clear_blame(image)
            if self.stop.requested:
                return
            if self.options.verbose and outcome.traceback:
                self.progress.log(outcome.traceback)
            raise PluginError(_describe_starts(outcome.message) if outcome.died else outcome.message)
        if isinstance(outcome, SlotGivenUp):
            workers = count_noun(outcome.slots, "worker")
            self.progress.log(f"warning: {_describe_starts(outcome.reason)}; the run goes on with {workers}")
        elif isinstance(outcome, WorkerDied):
            self.record_death(image, outcome)
        elif isinstance(outcome, HostLost):
            self._record_lost_host(image, outcome)
        elif not isinstance(outcome, NotBegun):
            self._record_reply(image, outcome)

    def _record_reply(self, image: QueuedImage, reply: Reply) -> None:
        for line in reply.lines:
            self.progress.log(line)
        if reply.status is None:
            self._clear_blame(image)
            self.stop.request(reply.stop)
            return
        self.stage_seconds.update(reply.seconds)
        doubts = reply.doubts
        if reply.failure is not None and reply.failure.type != DOUBTFUL:
            doubts = ()  # only what made it fail decides whether `fail_on` still refuses it
        if self._mirror is not None:
            self._mirror.fetch_image(image.key, elsewhere=bool(reply.host))
        is_alike = reply.status != "rejected" and self._alike.add(image.ref, reply.failure)
        size, mtime, seconds = reply.bytes, reply.mtime, sum(reply.seconds.values())
        self._enter(image, reply.status, size, mtime, seconds, doubts, reply.entries, host=reply.host)
        self.work[name_work(image.work, reply.first)] += 1
        if reply.failure is not None and reply.status != "rejected" and not image.task.verbose:
            why = "failed for the same reason" if is_alike else f"failed at {reply.failure}"
            self.progress.log(f"{image.key}: {why}{_name_host(reply)}")

    def _clear_blame(self, image: QueuedImage) -> None:
        """Without worker processes an image counts as lost while it is under way; this one is not to blame."""
        self.ledger.record_losses(image.key, image.lost)

    def record_death(self, image: QueuedImage, death: WorkerDied) -> None:
        """Record that a process died with this image in it; quarantine the image if it has had all its tries."""
        self.deaths += 1
        self.ledger.record_losses(image.key, image.lost)
        kind, message = describe_death(death, self.config.run.timeout)
        if image.is_spent:
            self.quarantine(image, kind, message, death.stack, death.host)
        elif not self.options.quiet:
            why = (
                f"it exceeded the time limit of {self.config.run.timeout:g} s"
                if kind == "Timeout"
                else death.reason or kind
            )
            self.progress.log(f"{image.key}: try {image.lost} of {MAX_TRIES} ended: {why}{_name_host(death)}")

    def _record_lost_host(self, image: QueuedImage, loss: HostLost) -> None:
        """Record that a machine was lost while it had this image, told once for all images that it had."""
        self.deaths += 1
        if image.is_spent:
            lost = count_noun(image.hosts_lost, "worker")
            self.quarantine(image, "HostLost", f"{lost} went away while working on it, the last time: {loss.reason}")
        elif loss.reason not in self._losses_told and not self.options.quiet:
            self.progress.log(f"warning: {loss.reason}; its images are tried again")
        self._losses_told.add(loss.reason)

    def quarantine(self, image: QueuedImage, kind: str, message: str, stack: str = "", host: str = "") -> None:
        """Quarantine an image that took its process down, the last time on this host, if hosts are told apart."""
        failure = Failure("worker", "", kind, message, remove_addresses(stack))
        stored = StoredResult(self.config.output, image.key)
        result = _keep_partial(image, stored.result, failure)
        before = stored.result.artifacts if stored.result else ()
        stored.replace(result or ImageResult.quarantined(image.key, failure, {"fingerprint": image.task.fingerprint}))
        if self._mirror is not None and stored.result is not None:
            self._mirror.upload_image(stored.result, before)
        self._alike.add(image.ref, failure)
        self._enter(image, "quarantined", *stat(image.ref), 0.0, host=host)
        self.work[image.work] += 1
        last = f", the last one on {host}" if host else ""
        self.progress.log(f"{image.key}: quarantined: {message}{last}")

    def _enter(
        self,
        image: QueuedImage,
        status: Status,
        size: int,
        mtime: int,
        seconds: float,
        doubts: Collection[str] = (),
        entries: Mapping[str, bytes] = MappingProxyType({}),
        host: str = "",
    ) -> None:
        """Enter an image in the ledger, update the progress, call the observers; stop if too many failed."""
        attempts = image.attempts + image.lost + (status != "quarantined")
        if self.ran == 0:
            self.ledger.set_meta("finished", None)
        fingerprint, listing = image.task.fingerprint, self.ledger.listing
        row = LedgerRow(image.key, status, fingerprint, size, mtime, attempts, round(seconds, 3), listing)
        stored = stat_result(self.config.output, image.key)
        if self.entries is not None and entries and stored is not None:
            made_with = Fingerprint.parse(fingerprint).writers
            for use, mark in zip(self.config.writers, made_with, strict=True):
                if use.folder in entries:
                    self.entries.put(use.folder, image.key, Origin(stored, mark), entries[use.folder])
        self.ledger.record(row, doubts, stored, host)
        self.ran += 1
        self.failures += status in ("failed", "quarantined")
        self.progress.step(status, image.key, seconds, doubts)
        if self.config.registry.manager.hook.image_finished.get_hookimpls():
            self.observe("image_finished", result=load_result(self.config.output, image.key))
        if self._too_many():
            limit = self.config.run.max_failures
            self.stop.request(f"{self.failures} of {count_noun(self.ran, 'image')} failed (max_failures: {limit})")
        if reason := self._alike.reason:
            self.stop.request(reason)

    def _too_many(self) -> bool:
        limit = self.config.run.max_failures
        if limit is None or not self.failures:
            return False
        if isinstance(limit, int):
            return self.failures > limit
        return self.ran >= ENOUGH_TO_JUDGE and self.failures > self.ran * float(limit.rstrip("% ")) / 100

    def observe(self, hook: str, **values: Any) -> None:
        """Call the observers; one that fails is named, and the run goes on."""
        for implementation in getattr(self.config.registry.manager.hook, hook).get_hookimpls():
            given = {"run": self.info, **values}
            try:
                implementation.function(**{name: given[name] for name in implementation.argnames})
            except Exception as error:
                plugin = implementation.plugin_name.rpartition(":")[0]
                self.progress.log(f"plugin {plugin}: {hook} raised {type(error).__name__}: {error}")


def _keep_partial(image: QueuedImage, before: ImageResult | None, failure: Failure) -> ImageResult | None:
    """The result of a quarantined image that has its masks, since only its filters or writers did not end, or None."""
    if before is None or PARTIAL not in before.provenance:
        return None
    try:
        sha256 = hashlib.sha256(image.ref.read()).hexdigest()
    except (OSError, ImageReadError):
        return None
    if plan_reuse(before, sha256, Fingerprint.parse(image.task.fingerprint)).before is None:
        return None
    if before.failure is not None and before.failure.type == UNFINISHED:
        failure = replace(failure, stage=before.failure.stage, plugin=before.failure.plugin)
    return replace(before, status="quarantined", failure=failure)


def _name_host(outcome: Reply | WorkerDied) -> str:
    return f" (on {outcome.host})" if outcome.host else ""


def _describe_starts(reason: str) -> str:
    return f"{MAX_OPENINGS} worker processes in a row died while starting: {explain_exit(reason)}"
