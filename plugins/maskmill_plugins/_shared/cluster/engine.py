"""What the `dask` and `ray` engines share: everything but starting workers, sending and receiving.

Tasks travel in messages of several images with one outcome an image, so that small images are not slowed down by the
engine's own pace. In the engine's worker, `maskmill.run.slot` runs them in a process of ours.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from maskmill import NO_EFFECT
from maskmill.errors import PluginError, Problem, StopRun
from maskmill.plugins.engine import Engine, Outcome
from maskmill.plugins.gpus import VARIABLE, share_gpus
from maskmill.plugins.messages import HostLost, NotBegun, OpenFailure, Reply, Task, WorkerDied, WorkerSetup
from maskmill.run.slot import Kind, SlotAnswer, SlotSetup
from maskmill.run.slot_process import describe_slot

from .remote_slots import Event, Joined, Left, RemoteSlot
from .sameness import compare_slots

#: Seconds of work that one message has, if images are so small that it needs several.
MESSAGE_SECONDS = 0.5


class ClusterEngine(Engine):
    """Sends messages to slots that come and go."""

    address: str | None = Field(None, json_schema_extra=NO_EFFECT)
    patience: float = Field(
        300.0,
        gt=0,
        allow_inf_nan=False,
        description="seconds without any worker after which the run stops",
        json_schema_extra=NO_EFFECT,
    )
    chunk: int = Field(
        32,
        ge=1,
        description="at most so many images in one message; so many only if they take little time",
        json_schema_extra=NO_EFFECT,
    )
    environment: tuple[str, ...] = Field(
        (),
        description="names of environment variables that the workers on other machines get from this one, such as keys",
        json_schema_extra=NO_EFFECT,
    )

    def _connect(self, slots: int) -> None:
        """Reach or start the workers; `_poll` reports their slots.

        Raises:
            PluginError: there are none.
        """
        raise NotImplementedError

    def _send(self, slot: RemoteSlot, tasks: Sequence[Task], kind: Kind) -> None:
        """Have a slot work on tasks, or only open its chain for the first of them."""
        raise NotImplementedError

    def _poll(self, seconds: float) -> Iterable[Event]:
        """Wait up to this long for something to happen; returns all that has."""
        raise NotImplementedError

    def _disconnect(self, kill: bool) -> None:
        """End the slots of this run; can be called twice."""
        raise NotImplementedError

    def is_remote(self) -> bool:
        """Whether a cluster is given."""
        return bool(self.address)

    def check(self) -> list[Problem]:
        """A variable that is not set."""
        unset = [name for name in self.environment if name not in os.environ]
        return [Problem(f"environment: the variable {name!r} is not set here") for name in unset]

    def start(self, setup: WorkerSetup, slots: int, environment: Mapping[str, str]) -> None:
        """Get ready; a run that has nothing to do needs no workers."""
        given = {name: os.environ[name] for name in self.environment if name in os.environ}
        drop_ins = {path: _read_drop_in(path, sha256) for path, sha256 in setup.chain.drop_ins.items()}
        self._setup = SlotSetup(uuid.uuid4().hex, setup, drop_ins, {**environment, **given}, self.is_remote())
        self._here = describe_slot()
        self._threads = int(environment.get("MASKMILL_THREADS", "1"))
        self._most = slots
        self._slots: list[RemoteSlot] = []
        self._waiting: deque[tuple[int, Task]] = deque()
        self._size = 1
        self._seconds = 0.0  # of an image, on average
        self._opened = False
        self._given_up = 0
        self._joined = 0
        self._told: dict[str, None] = {}
        self._warnings: list[str] = []
        self._hosts: dict[str, dict[str, Any]] = {}
        self._connected = False

    def slots(self) -> int:
        """Those that there are now, up to `jobs`."""
        return min(len(self._slots), self._most)

    def _free(self) -> list[RemoteSlot]:
        """Slots that may get a message, those with an open chain last."""
        free = [slot for slot in self._slots if not slot.tasks]
        busy = len(self._slots) - len(free)
        free.sort(key=lambda slot: slot.is_open)
        return free[max(0, len(free) - max(0, self._most - busy)) :]

    def room(self) -> int:
        """As many tasks as the free slots take in one message each; one before there is any, to start the workers."""
        if not self._connected:
            return 1
        return max(0, len(self._free()) * self._size - len(self._waiting))

    def submit(self, token: int, task: Task, timeout: float) -> None:
        """Keep it for the next message, which `wait` sends; the first one starts the workers, or reaches them."""
        if not self._connected:
            self._connect(self._most)
            self._connected, self._alive = True, time.monotonic()
        self._waiting.append((token, dataclasses.replace(task, timeout=timeout)))

    def wait(self, seconds: float) -> Iterator[tuple[int, Outcome]]:
        """Send what was submitted; the tasks that ended."""
        self._send_messages()
        while self._waiting:  # a slot went away in between
            yield self._waiting.popleft()[0], NotBegun()
        for event in self._poll(seconds):
            if isinstance(event, Joined):
                event.slot.environment = self._choose_gpu()
                self._slots.append(event.slot)
            elif isinstance(event, Left):
                yield from self._lose(event)
            else:
                yield from self._take(event.slot, event.answer)
        self._check_patience()

    def _choose_gpu(self) -> Mapping[str, str]:
        """Which of this machine's GPUs the next slot computes on; workers elsewhere have been given theirs."""
        self._joined += 1
        if self.is_remote() or VARIABLE not in self._setup.environment:
            return {}
        shared = share_gpus(self._setup.environment, self._most)[self._joined % self._most]
        return {VARIABLE: shared[VARIABLE]}

    def _send_messages(self) -> None:
        free = self._free()
        while self._waiting and free:
            size = min(self._size, -(-len(self._waiting) // len(free)))
            slot = free.pop()
            token, task = self._waiting.popleft()
            slot.tasks[token] = task
            while len(slot.tasks) < size and not task.careful and self._waiting and not self._waiting[0][1].careful:
                slot.tasks.update([self._waiting.popleft()])
            self._send(slot, list(slot.tasks.values()), "work" if slot.is_open else "open")

    def _lose(self, event: Left) -> Iterator[tuple[int, Outcome]]:
        if event.slot in self._slots:
            self._slots.remove(event.slot)
            self._alive = time.monotonic()  # noticing it may have taken as long as `patience`
            if event.slot.is_open:
                self._add_up(event.slot, slots=-1, lost=1)
            tokens, event.slot.tasks = list(event.slot.tasks), {}
            lost = HostLost(event.reason) if event.slot.is_open else NotBegun()
            yield from ((token, lost) for token in tokens)

    def _take(self, slot: RemoteSlot, answer: SlotAnswer | None) -> Iterator[tuple[int, Outcome]]:
        """What an answer says about its tasks."""
        if slot not in self._slots:
            return
        tasks = list(slot.tasks)
        if answer is None:
            outcomes: Sequence[Outcome] = ()
        elif not slot.is_open:
            failure = answer.failure or self._check_slot(slot, answer)
            if failure is None:
                slot.is_open = self._opened = True
                self._send(slot, list(slot.tasks.values()), "work")
                return
            outcomes = [failure]
        else:
            outcomes = answer.outcomes
            self._adapt(answer)
        slot.tasks = {}
        for token, outcome in zip(tasks, outcomes, strict=False):
            yield token, self._add_host(slot, outcome)
        yield from ((token, NotBegun()) for token in tasks[len(outcomes) :])

    def _check_slot(self, slot: RemoteSlot, answer: SlotAnswer) -> OpenFailure | None:
        """Compare a slot with this machine: refuse another maskmill, warn where results may differ."""
        if answer.about is None:
            return None
        slot.host = answer.about.host
        self._hosts.setdefault(slot.host, {"slots": 0, "lost": 0, "images": 0, "processor": answer.about.processor})
        self._add_up(slot, slots=1)
        if not self.is_remote():
            return None
        refusal, differences = compare_slots(answer.about, self._here)
        for text in differences:
            if text not in self._told:
                self._told[text] = None
                self._warnings.append(f"{slot.host} has {text}")
        return OpenFailure(refusal) if refusal else None

    def _add_host(self, slot: RemoteSlot, outcome: Outcome) -> Outcome:
        """Name the machine where somebody has to look at it; a slot that cannot start is no slot any more."""
        if isinstance(outcome, OpenFailure) and outcome.died and slot in self._slots:
            self._slots.remove(slot)
            self._given_up += 1
            self._add_up(slot, slots=-slot.is_open, lost=slot.is_open)
        if isinstance(outcome, Reply):
            self._add_up(slot, images=1)
        if not self.is_remote():
            return outcome
        if isinstance(outcome, (Reply, WorkerDied)):
            return dataclasses.replace(outcome, host=slot.host)
        if isinstance(outcome, OpenFailure) and slot.host not in outcome.message:
            return dataclasses.replace(outcome, message=f"{outcome.message} (on {slot.host})")
        return outcome

    def _add_up(self, slot: RemoteSlot, **numbers: int) -> None:
        """Add to what is known of a slot's machine."""
        if (about := self._hosts.get(slot.host)) is not None:
            for name, number in numbers.items():
                about[name] += number

    def _adapt(self, answer: SlotAnswer) -> None:
        """Choose the size of the next messages by what the images took."""
        replies = sum(isinstance(outcome, Reply) for outcome in answer.outcomes)
        if replies == len(answer.outcomes) > 0:
            seconds = answer.seconds / replies
            self._seconds = 0.7 * self._seconds + 0.3 * seconds if self._seconds else seconds
            self._size = max(1, min(self.chunk, int(MESSAGE_SECONDS / max(self._seconds, 1e-6))))

    def _check_patience(self) -> None:
        if self._slots:
            self._alive = time.monotonic()
        elif time.monotonic() - self._alive > self.patience:
            raise StopRun(f"{self._describe_absence()} for {self.patience:g} s (engine: patience)")

    def _describe_absence(self) -> str:
        return f"there has been no worker at {self.address or 'this machine'}"

    def is_opening(self) -> bool:
        """Whether no slot has opened its chain yet."""
        return not self._opened

    def take_warnings(self) -> Sequence[str]:
        """How machines differ from this one."""
        taken, self._warnings = self._warnings, []
        return taken

    def hosts(self) -> Mapping[str, Mapping[str, Any]]:
        """By host: slots that are open, slots that were lost, images that ended, the processor."""
        return {name: dict(about) for name, about in list(getattr(self, "_hosts", {}).items())}

    def stop(self, kill: bool) -> None:
        """End the slots."""
        self._disconnect(kill)


def _read_drop_in(path: str, sha256: str) -> bytes:
    content = Path(path).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise PluginError(Problem("the plugin file changed during the run", path, hint="start the run again"))
    return content
