"""The prompt lane: one process in which sources that wait on a network run ahead of the backend.

The driver writes one JSON line an image to the process and reads one line back; a thread pool there
queries the sources. So rate limits, budgets and secrets are in one place, and the slots do not wait
for answers as long as enough images are in flight.

A death is blamed on an image only if it was alone in the process: after a death the images that were
in flight are queried again, one at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import IO, Any

from ..errors import PluginError
from ..plugins.engine import MAX_OPENINGS
from ..plugins.messages import LaneReply, LaneSetup, LaneTask, OpenFailure, WorkerDied, WorkerSetup
from .dispatch import QueuedImage, explain_exit
from .stop import Stop
from .worker import hold_signals, is_stopped

#: Seconds that images in flight get to finish when the run stops: their answers are already paid for.
GRACE = 60.0
_PAUSE = 0.02


class _Process:
    """A lane process with the threads that read it and write to it; None in `lines` marks the end.

    A process that was stopped reads no more, and a write to it may block for ever: hence a thread for that, too.
    """

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self._messages: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def _read(self) -> None:
        stdout: IO[str] | None = self.popen.stdout
        assert stdout is not None
        for line in stdout:
            if line.endswith("\n"):  # else it was killed while it wrote
                self.lines.put(line)
        self.lines.put(None)

    def _write(self) -> None:
        stdin: IO[str] | None = self.popen.stdin
        assert stdin is not None
        with contextlib.suppress(OSError):  # the process died; its reader will notice
            while (line := self._messages.get()) is not None:
                stdin.write(line)
                stdin.flush()
        with contextlib.suppress(OSError):  # a pipe to a dead process cannot be flushed
            stdin.close()

    def write(self, message: dict[str, Any]) -> None:
        self._messages.put(json.dumps(message) + "\n")

    def end(self, kill: bool) -> int:
        """End it, at once or after the images in flight; returns the exit code."""
        self._messages.put(None)
        try:
            if kill:
                self.popen.kill()
            self.popen.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
        code = self.popen.wait()
        self.reader.join()
        self._writer.join()
        self.popen.stdout.close()  # type: ignore[union-attr]
        return code


class Lane:
    """The driver's side.

    Args:
        setup: what the workers open their chains from.
        threads: how many images are queried at the same time.
        slots: how many slots the engine has now; so many answers are kept ready besides those in flight.
        timeout: seconds an image may take here.
        stop: requested when a source raises `StopRun`.
        record_death: called for each image that was alone in a process that died.
        log: prints a line.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        threads: int,
        slots: Callable[[], int],
        timeout: float,
        stop: Stop,
        record_death: Callable[[QueuedImage, WorkerDied], None],
        log: Callable[[str], None],
    ) -> None:
        self._setup = LaneSetup(setup, threads, os.getpid())
        self._threads = threads
        self._slots = slots
        self._timeout = timeout
        self._stop = stop
        self._record_death = record_death
        self._log = log
        self._process: _Process | None = None
        self._in_flight: dict[int, QueuedImage] = {}  # in the order of sending
        self._since: dict[int, float] = {}  # when a thread took up those of them that are being queried
        self._suspects: deque[QueuedImage] = deque()
        self._ready: deque[QueuedImage] = deque()
        self._tokens = 0
        self._more = True
        self.seconds: Counter[str] = Counter()

    def feed(self, images: Iterator[QueuedImage | None]) -> Iterator[QueuedImage | None]:
        """The same images with their answers, as they arrive; None while there is none yet."""
        first = None
        while first is None:  # a run that has nothing to do needs no process
            try:
                first = next(images)
            except StopIteration:
                return
            if first is None:
                yield None
        self._images = itertools.chain([first], images)
        self._start()
        while self._more or self._in_flight or self._suspects or self._ready:
            self.pump(0.0 if self._ready else _PAUSE)
            yield self._ready.popleft() if self._ready else None

    def pump(self, seconds: float = 0.0) -> None:
        """Collect the answers that have arrived, waiting so long for the first, and send further images."""
        if self._process is None:
            return
        self._collect(seconds)
        self._end_hang()
        while not self._stop.requested and self._has_room():
            if self._suspects:
                self._submit(self._suspects.popleft())
                continue
            try:
                image = next(self._images)
            except StopIteration:
                self._more = False
                return
            if image is None:
                return
            if image.task.correction is not None:  # no source has a say in it
                self._ready.append(image)
                continue
            self._submit(image)

    def close(self, kill: bool) -> None:
        """End the process: at once, or when the images in flight have their answers. Idempotent."""
        if self._process is not None:
            self._process.end(kill)
            self._process = None

    def _has_room(self) -> bool:
        if self._suspects:
            return not self._in_flight
        return self._more and len(self._in_flight) + len(self._ready) < 2 * self._threads + self._slots()

    def _start(self) -> None:
        """Start a process; again if something kills it before it is ready."""
        for _ in range(MAX_OPENINGS):
            process = self._launch()
            first = self._wait_for_first_line(process)
            if self._stop.requested:
                return
            if first is not None:
                break
            code = process.end(kill=True)
        else:
            died = f"{MAX_OPENINGS} processes of the prompt sources in a row died while starting"
            raise PluginError(f"{died}: {explain_exit(f'exit code {code}')}")
        if failure := json.loads(first):
            raise PluginError(OpenFailure(**failure).message)

    def _launch(self) -> _Process:
        path = os.pathsep.join(part for part in sys.path if part)
        with hold_signals():
            popen = subprocess.Popen(
                [sys.executable, "-m", "maskmill.run.prompt_lane_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": path, "PYTHONUTF8": "1"},
            )
        self._process = process = _Process(popen)
        self._hung = False
        process.write(self._setup.to_json())
        return process

    def _wait_for_first_line(self, process: _Process) -> str | None:
        """The line that reports it ready or failed; None if it died, or was ended because the run stops."""
        began = time.monotonic()
        while True:
            try:
                return process.lines.get(timeout=0.1)
            except queue.Empty:
                late = self._timeout and time.monotonic() - began > self._timeout
                # Nothing is in flight there that is worth waiting for; and opening may take long, but has to go on.
                if self._stop.requested or (late and is_stopped(process.popen.pid)):
                    process.popen.kill()

    def _submit(self, image: QueuedImage) -> None:
        assert self._process is not None
        self._tokens += 1
        self._in_flight[self._tokens] = image
        task = image.task
        self._process.write(LaneTask(self._tokens, task.ref, task.fingerprint, task.verbose, task.afresh).to_json())

    def _collect(self, seconds: float) -> None:
        assert self._process is not None
        try:
            line = self._process.lines.get(timeout=seconds) if seconds else self._process.lines.get_nowait()
            while True:
                if line is None:
                    self._handle_death()
                else:
                    self._handle_reply(LaneReply.from_json(json.loads(line)))
                line = self._process.lines.get_nowait()
        except queue.Empty:
            return

    def _handle_reply(self, reply: LaneReply) -> None:
        image = self._in_flight.pop(reply.token)
        self._since.pop(reply.token, None)
        self.seconds.update(reply.seconds)
        for line in reply.lines:
            self._log(line)
        if reply.answers is None:
            self._stop.request(reply.stop)
            return
        image.add_answers(reply.answers)
        self._ready.append(image)

    def _handle_death(self) -> None:
        """Begin again with a new process; the images in flight are queried again, one at a time."""
        assert self._process is not None
        code = self._process.end(kill=True)
        images = list(self._in_flight.values())
        self._in_flight.clear()
        self._since.clear()
        if len(images) == 1:
            (image,) = images
            image.blame()
            self._record_death(image, WorkerDied(f"exit code {code} in the prompt lane", timed_out=self._hung))
            images = [] if image.is_spent else [image]
        self._suspects.extend(images)
        self._start()

    def _end_hang(self) -> None:
        """End the process if an image in it takes too long; an image that is not alone gets blamed the next time."""
        assert self._process is not None
        now = time.monotonic()
        for token in itertools.islice(self._in_flight, self._setup.threads):  # the others wait for a thread
            self._since.setdefault(token, now)
        if self._timeout and not self._hung and any(now - since > self._timeout for since in self._since.values()):
            self._hung = True
            self._process.popen.kill()
