"""The prompt lane: one process in which sources that wait on a network run ahead of the backend.

The driver writes one JSON line an image to the process and reads one line back; a thread
pool in there asks the sources. Rate limits, budgets and secrets so live in one place, and the
slots never wait for an answer as long as enough images are under way.

A death is blamed on an image only if it was alone in the process: after a death the images
that were in flight are asked again one at a time.
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
from ..plugins.engine import MAX_OPENINGS, WorkerDied
from .dispatch import MAX_TRIES, QueuedImage, Stop, with_hint
from .worker import signals_held

#: Seconds that images in flight get to end when the run is stopped: their answers were paid for.
GRACE = 60.0
_PAUSE = 0.02


class _Process:
    """A lane process with its reader; `lines` ends with None."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        stdout: IO[str] | None = self.popen.stdout
        assert stdout is not None
        for line in stdout:
            if line.endswith("\n"):  # else it was killed while it wrote
                self.lines.put(line)
        self.lines.put(None)

    def write(self, message: dict[str, Any]) -> None:
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(json.dumps(message) + "\n")
            self.popen.stdin.flush()
        except OSError:
            pass  # it is dead; its reader says so

    def end(self, kill: bool) -> int:
        """End it, at once or when the images in flight have their answers; returns the exit code."""
        try:
            if kill:
                self.popen.kill()
            with contextlib.suppress(OSError):  # a pipe to a dead process cannot be flushed
                self.popen.stdin.close()  # type: ignore[union-attr]
            self.popen.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
        code = self.popen.wait()
        self.reader.join()
        self.popen.stdout.close()  # type: ignore[union-attr]
        return code


class Lane:
    """The driver's side.

    Args:
        setup: plain data for the process: `stages`, `output`, `max_pixels`, `threads`.
        slots: of the engine; so many answers are kept ready on top of those under way.
        timeout: seconds an image may take here.
        stop: asked when a source raises `StopRun`.
        lost: told of each image that was alone in a process that died, counted in `item.lost`.
        say: prints a line of an image's story.
    """

    def __init__(
        self,
        setup: dict[str, Any],
        slots: int,
        timeout: float,
        stop: Stop,
        lost: Callable[[QueuedImage, WorkerDied], None],
        say: Callable[[str], None],
    ) -> None:
        self._setup = setup
        self._threads = int(setup["threads"])
        self._window = 2 * self._threads + slots
        self._timeout = timeout
        self._stop = stop
        self._lost = lost
        self._say = say
        self._process: _Process | None = None
        self._in_flight: dict[int, QueuedImage] = {}  # in the order of asking
        self._since: dict[int, float] = {}  # when those of them began that a thread is at
        self._suspects: deque[QueuedImage] = deque()
        self._ready: deque[QueuedImage] = deque()
        self._tokens = 0
        self._more = True
        self.seconds: Counter[str] = Counter()

    def feed(self, items: Iterator[QueuedImage | None]) -> Iterator[QueuedImage | None]:
        """The same items with their answers, as they come; None while there is none yet."""
        first = None
        while first is None:  # a run that has nothing to do needs no process
            try:
                first = next(items)
            except StopIteration:
                return
            if first is None:
                yield None
        self._items = itertools.chain([first], items)
        self._start()
        while self._more or self._in_flight or self._suspects or self._ready:
            self.pump(0.0 if self._ready else _PAUSE)
            yield self._ready.popleft() if self._ready else None

    def pump(self, seconds: float = 0.0) -> None:
        """Collect what has come, waiting so long for the first, and ask about further images."""
        if self._process is None:
            return
        self._collect(seconds)
        self._end_hang()
        while not self._stop.asked and self._room():
            if self._suspects:
                self._submit(self._suspects.popleft())
                continue
            try:
                item = next(self._items)
            except StopIteration:
                self._more = False
                return
            if item is None:
                return
            self._submit(item)

    def close(self, kill: bool) -> None:
        """End the process: at once, or when the images in flight have their answers. Idempotent."""
        if self._process is not None:
            self._process.end(kill)
            self._process = None

    def _room(self) -> bool:
        if self._suspects:
            return not self._in_flight
        return self._more and len(self._in_flight) + len(self._ready) < self._window

    def _start(self) -> None:
        """Start a process, again if something kills it while it gets ready."""
        for _ in range(MAX_OPENINGS):
            process = self._started()
            first = self._first_line(process)
            if self._stop.asked:
                return
            if first is not None:
                break
            code = process.end(kill=True)
        else:
            died = f"the prompt sources' process died {MAX_OPENINGS} times in a row while it was getting ready"
            raise PluginError(f"{died}: {with_hint(f'exit code {code}')}")
        if error := json.loads(first)["error"]:
            raise PluginError(error.split("\n", 1)[0])

    def _started(self) -> _Process:
        path = os.pathsep.join(part for part in sys.path if part)
        with signals_held():
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
        process.write({**self._setup, "driver": os.getpid()})
        return process

    def _first_line(self, process: _Process) -> str | None:
        """Its word that it is ready; None if it died, or was ended because the run is to stop."""
        while True:
            try:
                return process.lines.get(timeout=0.1)
            except queue.Empty:
                if self._stop.asked:  # nothing is in flight there that is worth waiting for
                    process.popen.kill()

    def _submit(self, item: QueuedImage) -> None:
        assert self._process is not None
        self._tokens += 1
        self._in_flight[self._tokens] = item
        keys = ("ref", "fingerprint", "story")
        self._process.write({"token": self._tokens, **{key: item.task[key] for key in keys}})

    def _collect(self, seconds: float) -> None:
        assert self._process is not None
        try:
            line = self._process.lines.get(timeout=seconds) if seconds else self._process.lines.get_nowait()
            while True:
                if line is None:
                    self._died()
                else:
                    self._answered(json.loads(line))
                line = self._process.lines.get_nowait()
        except queue.Empty:
            return

    def _answered(self, reply: dict[str, Any]) -> None:
        item = self._in_flight.pop(reply["token"])
        self._since.pop(reply["token"], None)
        self.seconds.update(reply["seconds"])
        for line in reply["lines"]:
            self._say(line)
        if "stop" in reply:
            self._stop.ask(reply["stop"])
            return
        item.task["asked"] = reply["asked"]
        self._ready.append(item)

    def _died(self) -> None:
        """Begin again with a new process; the images in flight are asked again, one at a time."""
        assert self._process is not None
        code = self._process.end(kill=True)
        items = list(self._in_flight.values())
        self._in_flight.clear()
        self._since.clear()
        if len(items) == 1:
            (item,) = items
            item.lost += 1
            self._lost(item, WorkerDied(f"exit code {code} in the prompt lane", timed_out=self._hung))
            items = [item] if item.lost < MAX_TRIES else []
        self._suspects.extend(items)
        self._start()

    def _end_hang(self) -> None:
        """End the process if an image in it takes too long; if it is not alone, it will be next time."""
        assert self._process is not None
        now = time.monotonic()
        for token in itertools.islice(self._in_flight, self._threads):  # the others wait for a thread
            self._since.setdefault(token, now)
        if self._timeout and not self._hung and any(now - since > self._timeout for since in self._since.values()):
            self._hung = True
            self._process.popen.kill()
