"""The working part of a run: starts the workers, gives them the images, and records what becomes of each."""

from __future__ import annotations

import platform
import secrets
import time
from collections.abc import Callable

from ..files import known_hashes, write_atomic
from ..output import records
from ..plugins.messages import RUN_MARK, RunMark, WorkerSetup
from ..plugins.optional import max_concurrent
from ..storage import options_to_json
from .context import RunContext
from .dispatch import dispatch
from .plan import listing, stat
from .prompt_lane import Lane
from .stop import Stopped

#: Seconds between two updates of `run.json` while machines come and go.
SECONDS_BETWEEN_RECORDS = 2.0
#: Seconds between two copies of ledger and `run.json` to a shared folder, and how many times what a copy takes.
SECONDS_BETWEEN_COPIES, COPY_SHARE = 60.0, 20


def process_images(run: RunContext, describe: Callable[[], str]) -> None:
    """Process every image of the run's queue, until it is empty or a stop is requested.

    Args:
        run: the run.
        describe: what it is doing, for the progress.

    Raises:
        PluginError: the chain could not be opened.
        OSError: the output can no longer be written.
    """
    setup = _make_setup(run)
    lane = _open_lane(run, setup)
    images = run.queue.draw() if lane is None else lane.feed(run.queue.draw())
    ended = False
    try:
        slots, environment = run.resources.jobs, run.resources.environment()
        if run.rounds is None:
            run.engine.start(setup, slots, environment)
        else:
            run.rounds.start(run.engine, setup, slots, environment, run.surveys.state())
        run.progress.describe(describe)
        run.progress.show_hosts(run.engine.hosts)
        upkeep = _Records(run)
        for event in dispatch(run.engine, images, run.config.run.timeout, run.stop, run.running):
            if event is not None:
                run.recorder.record(*event)
            elif lane is not None:
                lane.pump()
            _show_warnings(run)
            run.ledger.commit(only_if_due=True)
            upkeep.keep()
        upkeep.keep(at_once=True)
        ended = True
    finally:
        _show_warnings(run)  # of an engine that has just given up
        _end_workers(run, lane, kill=not ended)
        (run.config.shared_output / RUN_MARK).unlink(missing_ok=True)
        run.ledger.commit()


class _Records:
    """Keeps the records right while the run works, for those who look at it meanwhile.

    That is `run.json`, about the machines; with `--state`, also the copies of it and of the ledger in a shared folder.
    """

    def __init__(self, run: RunContext) -> None:
        self._run = run
        self._recorded: dict[str, object] = {}
        self._due = self._copy_due = 0.0

    def keep(self, at_once: bool = False) -> None:
        """Write what has changed, if it is time for that."""
        now = time.monotonic()
        mirror = self._run.mirror
        if mirror is not None and not mirror.is_bucket and now >= self._copy_due:
            self._run.ledger.commit()
            mirror.upload_records()
            took = time.monotonic() - now
            self._copy_due = now + max(SECONDS_BETWEEN_COPIES, COPY_SHARE * took)
        if now < self._due and not at_once:
            return
        self._due = now + SECONDS_BETWEEN_RECORDS
        slots: dict[str, object] = {name: about["slots"] for name, about in self._run.engine.hosts().items()}
        if slots != self._recorded:
            self._recorded = slots
            records.write_run(self._run.config.output, self._run.describe(), None)
            if mirror is not None and not mirror.is_bucket:
                mirror.upload(self._run.config.output / records.RUN)


def _show_warnings(run: RunContext) -> None:
    for warning in run.engine.take_warnings():
        run.progress.log(f"warning: {warning}")


def _make_setup(run: RunContext) -> WorkerSetup:
    config = run.config
    return WorkerSetup(
        config.chain_spec(run.surveys.memories),
        str(config.output),
        config.run.max_pixels,
        (*config.run.fail_on, *run.options.fail_on),
        run.models,
        run.stages.backend[1].digest(),
        config.images.as_conversion(),
        config.run.conflict_iou,
        known_hashes(),
        _sign_output(run),
        options_to_json(config.storage),
        config.destination,
        in_lane=run.engine.processes and bool(run.stages.list_ahead()),
    )


def _sign_output(run: RunContext) -> RunMark:
    """Mark the output folder, so that each worker can tell that it sees this one, and the same images."""
    token = run.rounds.token if run.rounds else secrets.token_hex(16)
    write_atomic(run.config.shared_output / RUN_MARK, token.encode())
    images = listing(run.config, run.options, run.listed)
    first = next(images, None) if run.rounds is None else None  # it must not change from round to round
    if first is None or first.is_remote:  # a bucket is the same from everywhere
        return RunMark(token, platform.node())
    return RunMark(token, platform.node(), first, stat(first)[0])


def _open_lane(run: RunContext, setup: WorkerSetup) -> Lane | None:
    """The prompt lane, if a source waits on a network and the engine has processes at all."""
    if not setup.in_lane:
        return None
    waiting = [source for _, source in run.stages.list_reachable() if source.waits]
    threads = max(max_concurrent(source) for source in waiting)
    timeout, log = run.config.run.timeout, run.progress.log
    return Lane(setup, threads, run.engine.slots, timeout, run.stop, run.recorder.record_death, log)


def _end_workers(run: RunContext, lane: Lane | None, kill: bool) -> None:
    """Let the workers and the lane close; a second signal ends them at once."""
    try:
        with run.stop.interruptible():  # a second signal that came before is in `at_once`
            _end_each(run, lane, kill or run.stop.at_once)
    except (Stopped, KeyboardInterrupt):
        _end_each(run, lane, kill=True)


def _end_each(run: RunContext, lane: Lane | None, kill: bool) -> None:
    kill = kill or (run.stop.interrupted and run.engine.is_opening())  # then no image has begun
    if run.rounds is None:
        run.engine.stop(kill)
    elif kill or run.stop.requested:
        run.rounds.end(kill)
    if lane is not None:
        lane.close(kill)
        run.recorder.stage_seconds["prompts, ahead"] += lane.seconds["prompts"]
