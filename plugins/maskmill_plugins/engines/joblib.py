"""The `joblib` engine: joblib's own worker processes (loky), one executor a slot.

Plain `joblib.Parallel` ends a whole batch when one worker dies, and the other workers lose their
loaded models. With a single-worker executor for each slot, a death affects exactly one image, and
only that slot is restarted.
"""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait as wait_for
from dataclasses import dataclass, field, replace

from loky import ProcessPoolExecutor
from loky.process_executor import BrokenProcessPool

from maskmill import hookimpl
from maskmill.plugins.engine import MAX_OPENINGS, Engine, Outcome
from maskmill.plugins.gpus import share_gpus
from maskmill.plugins.messages import OpenFailure, Reply, Task, WorkerSetup
from maskmill.run import worker

#: Seconds that plugins have to close at the end.
GRACE = 60.0
#: Seconds beyond the time limit in which a worker ends itself, with its stack; one that was stopped never does.
MARGIN = 3.0


@dataclass
class _Slot:
    """A single-worker executor; `deaths` counts those while the chain was opened, in a row."""

    executor: ProcessPoolExecutor
    environment: Mapping[str, str]
    used: bool = False
    open: bool = False
    deaths: int = 0


@dataclass
class _Running:
    slot: _Slot
    task: Task = field(repr=False)
    opening: Future[OpenFailure | None]
    working: Future[Reply]
    submitted: float = field(default_factory=time.monotonic)
    began: float | None = None  # when the chain was open; None while it is being opened

    def begin(self) -> None:
        """Start the clock, once."""
        if self.began is None:
            self.began = time.monotonic()

    @property
    def is_overdue(self) -> bool:
        """Whether its process should have ended itself long ago."""
        if not self.task.timeout or self.working.done():
            return False
        since = self.submitted if self.began is None else self.began
        if time.monotonic() - since < self.task.timeout + MARGIN:
            return False
        return self.began is not None or _is_stopped(self.slot.executor)  # loading may take long, but has to go on


class Joblib(Engine):
    """Worker processes on this machine; a worker that dies costs only the image it was working on."""

    def start(self, setup: WorkerSetup, slots: int, environment: Mapping[str, str]) -> None:
        """Create the slots; their processes start with their first task."""
        self._setup = setup
        self._ended: queue.SimpleQueue[tuple[int, _Running]] = queue.SimpleQueue()
        self._running: dict[int, _Running] = {}
        self._idle = [_make_slot(each) for each in share_gpus(environment, slots)]
        self._opened = False

    def slots(self) -> int:
        """Those that have not been given up."""
        return len(self._idle) + len(self._running)

    def room(self) -> int:
        """Those that are idle."""
        return len(self._idle)

    def submit(self, token: int, task: Task, timeout: float) -> None:
        """Open the chain in a slot, where that is not done yet, then run the task; loading is not timed."""
        self._submit(token, replace(task, timeout=timeout), self._idle.pop())

    def _submit(self, token: int, task: Task, slot: _Slot) -> None:
        slot.used = True
        try:
            with worker.hold_signals():
                opening = slot.executor.submit(worker.open_chain, self._setup, task)
                working = slot.executor.submit(worker.work, task)
        except BrokenProcessPool:  # its process died while it was idle
            self._submit(token, task, self._restart(slot))
            return
        self._running[token] = run = _Running(slot, task, opening, working)
        if slot.open:  # nothing to load: a process that was stopped while it was idle does not even answer that
            run.begin()
        opening.add_done_callback(lambda done: self._begin(run, done))
        working.add_done_callback(lambda _: self._ended.put((token, run)))

    def _begin(self, run: _Running, opening: Future[OpenFailure | None]) -> None:
        """Start the clock of a task whose chain is open, or could not be opened."""
        run.begin()
        if not opening.cancelled() and opening.exception() is None and opening.result() is None:
            self._opened = True

    def is_opening(self) -> bool:
        """Whether no process has opened its chain yet."""
        return not self._opened

    def wait(self, seconds: float) -> Iterable[tuple[int, Outcome]]:
        """The tasks that ended."""
        with contextlib.suppress(queue.Empty):
            token, run = self._ended.get(timeout=seconds)
            while True:
                if self._running.get(token) is run:  # else it was given up before
                    del self._running[token]
                    outcome = self._collect(token, run)
                    if outcome is not None:
                        yield token, outcome
                token, run = self._ended.get_nowait()
        yield from self._end_overdue()

    def _end_overdue(self) -> Iterator[tuple[int, Outcome]]:
        """Kill processes that outlived the time limit, and do not wait until they are gone."""
        for token, run in [(token, run) for token, run in self._running.items() if run.is_overdue]:
            del self._running[token]
            if run.opening.done():
                self._idle.append(self._restart(run.slot))
                yield token, worker.describe_end("it did not end at the time limit and was killed", run.task, True)
            elif failure := self._open_again(token, run, "it was stopped"):
                yield token, failure

    def _collect(self, token: int, run: _Running) -> Outcome | None:
        """The outcome of a task; None if its process died before the task began and a new one has it now."""
        slot = run.slot
        if (death := run.opening.exception()) is not None:
            return self._open_again(token, run, _exit_code(death))
        if (failure := run.opening.result()) is not None:
            self._idle.append(self._restart(slot))
            return failure
        slot.open, slot.deaths = True, 0
        if (death := run.working.exception()) is not None:
            self._idle.append(self._restart(slot))
            return worker.describe_end(_exit_code(death), run.task)
        self._idle.append(slot)
        return run.working.result()

    def _open_again(self, token: int, run: _Running, reason: str) -> OpenFailure | None:
        """Give a task that has not begun to a new process of its slot; the failure if too many died in a row."""
        deaths = 0 if run.slot.open else run.slot.deaths + 1
        if deaths == MAX_OPENINGS:
            run.slot.executor.shutdown(wait=False, kill_workers=True)
            return OpenFailure(reason, died=True)
        fresh = self._restart(run.slot)
        fresh.deaths = deaths
        self._submit(token, run.task, fresh)
        return None

    def _restart(self, slot: _Slot) -> _Slot:
        slot.executor.shutdown(wait=False, kill_workers=True)
        return _make_slot(slot.environment)

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


def _make_slot(environment: Mapping[str, str]) -> _Slot:
    executor = ProcessPoolExecutor(
        1, timeout=None, initializer=worker.prepare_process, initargs=(os.getpid(),), env=dict(environment)
    )
    return _Slot(executor, environment)


def _is_stopped(executor: ProcessPoolExecutor) -> bool:
    return any(worker.is_stopped(pid) for pid in list(executor._processes or ()))


def _exit_code(death: BaseException) -> str:
    """The exit code or signal of a death, from the text of loky's error."""
    text = " ".join(str(death).split())
    _, found, codes = text.partition("The exit codes of the workers are {")
    return f"exit code {codes.partition('}')[0]}" if found else text[:200]


@hookimpl
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer `joblib`."""
    register("joblib", Joblib)
