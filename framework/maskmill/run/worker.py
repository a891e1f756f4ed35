"""What runs in a worker process: the chain, opened once, and one task at a time.

Only plain data crosses the process border, in both directions: a class that lives in a
drop-in file would break the channel.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..asking import Asked
from ..chain import Chain
from ..errors import ImageReadError, StopRun
from ..images import ImageRef
from ..steps import Trace
from .fingerprint import Fingerprint

_open: dict[str, Chain] = {}


def prepare(driver: int) -> None:
    """First thing in a worker process: leave Ctrl-C to the driver, and end when the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


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
        worker: `stages` (of `Config.worker_data`), `output`, `max_pixels`, `model_id`.

    Returns:
        None, or the error with its traceback.
    """
    if "chain" in _open:
        return None
    from ..config import stages_from

    try:
        stages = stages_from(worker["stages"])
        chain = Chain(stages, Path(worker["output"]), worker["max_pixels"], worker["model_id"])
        chain.open()
    except Exception as error:
        return f"{error}\n{traceback.format_exc()}"
    _open["chain"] = chain
    return None


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
    with _time_limit(task["timeout"], Path(task["trace"])):
        try:
            size, mtime = ref.stat()
        except (OSError, ImageReadError):
            size, mtime = -1, -1
        try:
            asked = Asked.from_json(task["asked"]) if "asked" in task else None
            result, changed = _open["chain"].process(ref, Fingerprint.parse(task["fingerprint"]), trace, asked)
        except StopRun as stop:
            return {"stop": str(stop) or type(stop).__name__, "lines": lines}
        except Exception as error:  # the framework's own: a full disk, a lost output folder
            return {"stop": f"{ref.key}: {type(error).__name__}: {error}", "lines": lines}
    return {
        "status": result.status,
        "changed": changed,
        "masks": len(result.kept),
        "bytes": size,
        "mtime": mtime,
        "seconds": trace.seconds,
        "reason": result.reason,
        "failure": None if result.failure is None else asdict(result.failure),
        "lines": lines,
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
