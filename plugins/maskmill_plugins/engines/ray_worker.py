"""What the `ray` engine runs in Ray's workers: an actor is a slot. Ray ends actors when their driver is gone."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from maskmill.plugins.messages import Task
from maskmill.run.slot import Slot, SlotAnswer, SlotSetup


class SlotActor:
    """A slot in a process of Ray."""

    def __init__(self, setup: SlotSetup) -> None:
        self._slot = Slot(setup)

    def find_host(self) -> str:
        """The name of this machine."""
        return platform.node()

    def run_message(self, tasks: Sequence[Task], timeout: float | None) -> SlotAnswer:
        """Run tasks, or open the chain for the first one if `timeout` is None."""
        return self._slot.open(tasks[0]) if timeout is None else self._slot.run(tasks, timeout)

    def close(self) -> None:
        """Close the chain."""
        self._slot.close(kill=False)
