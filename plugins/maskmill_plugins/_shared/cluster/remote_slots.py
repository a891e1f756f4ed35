"""Slots in the workers of an engine that is a cluster, and what happens to them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from maskmill.plugins.messages import Task
from maskmill.run.slot import SlotAnswer


@dataclass(eq=False)
class RemoteSlot:
    """A place in an engine's worker that runs one message at a time.

    Attributes:
        worker: what the engine addresses.
        host: the machine that it is on.
        is_open: whether its chain was opened once.
        tasks: those of the message that it has now, by token.
        environment: variables that it has besides those of the run.
    """

    worker: Any
    host: str
    is_open: bool = False
    tasks: dict[int, Task] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Joined:
    """A slot is ready to be used."""

    slot: RemoteSlot


@dataclass(frozen=True)
class Left:
    """A slot is gone, with its worker."""

    slot: RemoteSlot
    reason: str


@dataclass(frozen=True)
class Answered:
    """A slot answers its message; None: the answer was lost on its way, though the worker is there."""

    slot: RemoteSlot
    answer: SlotAnswer | None


Event = Joined | Left | Answered


def wait_interruptibly(function: Callable[[], None], seconds: float) -> None:
    """Call a function that waits for other machines in a thread, so that a signal can end the waiting for it."""
    thread = threading.Thread(target=_call, args=(function,), daemon=True)
    thread.start()
    end = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < end:
        thread.join(0.2)  # Windows answers Ctrl-C only between two waits


def _call(function: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):  # the connection was closed meanwhile
        function()
