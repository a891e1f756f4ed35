"""How many threads the numeric libraries of a process use, and how idle ones wait.

The libraries read these environment variables when they are loaded, so they must be set before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

#: Read by OpenMP, MKL, OpenBLAS and OpenCV.
_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
#: Each of these determines how long an idle OpenMP thread spins before it sleeps.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def worker_threads() -> int:
    """How many threads this process may use: in a worker, the number of cores divided by the number of workers."""
    if given := os.environ.get("MASKMILL_THREADS"):
        return int(given)
    import loky

    return int(loky.cpu_count())  # unlike os.cpu_count it heeds affinity and a container's quota


def make_thread_environment(count: int) -> dict[str, str]:
    """The variables for a process with this many threads."""
    return {**dict.fromkeys((*_COUNTS, "MASKMILL_THREADS"), str(count)), **_make_waiting()}


def set_waiting() -> None:
    """Let idle threads of this process sleep; has an effect only before torch is imported.

    Spinning threads take the cores from the working ones as soon as another program uses a core, too.
    """
    os.environ.update(_make_waiting())


def set_threads(count: int | None) -> None:
    """Set what `worker_threads` returns in this process (None: all cores), and let idle threads sleep."""
    if count:
        os.environ["MASKMILL_THREADS"] = str(count)
    set_waiting()


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, libraries that are loaded use one thread, so that results have the same bits everywhere."""
    wanted = make_thread_environment(1)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _make_waiting() -> dict[str, str]:
    """What is set already, else sleep: the same before and after `set_waiting`."""
    return {name: os.environ[name] for name in _WAITING if name in os.environ} or {"OMP_WAIT_POLICY": "PASSIVE"}
