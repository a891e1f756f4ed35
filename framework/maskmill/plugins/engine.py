"""The contract between the driver and what runs images in parallel. Not public before 1.0.

An engine adds no meaning of its own: retries, blame, time limits and stopping are decided by
the driver. It runs one task at a time in each slot and reports which tasks ended, and how. In its
processes it calls `maskmill.run.worker`: `open_chain`, then `work`, in the end `close_chain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from .messages import OpenFailure, Reply, Task, WorkerDied, WorkerSetup
from .stage import Stage

#: How often in a row a process may die while it is starting: something else may have killed it.
MAX_OPENINGS = 3

Outcome = Reply | WorkerDied | OpenFailure


class Engine(Stage):
    """Runs tasks in slots, one at a time in each.

    Class attributes:
        processes: False if tasks run in the driver's own process, so that a death takes it along.
    """

    processes: ClassVar[bool] = True

    def start(self, setup: WorkerSetup, slots: int, environment: Mapping[str, str]) -> None:
        """Get ready.

        Args:
            setup: what each process opens its chain from.
            slots: how many tasks run at once.
            environment: variables set in the workers before they start.
        """
        raise NotImplementedError

    def submit(self, token: int, task: Task, timeout: float) -> None:
        """Start a task in a free slot; the caller never submits more than there are slots.

        Args:
            token: names the task in `wait`.
            task: for `run.worker.work`.
            timeout: seconds, not counting the opening of the chain; 0 means no limit.
        """
        raise NotImplementedError

    def wait(self, seconds: float) -> Iterable[tuple[int, Outcome]]:
        """The tasks that ended, waiting up to this long for the first of them."""
        raise NotImplementedError

    def stop(self, kill: bool) -> None:
        """End the workers: after their current task, or at once. Idempotent."""
        raise NotImplementedError
