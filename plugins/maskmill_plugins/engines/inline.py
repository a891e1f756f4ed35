"""The `inline` engine: everything in the driver's own process, one image after the other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from maskmill import hookimpl
from maskmill.plugins.engine import Engine, OpenFailure, WorkerDied


class Inline(Engine):
    """No worker processes: for small folders, for debuggers, and where processes cannot be started.

    A crash takes the run along (a rerun goes on), and the time limit does not apply.
    """

    processes: ClassVar[bool] = False

    def start(self, worker: dict[str, Any], slots: int, environment: dict[str, str]) -> None:
        """Remember what to open; the first task opens it."""
        os.environ.update(environment)
        self._worker = worker
        self._waiting: list[tuple[int, dict[str, Any]]] = []

    def submit(self, token: int, task: dict[str, Any], timeout: float) -> None:
        """Put the task where `wait` finds it."""
        self._waiting.append((token, {**task, "timeout": 0}))

    def wait(self, seconds: float) -> Iterable[tuple[int, dict[str, Any] | WorkerDied | OpenFailure]]:
        """Run what was submitted."""
        from maskmill.run import worker

        while self._waiting:
            token, task = self._waiting.pop()
            error = worker.open_chain(self._worker)
            yield token, OpenFailure(*error.split("\n", 1)) if error else worker.work(task)

    def stop(self, kill: bool) -> None:
        """Close the chain."""
        from maskmill.run import worker

        worker.close_chain()


@hookimpl
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer `inline`."""
    register("inline", Inline)
