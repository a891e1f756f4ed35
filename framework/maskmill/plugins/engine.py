"""`Engine`, what runs images in parallel, and what it returns to the driver. Not stable before 1.0.

An engine runs one task at a time in each slot and reports which tasks ended, and how. Retries,
quarantine, time limits and stopping are the driver's decisions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from .stage import Stage

#: Processes of one slot that may die in a row while opening; more than one, since another program may have
#: used up the memory just then.
MAX_OPENINGS = 3


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The process that ran the task was killed, crashed, or was stopped by the time limit.

    Attributes:
        reason: the cause as far as it is known, for the user.
        timed_out: True if it exceeded the time limit.
    """

    reason: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class OpenFailure:
    """The chain could not be opened in a worker; no image is to blame.

    Attributes:
        reason: the error, for the user.
        traceback: "" if the process died.
        died: MAX_OPENINGS processes of one slot died while opening.
    """

    reason: str
    traceback: str = ""
    died: bool = field(default=False, kw_only=True)


class Engine(Stage):
    """Runs tasks in slots, one at a time in each slot.

    Class attributes:
        processes: False if tasks run in the driver's own process, which a crash would then end.
    """

    processes: ClassVar[bool] = True

    def start(self, worker: dict[str, Any], slots: int, environment: dict[str, str]) -> None:
        """Start the engine.

        Args:
            worker: plain data from which `run.worker` builds the chain in each process.
            slots: how many tasks run at once.
            environment: environment variables for the workers.
        """
        raise NotImplementedError

    def submit(self, token: int, task: dict[str, Any], timeout: float) -> None:
        """Start a task in a free slot; the caller never submits more than there are slots.

        Args:
            token: identifies the task in `wait`.
            task: plain data for `run.worker.work`.
            timeout: seconds, not including opening the chain; 0 means no limit.
        """
        raise NotImplementedError

    def wait(self, seconds: float) -> Iterable[tuple[int, dict[str, Any] | WorkerDied | OpenFailure]]:
        """Wait up to this long for a task to end; returns all that have ended, with their replies."""
        raise NotImplementedError

    def stop(self, kill: bool) -> None:
        """Stop the workers: after their current task, or at once. Can be called twice."""
        raise NotImplementedError
