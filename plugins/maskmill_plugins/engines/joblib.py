"""The `joblib` engine: joblib's own worker processes (loky), one executor a slot.

Plain `joblib.Parallel` ends a whole batch when one worker dies, and the other workers lose their
loaded models. With a single-worker executor for each slot, a death affects exactly one image, and
only that slot is restarted.
"""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait as wait_for
from dataclasses import dataclass, field, replace

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool

from maskmill import hookimpl
from maskmill.plugins.engine import MAX_OPENINGS, Engine, Outcome
from maskmill.plugins.messages import OpenFailure, Reply, Task, WorkerDied, WorkerSetup
from maskmill.run import worker

#: Seconds that plugins have to close at the end.
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
    task: Task = field(repr=False)
    opening: Future[OpenFailure | None]
    working: Future[Reply]


class Joblib(Engine):
    """Worker processes on this machine; a worker that dies costs only the image it was working on."""

    def start(self, setup: WorkerSetup, slots: int, environment: Mapping[str, str]) -> None:
        """Create the slots; their processes start with their first task."""
        self._setup = setup
        self._environment = environment
        self._ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._running: dict[int, _Running] = {}
        self._idle = [_Slot(self._make_executor()) for _ in range(slots)]

    def _make_executor(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, timeout=None, initializer=worker.prepare_process, initargs=(os.getpid(),), env=dict(self._environment)
        )

    def submit(self, token: int, task: Task, timeout: float) -> None:
        """Open the chain in a slot, where that is not done yet, then run the task; loading is not timed."""
        self._submit(token, replace(task, timeout=timeout), self._idle.pop())

    def _submit(self, token: int, task: Task, slot: _Slot) -> None:
        slot.used = True
        try:
            with worker.hold_signals():
                opening = slot.executor.submit(worker.open_chain, self._setup)
                working = slot.executor.submit(worker.work, task)
        except BrokenProcessPool:  # its process died while it was idle
            self._submit(token, task, self._restart(slot))
            return
        self._running[token] = _Running(slot, task, opening, working)
        working.add_done_callback(lambda _: self._ended.put(token))

    def wait(self, seconds: float) -> Iterable[tuple[int, Outcome]]:
        """The tasks that ended."""
        try:
            token = self._ended.get(timeout=seconds)
        except queue.Empty:
            return
        while True:
            outcome = self._collect(token, self._running.pop(token))
            if outcome is not None:
                yield token, outcome
            try:
                token = self._ended.get_nowait()
            except queue.Empty:
                return

    def _collect(self, token: int, run: _Running) -> Outcome | None:
        """The outcome of a task; None if its process died before the task began and a new one has it now."""
        slot = run.slot
        if (death := run.opening.exception()) is not None:
            fresh = self._restart(slot)
            fresh.deaths = 0 if slot.open else slot.deaths + 1
            if fresh.deaths < MAX_OPENINGS:
                self._submit(token, run.task, fresh)
                return None
            self._idle.insert(0, fresh)  # taken last, so that working slots come first
            return OpenFailure(_exit_code(death), died=True)
        if (failure := run.opening.result()) is not None:
            self._idle.append(self._restart(slot))
            return failure
        slot.open, slot.deaths = True, 0
        if (death := run.working.exception()) is not None:
            self._idle.append(self._restart(slot))
            return WorkerDied(_exit_code(death))
        self._idle.append(slot)
        return run.working.result()

    def _restart(self, slot: _Slot) -> _Slot:
        slot.executor.shutdown(wait=False, kill_workers=True)
        return _Slot(self._make_executor())

    def stop(self, kill: bool) -> None:
        """End the worker processes; those that do not close in time are ended all the same."""
        slots = [*self._idle, *(run.slot for run in self._running.values())]
        closing = []
        for slot in slots:
            if slot.used and not kill:
                with contextlib.suppress(BrokenProcessPool):
                    closing.append(slot.executor.submit(worker.close_chain))
        late = wait_for(closing, GRACE).not_done
        for slot in slots:
            slot.executor.shutdown(wait=True, kill_workers=kill or bool(late))
        self._idle, self._running = [], {}


def _exit_code(death: BaseException) -> str:
    """The exit code or signal of a death, from the text of loky's error."""
    text = " ".join(str(death).split())
    _, found, codes = text.partition("The exit codes of the workers are {")
    return f"exit code {codes.partition('}')[0]}" if found else text[:200]


@hookimpl
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer `joblib`."""
    register("joblib", Joblib)
