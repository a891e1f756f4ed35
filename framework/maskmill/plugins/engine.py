"""`Engine`, what runs images in parallel, and what it returns to the driver. Not stable before 1.0.

An engine runs one task at a time in each slot and reports which tasks ended, and how. Retries,
quarantine, time limits and stopping are the driver's decisions. In its processes it calls
`maskmill.run.worker`: for each task `open_chain`, which loads what the task needs and is not open yet, then
`work`; in the end `close_chain`. Engines whose workers are on other machines do so through
`maskmill.run.slot`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from .messages import HostLost, NotBegun, OpenFailure, Reply, Task, WorkerDied, WorkerSetup
from .stage import Stage

#: Processes of one slot that may die in a row while opening; more than one, since another program may have
#: used up the memory just then.
MAX_OPENINGS = 3

Outcome = Reply | WorkerDied | OpenFailure | HostLost | NotBegun


class Engine(Stage):
    """Runs tasks in slots, one at a time in each slot.

    Class attributes:
        processes: False if tasks run in the driver's own process, which a crash would then end.
    """

    processes: ClassVar[bool] = True

    def start(self, setup: WorkerSetup, slots: int, environment: Mapping[str, str]) -> None:
        """Start the engine.

        Args:
            setup: what each process opens its chain from.
            slots: how many tasks run at once, at most.
            environment: environment variables for the workers; of several GPUs that `CUDA_VISIBLE_DEVICES` names, a
                slot is to see one (`gpus.share_gpus`).

        Raises:
            PluginError: it cannot be started, or reached.
        """
        raise NotImplementedError

    def is_remote(self) -> bool:
        """Whether the workers may be on other machines, so that nothing about this one limits their number."""
        return False

    def slots(self) -> int:
        """How many slots there are now; one whose processes died while they were starting is no slot any more."""
        raise NotImplementedError

    def room(self) -> int:
        """How many tasks may be submitted now; may change whenever `wait` was called."""
        raise NotImplementedError

    def submit(self, token: int, task: Task, timeout: float) -> None:
        """Accept a task for a free slot; the caller submits no more than `room` says.

        Args:
            token: identifies the task in `wait`.
            task: for `run.worker.work`.
            timeout: seconds, not including opening the chain; 0 means no limit.
        """
        raise NotImplementedError

    def wait(self, seconds: float) -> Iterable[tuple[int, Outcome]]:
        """Wait up to this long for a task to end; returns all that have ended, with their outcomes.

        Raises:
            StopRun: no task can be run any more; a rerun goes on.
        """
        raise NotImplementedError

    def is_opening(self) -> bool:
        """Whether no slot has opened its chain yet, so that no image has begun; asked from another thread, too."""
        return False

    def take_warnings(self) -> Sequence[str]:
        """What the user should know about the workers, a line each; what was returned is not returned again."""
        return ()

    def hosts(self) -> Mapping[str, Mapping[str, Any]]:
        """The machines that have worked so far by name, none if they are not told apart.

        Asked from another thread, too. Each is JSON, with at least `slots` that are open, slots that were `lost`, and
        `images` that ended.
        """
        return {}

    def probe(self) -> Sequence[str]:
        """Try to reach the workers, for `maskmill check`; returns what was found, a line each.

        Raises:
            PluginError: they cannot be reached.
        """
        return ()

    def stop(self, kill: bool) -> None:
        """Stop the workers: after their current task, or at once. Can be called twice."""
        raise NotImplementedError
