"""What runs in a worker process: the chain, opened once, and one task at a time.

Only plain data crosses the process border, in both directions: a class that lives in a
drop-in file would break the channel.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from ..chain.ask_sources import LaneAnswers
from ..chain.chain import Chain
from ..chain.fingerprint import Fingerprint
from ..chain.plugin_call import Trace, failure_of
from ..errors import PluginError, StopRun
from ..images import ImageRef
from ..output.ledger import NAME as LEDGER
from .plan import stat

#: Signals that are for the driver to answer, not for its workers.
DRIVERS = frozenset({signal.SIGINT, signal.SIGTERM})
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9  # of Linux

_open: dict[str, Chain] = {}


def prepare(driver: int) -> None:
    """First thing in a worker process: leave signals to the driver, and end when the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave_to_the_driver)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, DRIVERS)
    if sys.platform == "linux":
        _end_with_parent()
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """While this is open: a process started here finds signals waiting, until `prepare` leaves them to the driver."""
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting one would end the holding: Python 3.11 unblocks, whatever was before
    before = signal.pthread_sigmask(signal.SIG_BLOCK, DRIVERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _leave_to_the_driver(number: int, frame: FrameType | None) -> None:
    """A signal to the whole group reached the driver too, which lets this image end. Not inherited, as SIG_IGN is."""


def _end_with_parent() -> None:
    """Have the kernel kill this process when the driver dies, be it hung in C code or not."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def _end_with(driver: int) -> None:
    import psutil

    try:
        process = psutil.Process(driver)
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1.0)
    except psutil.Error:
        pass
    os._exit(1)


def open_chain(worker: dict[str, Any]) -> str | None:
    """Build and open the chain of this process, once.

    Args:
        worker: `stages` (of `Config.worker_data`), `output`, `max_pixels`, and what the run's masks are made
            with: `model_id` and `backend_digest`.

    Returns:
        None, or the error with its traceback.
    """
    if "chain" in _open:
        return None
    from ..config.config import stages_from

    try:
        stages = stages_from(worker["stages"])
        chain = Chain(stages, Path(worker["output"]), worker["max_pixels"], worker["model_id"])
        chain.open()
        _check_backend(chain, worker)
    except Exception as error:
        return f"{error}\n{traceback.format_exc()}"
    _open["chain"] = chain
    return None


def _check_backend(chain: Chain, worker: dict[str, Any]) -> None:
    """A worker may be started long after the run: a server may have another model by then, a file other weights."""
    name, backend = chain.stages.backend
    model = backend.model_id()
    if (model, backend.digest()) == (worker["model_id"], worker["backend_digest"]):
        return
    chain.close()
    what = f"with {model!r} now, and this run began with {worker['model_id']!r}"
    if model == worker["model_id"]:
        what = "with other options now"
    raise PluginError(f"the backend {name!r} computes {what}; the masks would be of two kinds")


def close_chain() -> None:
    """Close the chain of this process."""
    if (chain := _open.pop("chain", None)) is not None:
        chain.close()


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Bring one image up to date.

    Args:
        task: `ref` (uri, key), `fingerprint`, `timeout` in seconds (0: none), `trace` (the file
            that receives the stack if the time limit ends this process), `story` (bool), and
            `asked` if the prompt lane was there before.

    Returns:
        Plain data: status, changed, masks (number kept), bytes, mtime, seconds by stage, reason,
        failure, lines (the story), or `stop` with the message of a `StopRun`.
    """
    lines: list[str] = []
    trace = Trace(story=lines.append if task["story"] else lambda line: None)
    ref = ImageRef(*task["ref"])
    try:
        _check_output(_open["chain"].output)
        with _time_limit(task["timeout"], Path(task["trace"])):
            reply = _processed(ref, task, trace)
    except StopRun as stop:
        return {"stop": str(stop) or type(stop).__name__, "lines": lines}
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:  # a full disk, a lost output folder: so would all others
            return {"stop": f"{ref.key}: {type(error).__name__}: {error}", "lines": lines}
        reply = {"status": "failed", "changed": True, "masks": 0, "reason": None, "seconds": trace.seconds}
        reply |= {"bytes": -1, "mtime": -1, "failure": asdict(failure_of("worker", "", error))}
    return {**reply, "lines": lines}


def _check_output(output: Path | None) -> None:
    """Refuse to write where the run's folder was: it would come back as a folder that is no run's."""
    if output is not None and not (output / LEDGER).exists():
        raise StopRun(f"the output folder '{output}' is gone")


def _processed(ref: ImageRef, task: dict[str, Any], trace: Trace) -> dict[str, Any]:
    size, mtime = stat(ref)
    asked = LaneAnswers.from_json(task["asked"]) if "asked" in task else None
    result, changed = _open["chain"].process(ref, Fingerprint.parse(task["fingerprint"]), trace, asked)
    return {
        "status": result.status,
        "changed": changed,
        "masks": len(result.kept),
        "bytes": size,
        "mtime": mtime,
        "seconds": trace.seconds,
        "reason": result.reason,
        "failure": None if result.failure is None else asdict(result.failure),
    }


class _time_limit:  # noqa: N801 - used as a function
    """End this process, hung in C code or not, when the time is over; the driver sees a lost worker."""

    def __init__(self, seconds: float, trace: Path) -> None:
        self._seconds = seconds
        self._trace = trace

    def __enter__(self) -> None:
        if self._seconds:
            self._file = self._trace.open("w", encoding="utf-8")
            faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._file)

    def __exit__(self, *exception: object) -> None:
        if self._seconds:
            faulthandler.cancel_dump_traceback_later()
            self._file.close()
            self._trace.unlink(missing_ok=True)
