"""The contract between the driver and what runs images in parallel. Not public before 1.0.

An engine adds no meaning of its own: retry, blame, timeouts and stopping are decided by
the driver. It runs one task at a time in each slot and says which tasks ended, and how.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .stage import Stage

#: So often in a row may a process die while it gets ready: something else may have killed it.
MAX_OPENINGS = 3


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The process that ran the task is gone: killed, crashed, or stopped by the time limit.

    Attributes:
        reason: what is known of it, for the user.
        timed_out: True if it was ended for taking too long.
    """

    reason: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class OpenFailure:
    """The chain could not be opened in the worker: the run's fault, no image's.

    Attributes:
        reason: the error, for the user.
        traceback: "" if the process died.
        died: MAX_OPENINGS processes of one slot died while they got ready.
    """

    reason: str
    traceback: str = ""
    died: bool = field(default=False, kw_only=True)


class Engine(Stage):
    """Runs tasks in slots, one at a time in each.

    Class attributes:
        processes: False if tasks run in the driver's own process, so that a death takes it along.
    """

    processes: ClassVar[bool] = True

    def start(self, worker: dict[str, Any], slots: int, environment: dict[str, str]) -> None:
        """Get ready.

        Args:
            worker: plain data that `run.worker` builds the chain from, in each process.
            slots: how many tasks run at once.
            environment: variables set in the workers before they start.
        """
        raise NotImplementedError

    def submit(self, token: int, task: dict[str, Any], timeout: float) -> None:
        """Start a task in a free slot; the caller never submits more than there are slots.

        Args:
            token: names the task in `wait`.
            task: plain data for `run.worker.work`.
            timeout: seconds, not counting the opening of the chain; 0 means no limit.
        """
        raise NotImplementedError

    def wait(self, seconds: float) -> Iterable[tuple[int, dict[str, Any] | WorkerDied | OpenFailure]]:
        """The tasks that ended, waiting up to this long for the first of them."""
        raise NotImplementedError

    def stop(self, kill: bool) -> None:
        """End the workers: after their current task, or at once. Idempotent."""
        raise NotImplementedError
