"""The end of a run: the files about the whole dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

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
) -> tuple[Artifact, ...]:
    """Write the files about the whole dataset, unless the run was interrupted or nothing changed.

    Args:
        config: the pipeline.
        stages: its plugins.
        ledger: of the output folder; records which results the files were made from.
        stop: requested when a writer cannot finish; if the user requests it, the writing ends.
        writers: the fingerprints of the writers.
        again: also if nothing changed.
        tell: gets what the writers tell about the dataset.

    Returns:
        What there is now; what was made before the first writer that failed.
    """
    if stop.requested:
        return ()
    state = digest([writers, ledger.digest()])
    finished = ledger.meta("finished")
    if finished is not None and finished["state"] == state and not again:
        return tuple(Artifact(**values) for values in finished["artifacts"])
    artifacts: list[Artifact] = []
    for folder, writer in stages.writers:
        try:
            with stop.interruptible(), working_in(config.output), collecting({}, tell):
                writer.open()
                made = writer.finish(_results(ledger, writer.takes, stop), config.output / folder)
                writer.close()
        except (Stopped, KeyboardInterrupt):
            return ()
        except Exception as error:
            stop.request(f"the writer {folder!r} could not finish: {type(error).__name__}: {error}")
            return tuple(artifacts)
        artifacts += [Artifact(f"{folder}/{item.path}", item.sha256, item.bytes) for item in made]
    ledger.set_meta("finished", {"state": state, "artifacts": [asdict(item) for item in artifacts]})
    ledger.commit()
    return tuple(artifacts)


def _results(ledger: Ledger, statuses: Sequence[Status], stop: Stop) -> Iterator[ImageResult]:
    """The results for a writer's files, in key order; an interruption ends them."""
    for row in ledger.rows(statuses):
        stop.check()
        yield ledger.result(row).hide_unfinished()
