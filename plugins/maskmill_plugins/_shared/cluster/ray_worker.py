"""What the `ray` engine runs in Ray's workers: an actor is a slot. Ray ends actors when their driver is gone."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence

from maskmill.plugins.messages import Task
from maskmill.run.slot import Kind, Slot, SlotAnswer, SlotSetup


class SlotActor:
    """A slot in a process of Ray."""

    def __init__(self, setup: SlotSetup) -> None:
        self._slot = Slot(setup)

    def find_host(self) -> str:
        """The name of this machine."""
        return platform.node()

    def run_message(self, tasks: Sequence[Task], kind: Kind, environment: Mapping[str, str]) -> SlotAnswer:
        """Work on tasks, or only open the chain for the first one."""
        return self._slot.open(tasks[0], environment) if kind == "open" else self._slot.run(tasks)

    def close(self) -> None:
        """Close the chain."""
        self._slot.close(kill=False)
