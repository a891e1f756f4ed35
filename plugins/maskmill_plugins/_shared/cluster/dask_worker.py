"""What the `dask` engine runs in Dask's workers: the slots of a run, which live as long as its lease.

The lease is a task whose result the driver holds. When the driver is gone, Dask forgets the result, and the slots end.
"""

from __future__ import annotations

import asyncio
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maskmill.plugins.messages import Task
from maskmill.run.slot import Kind, Slot, SlotAnswer, SlotSetup

#: Seconds between two looks whether the drivers are still there.
LOOK = 1.0


@dataclass
class _Run:
    setup: SlotSetup
    worker: Any
    lease: str
    slots: dict[int, Slot] = field(default_factory=dict)


_runs: dict[str, _Run] = {}
_lock = threading.Lock()
_watchers: list[threading.Thread] = []


def take_lease(setup: SlotSetup) -> tuple[str, int]:
    """Get ready for a run; returns the name of this machine, and how many slots there are."""
    from distributed import get_worker

    worker = get_worker()
    with _lock:
        _runs[setup.run] = _Run(setup, worker, str(worker.get_current_task()))
        if not _watchers:
            _watchers.append(threading.Thread(target=_watch, daemon=True, name="maskmill leases"))
            _watchers[0].start()
    return platform.node(), worker.state.nthreads


def run_message(run: str, index: int, tasks: Sequence[Task], kind: Kind, environment: Mapping[str, str]) -> SlotAnswer:
    """Work on tasks in a slot, or only open its chain for the first one."""
    with _lock:
        known = _runs[run]
        slot = known.slots.setdefault(index, Slot(known.setup))
    return slot.open(tasks[0], environment) if kind == "open" else slot.run(tasks)


async def end_run(run: str, kill: bool) -> None:
    """End the slots of a run; the worker goes on with what else it has meanwhile."""
    await asyncio.to_thread(_end, run, kill)


def _end(run: str, kill: bool) -> None:
    with _lock:
        known = _runs.pop(run, None)
    slots = list(known.slots.values()) if known is not None else []
    closing = [threading.Thread(target=slot.close, args=(kill,)) for slot in slots]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()


def _watch() -> None:
    while True:
        time.sleep(LOOK)
        with _lock:
            left = [run for run, known in _runs.items() if known.lease not in known.worker.state.tasks]
        for run in left:
            _end(run, kill=True)
