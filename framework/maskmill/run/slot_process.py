"""The process of a slot; see `slot`. Started as `python -m maskmill.run.slot_process`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ..output.environment import find_processor, read_versions
from ..plugins.messages import OpenFailure, WorkerSetup
from . import worker
from .slot import BEGUN, SlotAbout


def main() -> None:
    """Read the setup, then one message a task, until the input ends."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a plugin prints must not end up among the messages

    def say(message: object) -> None:
        pickle.dump(message, out)
        out.flush()

    supervisor, setup = pickle.load(sys.stdin.buffer)  # noqa: S301 - of the process that started this one
    worker.prepare_process(supervisor)
    say(describe_slot())
    with contextlib.ExitStack() as at_end:
        try:
            opened = place_drop_ins(setup.worker, setup.drop_ins, at_end)
        except OSError as error:
            say(OpenFailure(f"the plugin files cannot be written here: {error}", traceback.format_exc()))
            return
        _serve(opened, setup.prepares, say)
        worker.close_chain()


def _serve(setup: WorkerSetup, prepares: bool, say: Callable[[object], None]) -> None:
    while True:
        try:
            kind, task = pickle.load(sys.stdin.buffer)  # noqa: S301 - as above
        except EOFError:
            return
        failure = worker.open_chain(setup, task, prepares)
        say(failure or BEGUN)
        if kind == "work" and failure is None:
            say(worker.work(task))


def describe_slot() -> SlotAbout:
    """The machine that this process is on."""
    return SlotAbout(platform.node(), find_processor(), {"python": platform.python_version(), **read_versions()})


def place_drop_ins(setup: WorkerSetup, sources: Mapping[str, bytes], at_end: contextlib.ExitStack) -> WorkerSetup:
    """Have each plugin file on this machine: the driver's own if it is visible here and the same, else a copy.

    Args:
        setup: names them with their sha256.
        sources: their content.
        at_end: removes the copies.

    Returns:
        The setup with the paths of this machine.

    Raises:
        OSError: a copy cannot be written.
    """
    found = {}
    for name, sha256 in setup.chain.drop_ins.items():
        path = Path(name)
        if not _has_sha256(path, sha256):
            folder = tempfile.TemporaryDirectory(prefix="maskmill-plugin-", ignore_cleanup_errors=True)
            path = Path(at_end.enter_context(folder), name.replace("\\", "/").rpartition("/")[2])
            path.write_bytes(sources[name])
        found[str(path)] = sha256
    return replace(setup, chain=replace(setup.chain, drop_ins=found))


def _has_sha256(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


if __name__ == "__main__":
    main()
