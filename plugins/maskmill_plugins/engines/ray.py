"""The `ray` engine: slots in actors of Ray, on this machine or a cluster."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from maskmill import NO_EFFECT, hookimpl
from maskmill.errors import PluginError, Problem, StopRun
from maskmill.plugins.engine import MAX_OPENINGS, Engine
from maskmill.plugins.messages import Task
from maskmill.run.slot import GRACE, Kind
from maskmill.run.worker import hold_signals
from maskmill.wording import count_noun
from maskmill_plugins._shared.cluster.engine import ClusterEngine
from maskmill_plugins._shared.cluster.ray_worker import SlotActor
from maskmill_plugins._shared.cluster.remote_slots import Answered, Event, Joined, Left, RemoteSlot, wait_interruptibly

#: Seconds between two looks at how many cores the cluster has.
LOOK = 5.0
#: Seconds in which the port of a cluster has to accept a connection.
KNOCK = 5.0
#: Seconds without a connection to the head after which the run stops; after 60 Ray itself would end this process.
LOST = 25.0
HINT = (
    "start one with: ray start --head; the address stands in what it prints. A cluster that asks for a token (by"
    " default since Ray 2.59) needs RAY_AUTH_MODE=token here, and its ~/.ray/auth_token"
)


class Ray(ClusterEngine):
    """Actors of Ray: in a cluster, or without an address `jobs` of them on this machine."""

    requires: ClassVar[tuple[str, ...]] = ("ray",)
    extra: ClassVar[str] = "ray"

    address: str | None = Field(
        None,
        description="of the cluster, such as auto or 10.0.0.1:6379; none: workers on this machine",
        json_schema_extra=NO_EFFECT,
    )
    gpus: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="how many GPUs, or which part of one, each worker takes",
        json_schema_extra=NO_EFFECT,
    )

    def _connect(self, slots: int) -> None:
        self._ray = _open_ray(self.address, slots)
        self._started_here = not self.address
        actor = {"num_cpus": self._threads if self.address else 1, "num_gpus": self.gpus}
        self._kind = self._ray.remote(max_restarts=0, max_task_retries=0, **actor)(SlotActor)
        self._starting: dict[Any, Any] = {}  # reference -> actor
        self._working: dict[Any, RemoteSlot] = {}
        self._failed_starts = 0
        self._looked = 0.0
        self._head = self._ray.get_runtime_context().gcs_address
        self._reached = time.monotonic()

    def _start_actors(self) -> None:
        """As many as `jobs`; as many as the cluster has cores for, if that is less."""
        self._looked = time.monotonic()
        if not self._is_head_there():
            return
        known = len(self._slots) + len(self._starting)
        wanted = min(self._most, self._count_places()) - self._given_up
        for _ in range(wanted - known):
            actor = self._kind.remote(self._setup)
            self._starting[actor.find_host.remote()] = actor

    def _is_head_there(self) -> bool:
        """Whether the head can be reached: Ray's own functions would wait for it.

        Raises:
            StopRun: it has been gone for too long.
        """
        try:
            _knock(self._head)
        except OSError as error:
            if time.monotonic() - self._reached > LOST:
                raise StopRun(f"the head of the Ray cluster, {self._head}, cannot be reached any more") from error
            return False
        self._reached = time.monotonic()
        return True

    def _count_places(self) -> int:
        try:
            has = self._ray.cluster_resources()
        except Exception as error:
            raise StopRun(f"the Ray cluster {self.address} cannot be reached any more: {_describe(error)}") from error
        if not self.address:
            return self._most
        places = int(has.get("CPU", 0) // self._threads)
        return min(places, int(has.get("GPU", 0) / self.gpus)) if self.gpus else places

    def _send(self, slot: RemoteSlot, tasks: Sequence[Task], kind: Kind) -> None:
        self._working[slot.worker.run_message.remote(tasks, kind, slot.environment)] = slot

    def _poll(self, seconds: float) -> Iterable[Event]:
        if time.monotonic() - self._looked > LOOK:
            self._start_actors()
        waiting = [*self._working, *self._starting]
        if not waiting:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(waiting, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0)
        return [event for reference in ready for event in self._collect(reference)]

    def _collect(self, reference: Any) -> Iterator[Event]:
        """What a reference that is ready says."""
        starting, slot = self._starting.pop(reference, None), self._working.pop(reference, None)
        try:
            answer = self._ray.get(reference)
        except Exception as error:
            self._looked = 0.0  # another actor takes its place
            if slot is not None:
                self._end_actor(slot.worker)  # one that only cannot be reached must not go on
                yield Left(slot, f"the Ray worker on {slot.host} went away: {_describe(error)}")
                return
            self._end_actor(starting)
            self._failed_starts += 1
            if self._failed_starts >= MAX_OPENINGS and not self._slots:
                hint = 'every machine needs the same maskmill: pip install "maskmill[ray]"'
                text = f"Ray cannot start workers for maskmill: {_describe(error)}"
                raise PluginError(Problem(text, hint=hint)) from error
            return
        if slot is None:
            self._failed_starts = 0
            yield Joined(RemoteSlot(starting, answer))
        else:
            yield Answered(slot, answer)

    def _end_actor(self, actor: Any) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(actor)

    def probe(self) -> Sequence[str]:
        """The cluster's machines."""
        if not self.address:
            return ()
        ray = _open_ray(self.address, 1)
        try:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            cores = sum(node["Resources"].get("CPU", 0) for node in nodes)
        finally:
            ray.shutdown()
        hosts = sorted({node["NodeManagerHostname"] for node in nodes})
        where = f"{count_noun(len(hosts), 'host')} ({', '.join(hosts[:8])})"
        text = f"engine ray: {self.address} has {count_noun(int(cores), 'core')} on {where}"
        return [f"{text}; ray {ray.__version__} here"]

    def _disconnect(self, kill: bool) -> None:
        ray = getattr(self, "_ray", None)
        if ray is None:
            return
        self._ray = None
        try:
            has_head = self._is_head_there()
        except StopRun:
            has_head = False
        if not has_head:  # only it could end an actor that is at work, but each hears of this by itself
            wait_interruptibly(lambda: self._close(ray, [slot for slot in self._slots if slot.is_open]), KNOCK)
        elif not kill:
            idle = [slot for slot in self._slots if slot.is_open and not slot.tasks]
            wait_interruptibly(lambda: self._close(ray, idle), GRACE)
        before = _handlers()
        wait_interruptibly(lambda: self._leave(ray), GRACE if has_head else KNOCK)
        _restore(before)

    def _leave(self, ray: Any) -> None:
        for actor in [*(slot.worker for slot in self._slots), *self._starting.values()]:
            ray.kill(actor)
        ray.shutdown()

    def _close(self, ray: Any, slots: Sequence[RemoteSlot]) -> None:
        closing = [slot.worker.close.remote() for slot in slots]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=GRACE)


def _open_ray(address: str | None, slots: int) -> Any:
    """The module, connected to a cluster, or to one that is started here.

    Raises:
        PluginError: there is none at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else each failed try to connect is a line
    import ray

    if ray.is_initialized():
        ray.shutdown()
    here = {} if address else {"num_cpus": slots, "include_dashboard": False}
    before = _handlers()
    try:
        _knock(address or "")
        with hold_signals():  # processes that are started here leave Ctrl-C to the driver
            ray.init(address=address or "local", log_to_driver=False, logging_level="critical", **here)
    except Exception as error:
        text = f"no Ray cluster answers at {address or 'this machine'}: {_describe(error)}"
        raise PluginError(Problem(text, hint=HINT)) from error
    finally:
        _restore(before)
    return ray


def _knock(address: str) -> None:
    """Try the port of an address: Ray itself would try for a minute.

    Raises:
        OSError: nobody listens there.
    """
    host, colon, port = address.rpartition("//")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()


def _handlers() -> dict[signal.Signals, Any]:
    """Who answers the signals that Ray takes for itself."""
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    with contextlib.suppress(ValueError):  # not in the main thread: Ray takes none there
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _describe(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]


@hookimpl
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer `ray`."""
    register("ray", Ray)
