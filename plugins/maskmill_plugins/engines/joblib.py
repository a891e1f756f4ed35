"""The `joblib` engine: joblib's own worker processes (loky), one executor a slot.

Plain `joblib.Parallel` ends a whole batch when one worker dies, and takes the other loaded
models along. With a single-worker executor a slot, a death is exactly one image's, and
only that slot starts again.
"""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait as wait_for
from dataclasses import dataclass, field
from typing import Any

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool

from maskmill import hookimpl
from maskmill.plugins.engine import MAX_OPENINGS, Engine, OpenFailure, WorkerDied
from maskmill.run import worker as in_worker

#: Seconds that plugins get to close at the end.
GRACE = 60.0


@dataclass
class _Slot:
    """A single-worker executor; `deaths` counts those while the chain was opened, in a row."""

    executor: ProcessPoolExecutor
    used: bool = False
    open: bool = False
    deaths: int = 0


@dataclass
class _Running:
    slot: _Slot
    task: dict[str, Any] = field(repr=False)
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
        self._idle = [_Slot(self._executor()) for _ in range(slots)]

    def _executor(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, timeout=None, initializer=in_worker.prepare, initargs=(os.getpid(),), env=self._environment
        )

    def submit(self, token: int, task: dict[str, Any], timeout: float) -> None:
        """Open the chain in a slot, where that is not done yet, then run the task; loading is not timed."""
        self._submit(token, {**task, "timeout": timeout}, self._idle.pop())

    def _submit(self, token: int, task: dict[str, Any], slot: _Slot) -> None:
        slot.used = True
        try:
            with in_worker.signals_held():
                opening = slot.executor.submit(in_worker.open_chain, self._worker)
                working = slot.executor.submit(in_worker.work, task)
        except BrokenProcessPool:  # its process died while it had nothing to do
            self._submit(token, task, self._renewed(slot))
            return
        self._running[token] = _Running(slot, task, opening, working)
        working.add_done_callback(lambda _: self._ended.put(token))

    def wait(self, seconds: float) -> Iterable[tuple[int, dict[str, Any] | WorkerDied | OpenFailure]]:
        """The tasks that ended."""
        try:
            token = self._ended.get(timeout=seconds)
        except queue.Empty:
            return
        while True:
            outcome = self._outcome(token, self._running.pop(token))
            if outcome is not None:
                yield token, outcome
            try:
                token = self._ended.get_nowait()
            except queue.Empty:
                return

    def _outcome(self, token: int, run: _Running) -> dict[str, Any] | WorkerDied | OpenFailure | None:
        """What came of a task; None if its process died before the task began: it was given to a new one."""
        slot = run.slot
        if (death := run.opening.exception()) is not None:
            fresh = self._renewed(slot)
            fresh.deaths = 0 if slot.open else slot.deaths + 1
            if fresh.deaths < MAX_OPENINGS:
                self._submit(token, run.task, fresh)
                return None
            self._idle.insert(0, fresh)  # taken last: it does not get a working slot's place
            return OpenFailure(_reason(death), died=True)
        if (error := run.opening.result()) is not None:
            self._idle.append(self._renewed(slot))
            return OpenFailure(*error.split("\n", 1))
        slot.open, slot.deaths = True, 0
        if (death := run.working.exception()) is not None:
            self._idle.append(self._renewed(slot))
            return WorkerDied(_reason(death))
        self._idle.append(slot)
        return run.working.result()

    def _renewed(self, slot: _Slot) -> _Slot:
        slot.executor.shutdown(wait=False, kill_workers=True)
        return _Slot(self._executor())

    def stop(self, kill: bool) -> None:
        """End the worker processes; those that do not close in time are ended all the same."""
        slots = [*self._idle, *(run.slot for run in self._running.values())]
        closing = []
        for slot in slots:
            if slot.used and not kill:
                with contextlib.suppress(BrokenProcessPool):
                    closing.append(slot.executor.submit(in_worker.close_chain))
        late = wait_for(closing, GRACE).not_done
        for slot in slots:
            slot.executor.shutdown(wait=True, kill_workers=kill or bool(late))
        self._idle, self._running = [], {}


def _reason(death: BaseException) -> str:
    """What loky knows of a death: the exit code or signal."""
    text = " ".join(str(death).split())
    _, found, codes = text.partition("The exit codes of the workers are {")
    return f"exit code {codes.partition('}')[0]}" if found else text[:200]


@hookimpl
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer `joblib`."""
    register("joblib", Joblib)
