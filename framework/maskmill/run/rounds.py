"""What the rounds of a watched run share: the request to stop, the workers, and which images are complete."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from typing import Any

from ..plugins.engine import Engine
from ..plugins.messages import WorkerSetup
from .stop import Stop


class Rounds:
    """A run in rounds: each processes the images that are complete, the last one before a rest makes the files for all.

    Attributes:
        stop: ends the whole run.
        ready: keys of the images that this round may process.
        at_rest: whether this round lists the whole dataset and writes the files about it.
        is_first: whether this is the first round.
        token: of the marks in the output folder.
    """

    def __init__(self) -> None:
        self.stop = Stop()
        self.token = secrets.token_hex(16)
        self.ready: Collection[str] = frozenset()
        self.at_rest = False
        self.is_first = True
        self._engine: Engine | None = None
        self._opened: tuple[Any, ...] = ()

    def start(self, engine: Engine, setup: WorkerSetup, slots: int, environment: Mapping[str, str], state: Any) -> None:
        """Start the workers, unless those of the round before are the same and still there.

        Args:
            engine: runs them.
            setup: what they open.
            slots: how many.
            environment: of their processes.
            state: of the prompt sources; another one means that they have to be opened again.
        """
        wanted = (setup, slots, dict(environment), state)
        if self._engine is not None and wanted == self._opened:
            return
        self.end(kill=False)
        engine.start(setup, slots, environment)
        self._engine, self._opened = engine, wanted

    def end(self, kill: bool) -> None:
        """End the workers, at once or after they have closed their chains."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop(kill)
