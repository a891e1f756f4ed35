"""The `inline` engine: everything in the driver's own process, one image after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

from maskmill import hookimpl
from maskmill.plugins.engine import Engine, Outcome
from maskmill.plugins.messages import Task, WorkerSetup
from maskmill.run import worker


class Inline(Engine):
    """No worker processes: for small folders, for debuggers, and where processes cannot be started.

    A crash takes the run along (a rerun goes on), and the time limit does not apply.
    """

    processes: ClassVar[bool] = False

    def start(self, setup: WorkerSetup, slots: int, environment: Mapping[str, str]) -> None:
        """Remember what to open; the first task opens it."""
        os.environ.update(environment)
        self._setup = setup
        self._waiting: list[tuple[int, Task]] = []
        self._opened = False

    def slots(self) -> int:
        """One."""
        return 1

    def room(self) -> int:
        """One, unless a task waits."""
        return 1 - len(self._waiting)

    def submit(self, token: int, task: Task, timeout: float) -> None:
        """Put the task where `wait` finds it."""
        self._waiting.append((token, task))

    def wait(self, seconds: float) -> Iterable[tuple[int, Outcome]]:
        """Run what was submitted; without a time limit, which could only end the driver."""
        while self._waiting:
            token, task = self._waiting.pop()
            failure = worker.open_chain(self._setup, task)
            self._opened = failure is None
            yield token, failure or worker.work(replace(task, timeout=0.0))

    def is_opening(self) -> bool:
        """Whether the chain is not open yet."""
        return not self._opened

    def stop(self, kill: bool) -> None:
        """Close the chain."""
        worker.close_chain()


@hookimpl
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer `inline`."""
    register("inline", Inline)
