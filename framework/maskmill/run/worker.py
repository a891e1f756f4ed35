"""What runs in a worker process: the chain, opened once, and one task at a time.

Only the plain data of `plugins.messages` crosses the process border, in both directions: an instance of
a class that lives in a drop-in file cannot be unpickled in the driver.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import getpass
import os
import platform
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import filelock

from ..chain.chain import Chain
from ..chain.fingerprint import Fingerprint
from ..chain.plugin_call import Trace, describe_failure
from ..config.config import build_stages
from ..corrections import parse as parse_correction
from ..errors import PluginError, Problem, StopRun
from ..files import adopt_hashes, gather_temporary_files
from ..output.ledger import NAME as LEDGER
from ..output.mirror import Mirror
from ..plugins.messages import RUN_MARK, OpenFailure, Reply, RunMark, Task, WorkerDied, WorkerSetup
from ..storage import configure, current_options, options_from_json
from .memory import keep_freed_memory
from .plan import stat
from .stop import DRIVER_SIGNALS

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9  # of Linux

_open: dict[str, Chain] = {}
#: Of outputs in object storage, by their folder here.
_mirrors: dict[Path, Mirror] = {}


def prepare_process(driver: int) -> None:
    """Called first in a worker process: ignore signals that the driver answers, and end when the driver is gone."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in DRIVER_SIGNALS - {signal.SIGINT}:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _ignore_signal)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, DRIVER_SIGNALS)
    if sys.platform == "linux":
        _end_with_parent()
    threading.Thread(target=_end_with, args=(driver,), daemon=True).start()


@contextlib.contextmanager
def hold_signals() -> Iterator[None]:
    """While this is open, signals wait: a process started here gets them only after `prepare_process` ignores them."""
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it later would unblock the signals (Python 3.11)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, DRIVER_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped (SIGSTOP) and will not go on by itself."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _ignore_signal(number: int, frame: FrameType | None) -> None:
    """Do nothing: a signal to the whole group reached the driver, too. Unlike SIG_IGN this is not inherited."""


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


def open_chain(setup: WorkerSetup, task: Task | None = None, prepares: bool = False) -> OpenFailure | None:
    """Build the chain of this process and open what is not open yet; returns the error if that fails.

    Args:
        setup: the same for all tasks.
        task: the image that follows: sources and backend stay closed until an image needs them, so that no model is
            loaded where stored masks serve. None opens everything.
        prepares: whether the stages fetch first what is missing on this machine, where the driver has not done so.
    """
    try:
        chain = _open.get("chain") or _build_chain(setup)
        chain.open(models=False)
        if not chain.has_models and (task is None or _needs_models(chain, task)):
            if prepares:
                _prepare(chain)
            chain.open()
            _check_models(chain, setup)
    except Exception as error:
        return OpenFailure(str(error), traceback.format_exc())
    _open["chain"] = chain
    return None


def _prepare(chain: Chain) -> None:
    """Let the stages fetch what is missing on this machine, one process at a time, so that it is fetched once."""
    with filelock.FileLock(Path(tempfile.gettempdir(), f"maskmill-prepare-{getpass.getuser()}.lock")):
        chain.stages.prepare(lambda line: None)


def _build_chain(setup: WorkerSetup) -> Chain:
    adopt_hashes(setup.hashes)
    configure(options_from_json(setup.storage))
    if setup.mark is not None:
        mirror = Mirror(Path(setup.output), setup.destination or setup.output, current_options())
        if not mirror.is_bucket:
            check_folders(setup.mark, Path(mirror.address))
            gather_temporary_files(Path(mirror.address))
        if setup.destination is not None:
            mirror.prepare()
            _mirrors[mirror.folder] = mirror
        gather_temporary_files(Path(setup.output))
    stages = build_stages(setup.chain)
    output, fail_on, conversion = Path(setup.output), setup.fail_on, setup.conversion
    limits = setup.max_pixels, setup.models, fail_on, conversion, setup.conflict_iou
    return Chain(stages, output, *limits, in_lane=setup.in_lane)


def check_folders(mark: RunMark, output: Path) -> None:
    """Check that this process sees the run's own output folder and dataset, and not others of the same names.

    The sample image is looked for on other machines only: on the driver's it may have been deleted meanwhile.

    Raises:
        PluginError: it does not; what it would write, or report missing, would be of another folder.
    """
    host = platform.node()
    try:
        found = (output / RUN_MARK).read_text(encoding="ascii", errors="replace")
    except OSError:
        found = ""
    if found != mark.token:
        what = "sees another folder" if found else "does not see the run's folder"
        text = f"the worker on {host} {what} at the output's path '{output}'"
        hint = f"give an output folder that {mark.host} and all workers share, under the same path"
        raise PluginError(Problem(text, hint=hint))
    if mark.sample is not None and host != mark.host and (size := stat(mark.sample)[0]) != mark.bytes:
        what = "does not see the dataset" if size < 0 else f"sees another dataset, as {size} bytes are not {mark.bytes}"
        text = f"the worker on {host} {what}: '{mark.sample.path}'"
        hint = f"the images must be on a drive that {mark.host} and all workers share, under the same path"
        raise PluginError(Problem(text, hint=hint))


def _needs_models(chain: Chain, task: Task) -> bool:
    return task.correction is None and chain.needs_models(task.ref, Fingerprint.parse(task.fingerprint), task.afresh)


def _check_models(chain: Chain, setup: WorkerSetup) -> None:
    """Refuse a model that changed since the run began.

    A worker may be started long after the run: a server may have another model by then, a file other weights.
    """
    found, wanted = chain.stages.model_ids(), setup.models
    name, backend = chain.stages.backend
    what = ""
    if found.backend != wanted.backend:
        what = f"the backend {name!r} {_describe_change(found.backend, wanted.backend)}"
    elif backend.digest() != setup.backend_digest:
        what = f"the backend {name!r} has other options now"
    for (source, _), now, before in zip(chain.stages.prompts, found.sources, wanted.sources, strict=True):
        if now != before:
            what = what or f"the prompt source {source!r} {_describe_change(now, before)}"
    if what:
        chain.close()
        raise PluginError(f"{what}; its results would come from two models")


def _describe_change(now: str, before: str) -> str:
    return f"now uses {now!r}, but this run started with {before!r}"


def close_chain() -> None:
    """Close the chain of this process."""
    if (chain := _open.pop("chain", None)) is not None:
        chain.close()


def describe_end(reason: str, task: Task, timed_out: bool = False) -> WorkerDied:
    """How the process ended that had this task; takes the stack that it left at its time limit.

    Args:
        reason: what is known, for the user.
        task: what it was working on.
        timed_out: whether it was ended from outside because it took too long.
    """
    file = Path(task.stack_file)
    stack = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    file.unlink(missing_ok=True)
    return WorkerDied(reason, timed_out or bool(stack), stack)


def work(task: Task) -> Reply:
    """Bring one image up to date. The chain must be open; exceptions become part of the reply."""
    lines: list[str] = []
    trace = Trace(story=lines.append if task.verbose else lambda line: None)
    try:
        _check_output(_open["chain"].output)
        with _time_limit(task.timeout, Path(task.stack_file)):
            return _process(task, trace, lines)
    except StopRun as stop:
        return Reply(None, str(stop) or type(stop).__name__, lines=lines)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            failure = describe_failure("worker", "", error)
            return Reply("failed", seconds=trace.seconds, failure=failure, lines=lines)
        # A full disk or a lost output folder: every other image would fail, too.
        return Reply(None, f"{task.ref.key}: {type(error).__name__}: {error}", lines=lines)


def _check_output(output: Path | None) -> None:
    """Refuse to write if the run's folder is gone: writing would bring back a folder without a ledger."""
    if output is not None and output not in _mirrors and not (output / LEDGER).exists():
        raise StopRun(f"the output folder '{output}' is gone")


def _process(task: Task, trace: Trace, lines: Sequence[str]) -> Reply:
    size, mtime = stat(task.ref)
    wanted = Fingerprint.parse(task.fingerprint)
    chain = _open["chain"]
    mirror = _mirrors.get(chain.output) if chain.output else None
    before = mirror.files_of(task.ref.key) if mirror else ()
    correction = None if task.correction is None else parse_correction(task.correction)
    result, _ = chain.process(task.ref, wanted, trace, task.answers, task.afresh, task.careful, correction)
    if mirror is not None:
        mirror.upload_image(result, before)
    doubts = tuple(doubt.code for doubt in result.doubts)
    entries = trace.entries if result.failure is None else {}
    return Reply(result.status, "", size, mtime, trace.seconds, result.failure, doubts, lines, trace.first, entries)


class _time_limit:  # noqa: N801 - used as a function
    """End this process after the time limit, even if it hangs in C code; the driver sees that it died."""

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
