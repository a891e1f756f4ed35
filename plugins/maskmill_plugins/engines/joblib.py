"""The `joblib` engine: joblib's own worker processes (loky), one executor a slot.

Plain `joblib.Parallel` ends a whole batch when one worker dies, and takes the other loaded
models along. With a single-worker executor a slot, a death is exactly one image's, and
only that slot starts again.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from loky import ProcessPoolExecutor

from maskmill import hookimpl
from maskmill.run import worker as in_worker
from maskmill.run.engine import Engine, Lost, NotOpened


@dataclass
class _Running:
    executor: ProcessPoolExecutor
    opening: Future[str | None]
    working: Future[dict[str, Any]]


class Joblib(Engine):
    """Worker processes on this machine; a worker that dies costs only the image it was on."""

    def start(self, worker: dict[str, Any], slots: int, environment: dict[str, str]) -> None:
        """Make the slots; their processes start with their first task."""
        self._worker = worker
        self._environment = environment
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._running: dict[int, _Running] = {}
        self._idle = [self._slot() for _ in range(slots)]
        self._used: set[int] = set()  # those whose process was started

    def _slot(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, timeout=None, initializer=in_worker.prepare, initargs=(os.getpid(),), env=self._environment
        )

    def submit(self, token: int, task: dict[str, Any], timeout: float) -> None:
        """Open the chain in a slot, where that is not done yet, then run the task; loading is not timed."""
        executor = self._idle.pop()
        self._used.add(id(executor))
        opening = executor.submit(in_worker.open_chain, self._worker)
        working = executor.submit(in_worker.work, {**task, "timeout": timeout})
        self._running[token] = _Running(executor, opening, working)
        working.add_done_callback(lambda _: self._ended.put(token))

    def wait(self, seconds: float) -> Iterable[tuple[int, dict[str, Any] | Lost | NotOpened]]:
        """The tasks that ended."""
        try:
            token = self._ended.get(timeout=seconds)
        except queue.Empty:
            return
        while True:
            yield token, self._outcome(self._running.pop(token))
            try:
                token = self._ended.get_nowait()
            except queue.Empty:
                return

    def _outcome(self, run: _Running) -> dict[str, Any] | Lost | NotOpened:
        if (death := run.opening.exception()) is not None:
            self._replace(run.executor)
            return NotOpened(f"a worker died while it was getting ready: {_reason(death)}")
        if (error := run.opening.result()) is not None:
            self._replace(run.executor)
            return NotOpened(*error.split("\n", 1))
        if (death := run.working.exception()) is not None:
            self._replace(run.executor)
            return Lost(_reason(death))
        self._idle.append(run.executor)
        return run.working.result()

    def _replace(self, executor: ProcessPoolExecutor) -> None:
        executor.shutdown(wait=False, kill_workers=True)
        self._idle.append(self._slot())

    def stop(self, kill: bool) -> None:
        """End the worker processes."""
        for executor in [*self._idle, *(run.executor for run in self._running.values())]:
            if id(executor) in self._used and not kill:
                executor.submit(in_worker.close_chain)
            executor.shutdown(wait=True, kill_workers=kill)
        self._idle, self._running = [], {}


def _reason(death: BaseException) -> str:
    """What loky knows of a death: the exit code or signal."""
    text = " ".join(str(death).split())
    _, found, codes = text.partition("The exit codes of the workers are ")
    return f"exit code {codes.strip('{}. ')}" if found else text[:200]


@hookimpl
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer `joblib`."""
    register("joblib", Joblib)
