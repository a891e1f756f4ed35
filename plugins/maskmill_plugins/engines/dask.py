"""The `dask` engine: slots in the threads of Dask's workers, on this machine or others."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from pydantic import Field

from maskmill import NO_EFFECT, hookimpl
from maskmill.errors import PluginError, StopRun
from maskmill.plugins.engine import Engine
from maskmill.plugins.messages import Task
from maskmill.run.slot import GRACE, Kind
from maskmill.run.worker import hold_signals
from maskmill.wording import count_noun
from maskmill_plugins._shared.cluster import dask_worker
from maskmill_plugins._shared.cluster.dask_client import (
    ANSWER,
    ask_workers,
    be_loud,
    be_quiet,
    fetch,
    leave,
    open_client,
    require_maskmill,
)
from maskmill_plugins._shared.cluster.engine import ClusterEngine
from maskmill_plugins._shared.cluster.remote_slots import Answered, Event, Joined, Left, RemoteSlot, wait_interruptibly

#: Seconds between two looks at the list of workers, besides those when the scheduler reports a change.
LOOK = 5.0
#: Seconds that one try to reach a scheduler again may take; Ctrl-C waits for it.
RETRY = 2.0


class Dask(ClusterEngine):
    """Workers of Dask: those of a scheduler, or without an address `jobs` workers on this machine."""

    requires: ClassVar[tuple[str, ...]] = ("distributed",)
    extra: ClassVar[str] = "dask"

    address: str | None = Field(
        None,
        description="of the scheduler, such as tcp://10.0.0.1:8786; none: workers on this machine",
        json_schema_extra=NO_EFFECT,
    )

    def _connect(self, slots: int) -> None:
        import distributed

        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._leases: dict[str, Any] = {}  # by address; the slots of a worker live as long as its lease
        self._by_worker: dict[str, list[RemoteSlot]] = {}
        self._futures: dict[RemoteSlot, Any] = {}
        self._looked = 0.0
        self._cluster: Any = None
        self._client: Any = None
        self._loud: dict[str, int] | None = be_quiet()
        with hold_signals():  # processes that are started here leave Ctrl-C to the driver
            if not self.address:
                self._cluster = distributed.LocalCluster(
                    n_workers=slots,
                    threads_per_worker=1,
                    memory_limit=0,
                    dashboard_address="127.0.0.1:0",  # None takes port 8787 of all networks, or warns
                    silence_logs=50,
                )
            self._client = open_client(self._cluster or self.address)
        self._client.subscribe_topic("all", self._note_event)

    def _note_event(self, event: tuple[float, dict[str, Any]]) -> None:
        """Called in the client's thread."""
        if event[1].get("action") in ("add-worker", "remove-worker", "worker-status-change"):
            self._looked = 0.0

    def _send(self, slot: RemoteSlot, tasks: Sequence[Task], kind: Kind) -> None:
        address, index = slot.worker
        run = self._setup.run
        future = self._submit(address, dask_worker.run_message, run, index, tasks, kind, slot.environment)
        self._futures[slot] = future
        future.add_done_callback(lambda done: self._events.put(("answer", (slot, done, fetch(done)))))

    def _submit(self, address: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function on one worker, once: if the worker is lost, that is for the driver to judge."""
        return self._client.submit(
            function,
            *arguments,
            key=f"maskmill-{self._setup.run}-{uuid.uuid4().hex}",
            pure=False,
            retries=0,
            workers=[address],
            allow_other_workers=False,
        )

    def _poll(self, seconds: float) -> Iterable[Event]:
        end = time.monotonic() + seconds
        found: list[Event] = []
        while not found and (left := end - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                while True:
                    found += self._handle(*self._events.get(timeout=0 if found else min(left, 0.05)))
            if time.monotonic() - self._looked > LOOK:
                found += self._look()
        return found

    def _handle(self, kind: str, about: Any) -> Iterator[Event]:
        if kind == "lease":
            yield from self._join(*about)
            return
        slot, future, answer = about
        if slot not in self._futures or self._futures[slot] is not future:
            return
        if isinstance(answer, Exception):  # it was on a worker that is gone, perhaps
            require_maskmill(answer, slot.host)
            yield from self._look()
            answer = None
        if self._futures.pop(slot, None) is not None:
            yield Answered(slot, answer)

    def _join(self, address: str, lease: Any, answer: Any) -> Iterator[Event]:
        """The slots of a worker that has taken its lease."""
        if address not in self._leases or self._leases[address] is not lease:
            return
        if isinstance(answer, Exception):
            require_maskmill(answer, address)
            del self._leases[address]  # tried again at the next look, if the worker is still there
            return
        host, threads = answer
        self._by_worker[address] = [RemoteSlot((address, index), host) for index in range(threads)]
        yield from map(Joined, self._by_worker[address])

    def _look(self) -> Iterator[Event]:
        """Ask the scheduler for its workers, or try to reach it again."""
        self._looked = time.monotonic()
        if self._client is None:
            self._reconnect()
            return
        try:
            workers = ask_workers(self._client, self._leases.values())
        except ConnectionError as error:
            yield from self._lose_scheduler(error)
            return
        if workers is not None:
            yield from self._compare(workers)

    def _compare(self, workers: Mapping[str, Any]) -> Iterator[Event]:
        """Offer each new worker a lease; what ran on one that is gone is lost."""
        for address, about in workers.items():
            if about["status"] == "running" and address not in self._leases:
                lease = self._submit(address, dask_worker.take_lease, self._setup)
                self._leases[address] = lease
                lease.add_done_callback(partial(self._put_lease, address))
        for address in self._leases.keys() - workers.keys():
            self._leases.pop(address).cancel(force=True)
            for slot in self._by_worker.pop(address, []):
                if (future := self._futures.pop(slot, None)) is not None:
                    future.cancel(force=True)
                yield Left(slot, f"the worker {address} on {slot.host} went away")

    def _lose_scheduler(self, error: Exception) -> Iterator[Event]:
        """Give up all slots: their workers end them, since the scheduler or the connection to it is gone."""
        if not self.address:
            raise StopRun("the Dask scheduler of this run is gone") from error
        text = f"the connection to the Dask scheduler {self.address} was lost"
        self._warnings.append(f"{text}; trying for {self.patience:g} s to reach it again")
        leave(self._client)
        self._client = None
        self._setup = dataclasses.replace(self._setup, run=uuid.uuid4().hex)  # old slots may live a little longer
        slots = [slot for several in self._by_worker.values() for slot in several]
        self._leases, self._by_worker, self._futures = {}, {}, {}
        yield from (Left(slot, text) for slot in slots)

    def _reconnect(self) -> None:
        with contextlib.suppress(PluginError):
            self._client = open_client(self.address, RETRY)
            self._client.subscribe_topic("all", self._note_event)
            self._looked = 0.0

    def _describe_absence(self) -> str:
        if self._client is None:
            return f"the Dask scheduler {self.address} has not been reached"
        return super()._describe_absence()

    def _put_lease(self, address: str, lease: Any) -> None:
        self._events.put(("lease", (address, lease, fetch(lease))))

    def probe(self) -> Sequence[str]:
        """The scheduler's workers."""
        if not self.address:
            return ()
        import distributed

        loud = be_quiet()
        try:
            with open_client(self.address) as client:
                workers = client.scheduler_info(n_workers=-1)["workers"].values()
        finally:
            be_loud(loud)
        hosts = sorted({about["host"] for about in workers})
        threads = sum(about["nthreads"] for about in workers)
        slots, several = count_noun(threads, "slot"), count_noun(len(workers), "worker")
        where = f"{count_noun(len(hosts), 'host')} ({', '.join(hosts[:8])})"
        version = f"distributed {distributed.__version__} here"
        return [f"engine dask: {self.address} has {slots} in {several} on {where}; {version}"]

    def _disconnect(self, kill: bool) -> None:
        if (loud := getattr(self, "_loud", None)) is None:
            return
        self._loud = None
        client, self._client = self._client, None
        if client is not None:
            if not kill:
                wait_interruptibly(lambda: self._end_slots(client, kill=False), GRACE + ANSWER)
            self._end_slots(client, kill=True)
            with contextlib.suppress(Exception):
                client.unsubscribe_topic("all")
                self._leases.clear()
                client.close(timeout=ANSWER)
        if self._cluster is not None:
            with contextlib.suppress(Exception):
                self._cluster.close(timeout=ANSWER)
        be_loud(loud)

    def _end_slots(self, client: Any, kill: bool) -> None:
        with contextlib.suppress(Exception):
            client.run(dask_worker.end_run, self._setup.run, kill, on_error="ignore")


@hookimpl
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer `dask`."""
    register("dask", Dask)
