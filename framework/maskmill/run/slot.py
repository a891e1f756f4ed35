"""A slot on any machine: a child process with the chain, watched by a supervisor in an engine's own worker.

The engine starts its workers and carries messages. What happens to an image is seen here, next to its process: how it
ended, its exit code, its stack. So an engine never loses a worker because of an image, and need not find out whose
fault a death was. The messages are pickles of plain data; the child is `slot_process`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal, cast

from ..plugins.engine import MAX_OPENINGS
from ..plugins.messages import OpenFailure, Reply, Task, WorkerDied, WorkerSetup
from .worker import describe_end, hold_signals, is_stopped

#: Seconds that plugins have to close at the end.
GRACE = 60.0
#: Seconds beyond the time limit in which a child ends itself, with its stack; one that was stopped never does.
MARGIN = 3.0
#: Seconds after which no further image of a message is begun, so that the driver hears of those that ended.
ENOUGH = 2.0
#: What a child says before it begins an image: the chain is open.
BEGUN = "begun"

Kind = Literal["open", "work"]


@dataclass(frozen=True, slots=True)
class SlotSetup:
    """What a slot needs, on whatever machine.

    Attributes:
        run: identifies the run; each has slots of its own.
        worker: what the chain is opened from.
        drop_ins: path on the driver's machine -> content of each plugin file; its sha256 is in `worker.chain`.
        environment: variables of the child; may hold secrets, so never stored or shown.
        prepares: whether the stages fetch what they need on the slot's machine, as the driver did on its own.
    """

    run: str
    worker: WorkerSetup
    drop_ins: Mapping[str, bytes] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    prepares: bool


@dataclass(frozen=True, slots=True)
class SlotAbout:
    """Where a slot is, and what its results can depend on.

    Attributes:
        host: the name of the machine.
        processor: its type.
        versions: of the packages, "python" among them.
    """

    host: str
    processor: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SlotAnswer:
    """What became of a message to a slot.

    Attributes:
        outcomes: of the tasks in their order; fewer than tasks if the rest was not begun.
        seconds: how long they took.
        about: of the child; None if none could be started.
        failure: why the chain could not be opened.
    """

    outcomes: Sequence[Reply | WorkerDied | OpenFailure] = ()
    seconds: float = 0.0
    about: SlotAbout | None = None
    failure: OpenFailure | None = None


class _Child:
    """The process, with a thread that reads what it says; None marks the end."""

    def __init__(self, setup: SlotSetup) -> None:
        path = os.pathsep.join(part for part in sys.path if part)
        environment = {**os.environ, **setup.environment, "PYTHONPATH": path, "PYTHONUTF8": "1"}
        with hold_signals():
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "maskmill.run.slot_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.is_open = False
        self.say((os.getpid(), replace(setup, environment={})))

    def _read(self) -> None:
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):  # it was killed while it wrote
            while True:
                self._said.put(pickle.load(cast(IO[bytes], self.popen.stdout)))  # noqa: S301 - of our own child
        self._said.put(None)

    def say(self, message: object) -> None:
        stdin = cast(IO[bytes], self.popen.stdin)
        with contextlib.suppress(OSError):  # it died; its reader notices
            stdin.write(pickle.dumps(message))
            stdin.flush()

    def hear(self, seconds: float) -> Any:
        """Its next message; None if it has ended. Raises `queue.Empty` after so many seconds."""
        return self._said.get(timeout=seconds)

    def end(self, kill: bool) -> str:
        """End it, at once or after it has closed its chain; returns its exit code in words."""
        with contextlib.suppress(OSError):  # a pipe to a dead process cannot be flushed
            cast(IO[bytes], self.popen.stdin).close()
        if kill:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(0.2)  # an exit code of its own says more
            self.popen.kill()
        try:
            self.popen.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
        code = self.popen.wait()
        self._reader.join()
        cast(IO[bytes], self.popen.stdout).close()
        return f"exit code {_name_code(code)}"


class Slot:
    """The supervisor; one call at a time, but `kill`, which may come from another thread."""

    def __init__(self, setup: SlotSetup) -> None:
        self._setup = setup
        self._child: _Child | None = None
        self._about: SlotAbout | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._stack_file = Path(tempfile.gettempdir(), f"maskmill-{os.getpid()}-{id(self)}.stack")

    def open(self, task: Task, environment: Mapping[str, str]) -> SlotAnswer:
        """Open what the chain needs for a task.

        Args:
            task: the image.
            environment: variables that this slot has besides those of the run.
        """
        with self._lock:
            self._setup = replace(self._setup, environment={**self._setup.environment, **environment})
            failure = self._begin("open", task)
            return SlotAnswer(about=self._about, failure=failure)

    def run(self, tasks: Sequence[Task]) -> SlotAnswer:
        """Run tasks one after the other; ends early if the process died, or when enough time has passed."""
        with self._lock:
            began = time.monotonic()
            outcomes: list[Reply | WorkerDied | OpenFailure] = []
            for task in tasks:
                outcomes.append(self._run(replace(task, stack_file=str(self._stack_file))))
                if not isinstance(outcomes[-1], Reply) or time.monotonic() - began > ENOUGH:
                    break
            return SlotAnswer(outcomes, time.monotonic() - began, self._about)

    def close(self, kill: bool) -> None:
        """End the child: at once, or after it has closed its chain. No further task is run."""
        self._closed = True
        child, self._child = self._child, None
        if child is not None:
            child.end(kill)

    def _run(self, task: Task) -> Reply | WorkerDied | OpenFailure:
        if (failure := self._begin("work", task)) is not None:
            return failure
        child = self._child
        if child is None:
            return WorkerDied("it was closed")
        try:
            reply = child.hear(task.timeout + MARGIN) if task.timeout else child.hear(threading.TIMEOUT_MAX)
        except queue.Empty:
            child.popen.kill()
            self._end()
            return describe_end("it did not end at the time limit and was killed", task, timed_out=True)
        if reply is None:
            return describe_end(self._end(), task)
        return cast(Reply, reply)

    def _begin(self, kind: Kind, task: Task) -> OpenFailure | None:
        """Have the chain opened for a task, by a new process if the last one died; the failure if that fails."""
        deaths = 0
        while deaths < MAX_OPENINGS:
            if self._closed:
                return OpenFailure("the slot was closed")
            if self._child is None:
                self._child = _Child(self._setup)
            child = self._child
            child.say((kind, task))
            said = self._hear_begin(child, task.timeout)
            if said == BEGUN:
                child.is_open = True
                return None
            deaths += not child.is_open  # one that died while it had nothing to do says nothing about opening
            reason = self._end()
            if said is not None:
                return cast(OpenFailure, said)
        return OpenFailure(reason, died=True)

    def _hear_begin(self, child: _Child, timeout: float) -> Any:
        """BEGUN, an `OpenFailure`, or None if the child died or was stopped: loading may take long, but goes on."""
        began = time.monotonic()
        while True:
            try:
                said = child.hear(1.0)
            except queue.Empty:
                late = timeout and time.monotonic() - began > timeout + MARGIN
                if late and is_stopped(child.popen.pid):
                    child.popen.kill()
                continue
            if not isinstance(said, SlotAbout):
                return said
            self._about = said

    def _end(self) -> str:
        """Be rid of a child that is dead or of no use; its exit code in words."""
        child, self._child = self._child, None
        return "it was closed" if child is None else child.end(kill=True)


def _name_code(code: int) -> str:
    """As joblib's processes have it: EXIT(1), SIGKILL(-9)."""
    if code >= 0:
        return f"EXIT({code})"
    try:
        return f"{signal.Signals(-code).name}({code})"
    except ValueError:
        return f"UNKNOWN({code})"
