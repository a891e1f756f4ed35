"""What the parts of a run share: the pipeline, what is open while it runs, and the choices made at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from ..config.config import Config
from ..dataset.listing import SharedListing
from ..files import absolute_path
from ..output import environment, records
from ..output.entry_store import EntryStore
from ..output.ledger import Ledger
from ..plugins.engine import Engine
from ..results import RunInfo
from .dispatch import QueuedImage
from .dry_run import choose_resources
from .image_queue import ImageQueue
from .plan import Plan, RunRequest, check_same_backend, check_same_shard
from .progress import Progress
from .prompts_csv import Surveys
from .record import Recorder
from .rounds import Rounds
from .stop import Stop


@dataclass(frozen=True)
class RunParts:
    """What is opened before a run is prepared.

    Attributes:
        config: the pipeline.
        options: what is asked of the run.
        ledger: of the output folder.
        entries: of the output folder, None if no writer has any.
        surveys: what the prompt sources say about the dataset.
        listed: the images of the dataset.
        progress: shows how far the run is.
        rounds: what the rounds of a watched run share, None for a run that ends.
    """

    config: Config
    options: RunRequest
    ledger: Ledger
    entries: EntryStore | None
    surveys: Surveys
    listed: SharedListing
    progress: Progress
    rounds: Rounds | None = None


class RunContext:
    """A prepared run: its models are there, the output folder belongs to them, and its workers are chosen.

    Args:
        parts: what is open.
        images: how many images there are, up to `dry_run.FIRST`.

    Attributes:
        stages: the plugins, in this process.
        engine: runs the workers.
        stop: ends the run early.
        models: what identifies the models.
        fingerprints: what results depend on.
        plan: which images are due.
        resources: workers and threads.
        info: what observers get.
        verbose: whether each image is shown.
        mirror: copies the output to object storage; None if it is not there.
        recorder: records outcomes.
        queue: the images to process.
        running: images in progress, by slot.

    Raises:
        UsageError: the run would mix results of two models or shards; a stage cannot be prepared.
    """

    def __init__(self, parts: RunParts, images: int) -> None:
        self.config, self.options, self.ledger = parts.config, parts.options, parts.ledger
        self.entries, self.surveys, self.listed = parts.entries, parts.surveys, parts.listed
        self.progress, self.rounds = parts.progress, parts.rounds
        config, options, ledger = self.config, self.options, self.ledger
        self.stages = config.stages()
        self.engine = cast(Engine, config.engine.stage)
        self.stop = Stop() if self.rounds is None else self.rounds.stop
        self._prepare()
        self.models = self.stages.model_ids()
        self.fingerprints = config.fingerprints(self.models)
        check_same_backend(ledger, self.fingerprints.masks, config)
        check_same_shard(ledger, options.shard, config)
        ledger.set_meta("masks", self.fingerprints.masks)
        ledger.set_meta("shard", None if options.shard is None else str(options.shard))
        self.plan = Plan(config, options, self.fingerprints, self.listed)
        self.resources = choose_resources(config, images, ledger.meta("threads"))
        self.info = RunInfo(config.name, config.output, config.resolved(), self.resources.jobs, self.resources.threads)
        self.verbose = options.verbose or (images == 1 and not options.quiet)
        self.mirror = config.mirror()
        self.recorder = Recorder(
            config, options, self.info, ledger, self.entries, self.progress, self.stop, self.mirror
        )
        ready = None if self.rounds is None else self.rounds.ready
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

    def count_running(self) -> int:
        """How many images are in progress."""
        return 0 if self.engine.is_opening() else len(self.running)

    def describe(self) -> dict[str, Any]:
        """The run as `run.json` has it, without its outcome."""
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

    def tell(self, *lines: str) -> None:
        """Show the lines that are not empty, unless the run is quiet."""
        for line in filter(None, () if self.options.quiet else lines):
            self.progress.log(line)
