"""The end of a run: the files about the whole dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from ..chain.contract import iterate_over
from ..config.config import Config
from ..output.ledger import Ledger
from ..plugins.roles import Stages
from ..plugins.stage import collecting, digest, working_in
from ..results import Artifact, ImageResult, Status
from .stop import Stop, Stopped


def finish(
    config: Config,
    stages: Stages,
    ledger: Ledger,
    stop: Stop,
    writers: Sequence[str],
    again: bool,
    tell: Callable[[str], None],
) -> Mapping[str, int]:
    """Write the files about the whole dataset, unless the run was interrupted or nothing changed.

    Args:
        config: the pipeline.
        stages: its plugins.
        ledger: of the output folder; records which results the files were made from, and the files.
        stop: requested when a writer cannot finish; if the user requests it, the writing ends.
        writers: the fingerprints of the writers.
        again: also if nothing changed.
        tell: gets what the writers tell about the dataset.

    Returns:
        How many files each writer has now; those made before the first writer that failed.
    """
    if stop.requested:
        return {}
    state = digest([writers, ledger.digest()])
    finished = ledger.meta("finished")
    if finished is not None and finished["state"] == state and not again:
        return ledger.files.count(ledger.files.writing)
    writing = ledger.files.begin()
    for folder, writer in stages.writers:
        try:
            with stop.interruptible(), working_in(config.output), collecting({}, tell):
                writer.open()
                results = _results(ledger, writer.takes, stop)
                for file in iterate_over(Artifact, writer.finish, results, config.output / folder):
                    ledger.files.add(replace(file, path=f"{folder}/{file.path}"), writing)
                    ledger.commit(only_if_due=True)
                    stop.check()
                writer.close()
            ledger.commit()
        except (Stopped, KeyboardInterrupt):
            return {}
        except Exception as error:
            stop.request(f"the writer {folder!r} could not finish: {type(error).__name__}: {error}")
            break
    else:
        ledger.files.end(writing)
        ledger.set_meta("finished", {"state": state})
    ledger.commit()
    return ledger.files.count(writing)


def _results(ledger: Ledger, statuses: Sequence[Status], stop: Stop) -> Iterator[ImageResult]:
    """The results for a writer's files, in key order; an interruption ends them."""
    for row in ledger.rows(statuses):
        stop.check()
        yield ledger.result(row).hide_unfinished()
