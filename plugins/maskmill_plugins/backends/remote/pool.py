"""Several servers as one: the work is spread over those that answer, the others are retried later.

The retries are written out rather than left to a library, since each try may go to another server, and pauses
belong to servers, not to requests.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from maskmill import ImageError, MaskmillError, PipelineError, StopRun
from maskmill_plugins._shared.http.wire import ModelInfo

from .client import BadReply, SamClient, ServerUnavailable

T = TypeVar("T")
_log = logging.getLogger(__name__)
#: Seconds between two queries of a server that is loading its model.
LOADING_PAUSE = 1.0
#: Server faults after which an image fails.
TRIES = 4
#: Pause of a server in seconds after its first failure; doubled for each further one.
FIRST_PAUSE = 0.5
#: Longest pause of a server in seconds: while other servers work, and while there is no other.
LONG_PAUSE, SHORT_PAUSE = 30.0, 4.0


@dataclass(slots=True)
class ServerState:
    """The state of one server.

    Attributes:
        server: its client.
        paused_until: when it may be queried again, on the monotonic clock.
        failures: since its last usable answer.
        verified: whether it was checked to have the run's model, and has been available since.
        reason: its last failure.
        running: whether the last failure was an answer (busy, or an error), not an outage.
        loading: whether the last failure was that it is loading its model.
    """

    server: SamClient
    paused_until: float = 0.0
    failures: int = 0
    verified: bool = False
    reason: str = ""
    running: bool = False
    loading: bool = False


class ServerPool:
    """The servers of one pipeline, for one worker.

    Args:
        servers: at least one.
        patience: seconds to wait while no server is available.
        log: receives lines of the verbose log.
    """

    def __init__(self, servers: Sequence[SamClient], patience: float, log: Callable[[str], None]) -> None:
        self._states = [ServerState(server) for server in servers]
        self._patience = patience
        self._log = log
        self._model: ModelInfo | None = None

    def survey(self) -> dict[str, ModelInfo | Exception]:
        """Query each server for its model, all at the same time; return the answers by URL.

        While none is ready and one is loading its model, they are queried again, as long as the patience lasts.
        """
        ends, said = time.monotonic() + self._patience, False
        while True:
            answers = self._query_models()
            loading = [url for url, answer in answers.items() if is_loading(answer)]
            left = ends - time.monotonic()
            if not loading or left <= 0 or any(isinstance(answer, ModelInfo) for answer in answers.values()):
                return answers
            if not said:
                _log.warning("%s is loading its model; waiting for it", " and ".join(loading))
            said = True
            time.sleep(min(LOADING_PAUSE, left))

    def _query_models(self) -> dict[str, ModelInfo | Exception]:

        def query(state: ServerState) -> ModelInfo | Exception:
            try:
                return state.server.get_model()
            except (ServerUnavailable, BadReply, MaskmillError) as error:
                return error

        with ThreadPoolExecutor(len(self._states)) as threads:
            answers = list(threads.map(query, self._states))
        return {state.server.url: answer for state, answer in zip(self._states, answers, strict=True)}

    def get_model(self) -> ModelInfo:
        """Return the model that all servers must have: that of the first server that answers.

        Raises:
            StopRun: no server answers in time, or one rejects this client.
        """
        if self._model is None:
            self._model = self.query("", lambda server: server.get_model())
        return self._model

    def query(self, key: str, request: Callable[[SamClient], T]) -> T:
        """Send a request to a server, and retry with this or another server after a failure.

        Args:
            key: equal keys prefer the same server, which may still have the image.
            request: sends the request to the given server.

        Raises:
            ImageError: a server rejects the request, or servers failed at it `TRIES` times.
            StopRun: no server is available for longer than the patience, or one has another model.
        """
        faults: list[str] = []
        waited = 0.0
        while True:
            state = self._choose(key)
            waited += self._wait(state, waited)
            try:
                if self._model is not None and not state.verified:
                    state.server.forget()
                    self.verify_model(state.server)
                    state.verified = True
                answer = request(state.server)
            except ServerUnavailable as error:
                self._pause(state, error.reason, error.wait, running=error.busy)
                state.loading = error.loading
                state.verified = state.verified and error.busy
                if error.lost:
                    faults.append(error.reason)
            except BadReply as error:
                self._pause(state, str(error), running=True)
                state.verified = False
                faults.append(str(error))
            else:
                state.failures, state.paused_until, state.reason = 0, 0.0, ""
                return answer
            self._log(state.reason)
            if len(faults) >= TRIES:
                raise ImageError(f"{faults[-1]} (failed {TRIES} times)")

    def _choose(self, key: str) -> ServerState:
        """Return the preferred server for this key among those not paused; if all are, the first to resume."""
        now = time.monotonic()
        ready = [state for state in self._states if state.paused_until <= now]
        if not ready:
            return min(self._states, key=lambda state: state.paused_until)
        return max(ready, key=lambda state: _rank(key, state.server.url))

    def _wait(self, state: ServerState, waited: float) -> float:
        """Wait until this server may be queried; return the seconds that count against the patience."""
        pause = state.paused_until - time.monotonic()
        if pause <= 0:
            return 0.0
        if state.running:  # not an outage, and the number of faults is limited
            time.sleep(pause)
            return 0.0
        if waited >= self._patience:
            raise StopRun(self._describe_outage())
        pause = min(pause, self._patience - waited)
        time.sleep(pause)
        return pause

    def verify_model(self, server: SamClient) -> ModelInfo:
        """Check that a server, which may have been restarted, still has the run's model; return its answer.

        Raises:
            StopRun: it has another one.
            ServerUnavailable, BadReply: there is no usable answer.
        """
        wanted, found = self.get_model(), server.get_model()
        if _identify(found) != _identify(wanted):
            raise StopRun(_describe_mismatch(server.url, found, wanted))
        return found

    def _pause(self, state: ServerState, reason: str, wait: float | None = None, *, running: bool) -> None:
        """Pause a server for as long as it asks for, otherwise longer each time."""
        now = time.monotonic()
        others = any(other.paused_until <= now for other in self._states if other is not state)
        state.failures += 1
        state.reason, state.running = reason, running
        if wait is None:
            wait = min(FIRST_PAUSE * 2 ** (state.failures - 1), LONG_PAUSE if others else SHORT_PAUSE)
        state.paused_until = now + wait * random.uniform(1.0, 1.3)  # noqa: S311 - so that workers do not retry all at once

    def _describe_outage(self) -> str:
        reasons = "; ".join(state.reason for state in self._states if state.reason)
        loading = any(state.loading for state in self._states)
        change = "wait until it is ready (or set a longer `patience:`)" if loading else "restart it"
        return (
            f"no SAM server was available for {self._patience:g} s ({reasons}); {change} and repeat the command:"
            " finished images are kept"
        )


def is_loading(answer: object) -> bool:
    """Return whether a server answered that it is running, and loading its model."""
    return isinstance(answer, ServerUnavailable) and answer.loading


def _identify(info: ModelInfo) -> tuple[str, str, str]:
    """Return what decides the masks of a server."""
    return info.backend, info.model_id, info.digest


def _describe_mismatch(url: str, found: ModelInfo, wanted: ModelInfo) -> str:
    """Return the message that a server has another model than the others, or than before."""
    text = f"{url} uses {describe_model(found)}, but this run uses {describe_model(wanted)}"
    if found.model_id == wanted.model_id:
        text += " with other options"
    return f"{text}; the masks would not be comparable"


def describe_model(info: ModelInfo) -> str:
    """Return the name of a model, with the beginning of its hash."""
    return f"{info.name} ({info.model_id[:12]})"


def require_same_model(answers: dict[str, ModelInfo]) -> ModelInfo:
    """Return the model that all servers have.

    Raises:
        PipelineError: they have different ones.
    """
    (_, first), *others = answers.items()
    for url, info in others:
        if _identify(info) != _identify(first):
            raise PipelineError(_describe_mismatch(url, info, first))
    return first


def _rank(key: str, url: str) -> bytes:
    """Rank a server for a key by rendezvous hashing: removing a server does not change the order of the others.

    Thaler, Ravishankar: Using name-based mappings to increase hit rates, IEEE/ACM Transactions on
    Networking 6(1), 1998.
    """
    return hashlib.sha256(f"{key} {url}".encode()).digest()
