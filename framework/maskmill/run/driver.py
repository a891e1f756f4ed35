"""Runs a pipeline over its dataset: opens what a run needs, and has it executed.

What has to be done is decided in `plan`, what an outcome means in `record`, when to try again
in `dispatch`; the work itself is done by `chain.chain`, inside the engine.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ..config.config import Config
from ..dataset.dataset import Dataset
from ..dataset.listing import SharedListing
from ..errors import StopRun
from ..files import gather_temporary_files, quote_command, release_temporary_files
from ..images import PACKAGE
from ..output.entry_store import NAME as ENTRIES, EntryStore
from ..output.folder import claim
from ..output.ledger import NAME, Ledger
from ..output.rebuild import rebuild_ledger
from ..plugins.optional import has_entries
from ..results import RunInfo, RunReport
from ..storage import configure, is_address
from .context import RunContext, RunParts
from .dry_run import count_first_images, describe_skipped
from .execution import RunExecution
from .forecast import require_consent
from .plan import RunRequest
from .progress import JsonLog, Progress
from .prompts_csv import Surveys

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
            parts = RunParts(config, options, ledger, entries, surveys, listed, progress)
            execution = RunExecution(RunContext(parts, images))
            return execution.execute([*notices, skipped, *surveys.warnings(), notice, rebuilt])


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
        except StopRun as error:  # of an output that is elsewhere
            raise StopRun(f"{error}\n  After fixing this, continue with: {options.command}") from error
        finally:
            release_temporary_files(config.output)


def fetch_results(config: Config, progress: Progress) -> None:
    """Get what other machines stored for an output that is elsewhere, so that the run goes on from it."""
    if (mirror := config.mirror()) is None:
        return
    mirror.check()
    mirror.prepare()
    if not (config.output / NAME).exists():
        progress.describe("looking for stored results in the output")
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
    parts = ["run-pipeline", str(config.file), "-o", config.destination or str(config.output)]
    parts += ["--state", str(config.output)] if config.destination is not None else []
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
