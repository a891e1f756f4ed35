"""Several servers as one: the work is spread over those that answer, the others are tried again later."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from maskmill import ImageError, MaskmillError, PipelineError, StopRun
from maskmill_plugins._shared.http.wire import ModelInfo

from .client import Server
from .troubles import Away, Faulty

T = TypeVar("T")
#: Times that one image may meet a fault of a server before it fails.
TRIES = 4
#: Seconds before the second try; doubled for each further one.
FIRST_REST = 0.5
#: Longest rest of a server in seconds: while others do its work, and where there is no other.
LONG_REST, SHORT_REST = 30.0, 4.0


@dataclass(slots=True)
class Standing:
    """How it stands with one server.

    Attributes:
        server: it.
        until: when it may be asked again, on the monotonic clock.
        failures: since its last answer.
        sure: it was seen to have the model that the run began with, and has not been away since.
        why: what was wrong the last time.
        there: it answered all the same, that it is busy or that something went wrong.
    """

    server: Server
    until: float = 0.0
    failures: int = 0
    sure: bool = False
    why: str = ""
    there: bool = False


class Pool:
    """The servers of one pipeline, as one worker sees them.

    Args:
        servers: at least one.
        patience: seconds to wait while no server can be asked.
        tell: takes a line for the image's story.
    """

    def __init__(self, servers: Sequence[Server], patience: float, tell: Callable[[str], None]) -> None:
        self._standings = [Standing(server) for server in servers]
        self._patience = patience
        self._tell = tell
        self._model: ModelInfo | None = None

    def survey(self) -> dict[str, ModelInfo | Exception]:
        """What each server says of itself, by URL; all are asked at once, and once."""

        def asked(standing: Standing) -> ModelInfo | Exception:
            try:
                return standing.server.model()
            except (Away, Faulty, MaskmillError) as error:
                return error

        with ThreadPoolExecutor(len(self._standings)) as threads:
            answers = list(threads.map(asked, self._standings))
        return {standing.server.url: answer for standing, answer in zip(self._standings, answers, strict=True)}

    def model(self) -> ModelInfo:
        """The model that all have to have: that of the first server that answers, waited for.

        Raises:
            StopRun: none answers in time, or one refuses this client.
        """
        if self._model is None:
            self._model = self.ask("", lambda server: server.model())
        return self._model

    def ask(self, key: str, question: Callable[[Server], T]) -> T:
        """Put a question to a server, and to another or again where that makes sense.

        Args:
            key: the same key prefers the same server, which may know the image from before.
            question: asks the server that it is given.

        Raises:
            ImageError: a server refuses, or failed at it `TRIES` times.
            StopRun: no server can be asked, for longer than the patience; or one has another model.
        """
        faults: list[str] = []
        waited = 0.0
        while True:
            standing = self._preferred(key)
            waited += self._wait(standing, waited)
            try:
                if self._model is not None and not standing.sure:
                    standing.server.forget()
                    self.verify(standing.server)
                    standing.sure = True
                answer = question(standing.server)
            except Away as away:
                self._rest(standing, away.reason, away.wait, there=away.busy)
                standing.sure = standing.sure and away.busy
                if away.lost:
                    faults.append(away.reason)
            except Faulty as fault:
                self._rest(standing, str(fault), there=True)
                standing.sure = False
                faults.append(str(fault))
            else:
                standing.failures, standing.until, standing.why = 0, 0.0, ""
                return answer
            self._tell(standing.why)
            if len(faults) >= TRIES:
                raise ImageError(f"{faults[-1]} (tried {TRIES} times)")

    def _preferred(self, key: str) -> Standing:
        """Of the servers that may be asked now, the one whose turn it is for this key; else the first to be."""
        now = time.monotonic()
        ready = [standing for standing in self._standings if standing.until <= now]
        if not ready:
            return min(self._standings, key=lambda standing: standing.until)
        return max(ready, key=lambda standing: _weight(key, standing.server.url))

    def _wait(self, standing: Standing, waited: float) -> float:
        """Wait until this server may be asked; returns the seconds that count against the patience."""
        pause = standing.until - time.monotonic()
        if pause <= 0:
            return 0.0
        if standing.there:  # that is no outage, and the number of faults is bounded
            time.sleep(pause)
            return 0.0
        if waited >= self._patience:
            raise StopRun(self._gone())
        pause = min(pause, self._patience - waited)
        time.sleep(pause)
        return pause

    def verify(self, server: Server) -> ModelInfo:
        """Make sure that a server, which may have been started anew, still has the run's model; what it says.

        Raises:
            StopRun: it has another one.
            Away, Faulty: it does not say.
        """
        wanted, found = self.model(), server.model()
        if identity(found) != identity(wanted):
            raise StopRun(other_model(server.url, found, wanted))
        return found

    def _rest(self, standing: Standing, why: str, wait: float | None = None, *, there: bool) -> None:
        """Leave a server out for a while: as long as it asks for, else longer each time."""
        now = time.monotonic()
        others = any(other.until <= now for other in self._standings if other is not standing)
        standing.failures += 1
        standing.why, standing.there = why, there
        if wait is None:
            wait = min(FIRST_REST * 2 ** (standing.failures - 1), LONG_REST if others else SHORT_REST)
        standing.until = now + wait * random.uniform(1.0, 1.3)  # noqa: S311 - so that not all come back at once

    def _gone(self) -> str:
        reasons = "; ".join(standing.why for standing in self._standings if standing.why)
        return (
            f"no SAM server could be asked for {self._patience:g} s ({reasons}); start it again and repeat the"
            " command: what is done stays done"
        )


def identity(info: ModelInfo) -> tuple[str, str, str]:
    """What decides the masks of a server."""
    return info.backend, info.model_id, info.digest


def other_model(url: str, found: ModelInfo, wanted: ModelInfo) -> str:
    """Says that a server has another model than the others, or than before."""
    text = f"{url} computes with {described(found)}, and this run with {described(wanted)}"
    if found.model_id == wanted.model_id:
        text += " and other options"
    return f"{text}; the masks would be of two kinds"


def described(info: ModelInfo) -> str:
    """A model in words, with the beginning of its hash."""
    return f"{info.name} ({info.model_id[:12]})"


def agreed(answers: dict[str, ModelInfo]) -> ModelInfo:
    """The model that all servers have.

    Raises:
        PipelineError: they have different ones.
    """
    (_, first), *others = answers.items()
    for url, info in others:
        if identity(info) != identity(first):
            raise PipelineError(other_model(url, info, first))
    return first


def _weight(key: str, url: str) -> bytes:
    """Rendezvous hashing: each key has its own order of the servers, and keeps it when one is gone.

    Thaler, Ravishankar: Using name-based mappings to increase hit rates, IEEE/ACM Transactions on
    Networking 6(1), 1998.
    """
    return hashlib.sha256(f"{key} {url}".encode()).digest()
