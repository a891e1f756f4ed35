"""One call into a plugin: timed, seeded, retried after `Transient`, its exceptions turned into records."""

from __future__ import annotations

import errno
import json
import random
import re
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ..errors import ImageError, MaskmillError, StopRun, Transient
from ..plugins.packages import explain_import
from ..plugins.stage import collecting
from ..results import Doubt, Failure
from ..work import FirstStep

T = TypeVar("T")
#: Seconds before the second and the third try of a call that raised `Transient`.
PAUSES = (1.0, 4.0)
#: Characters of a message or a traceback that are recorded.
LONGEST = 10_000
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EROFS, errno.EDQUOT})


class StepError(ImageError):
    """A step of the chain failed on this image; `failure` is the record of it, `text` the message if it is another."""

    def __init__(self, failure: Failure, text: str = "") -> None:
        super().__init__(text or failure.message)
        self.failure = failure


@dataclass
class Trace:
    """What happens to one image on its way through a chain, beside its result.

    Attributes:
        seconds: by stage ("read", "prompts", "backend", "filters", "writers").
        story: called with a line for each step, for `-v`.
        notes: what the stages noted, by plugin name.
        doubts: what may be wrong with the result, in the order of the work.
        first: the first step that was done again.
        entries: what the image adds to the files about the whole dataset, by the name of the writer's folder.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    story: Callable[[str], None] = lambda line: None
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    doubts: list[Doubt] = field(default_factory=list)
    first: FirstStep = "segment"
    entries: dict[str, bytes] = field(default_factory=dict)

    def step(self, stage: str, plugin: str, call: Callable[[], T], seed: str = "") -> T:
        """Call into a plugin.

        Args:
            stage: which part of the chain this is; seconds are summed under it.
            plugin: the registered name, "" for the framework itself.
            call: what to do; called again after a pause when it raises `Transient`.
            seed: the image's sha256, from which random generators are seeded.

        Raises:
            StepError: whatever the call raised, as a record.
            StopRun: passed through.
        """
        started = time.perf_counter()
        try:
            notes = self.notes.setdefault(plugin, {})
            doubts: list[Doubt] = []
            with _record_errors(stage, plugin), collecting(notes, self.story, doubts):
                answer = self._retry(plugin, partial(_call_seeded, call, stage + seed))
                _check_notes(notes)
            for doubt in doubts:
                self.add_doubt(replace(doubt, stage=stage, plugin=plugin))
            return answer
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def add_doubt(self, doubt: Doubt) -> None:
        """Record a doubt about the image's result."""
        if doubt not in self.doubts:
            self.doubts.append(doubt)
            self.story(f"doubtful ({doubt.code}): {doubt.message}")

    def stored_notes(self) -> dict[str, Any]:
        """The notes as a result stores them: those of plugins that noted something."""
        return {name: dict(values) for name, values in self.notes.items() if values}

    def _retry(self, plugin: str, call: Callable[[], T]) -> T:
        for pause in PAUSES:
            try:
                return call()
            except Transient as error:
                self.story(f"{plugin}: {error}; trying again in {pause:g} s")
                time.sleep(pause)
        return call()


def _check_notes(notes: dict[str, Any]) -> None:
    """Fail the plugin that made a note which cannot be stored."""
    try:
        json.dumps(notes, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        notes.clear()
        raise


@contextmanager
def _record_errors(stage: str, plugin: str) -> Iterator[None]:
    try:
        yield
    except (StopRun, StepError):
        raise
    except OSError as error:
        if error.errno in _DISK_ERRORS:  # every further image would fail the same way
            raise StopRun(f"{plugin or stage}: {error}") from error
        raise StepError(describe_failure(stage, plugin, error)) from error
    except MaskmillError as error:  # raised on purpose: its text is enough, no traceback
        raise StepError(Failure(stage, plugin, type(error).__name__, _clean(str(error)))) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit and CancelledError of a plugin must not end the run
        raise StepError(describe_failure(stage, plugin, error)) from error


def describe_failure(stage: str, plugin: str, error: BaseException) -> Failure:
    """The record of an unexpected exception."""
    trace = "".join(traceback.format_exception(error))
    try:
        text = str(error) or "no message"
    except Exception:
        text = "no readable message"
    if isinstance(error, ImportError) and (hint := explain_import(error)):
        text = f"{text}; {hint}"
    return Failure(stage, plugin, type(error).__name__, _clean(text), _clean(trace))


def _clean(text: str) -> str:
    """The text as it is recorded: shortened, without memory addresses and invalid surrogate characters."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return remove_addresses(text).encode("utf-8", "backslashreplace").decode()


def remove_addresses(text: str) -> str:
    """The text without memory addresses, which differ from run to run."""
    return re.sub(r"0x[0-9a-fA-F]{6,}", "0x…", text)


def _call_seeded(call: Callable[[], T], seed: str) -> T:
    """Call with every random generator set from the image, so that results do not depend on order."""
    number = zlib.crc32(seed.encode())
    random.seed(number)
    np.random.seed(number)
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(number)
    if (cv2 := sys.modules.get("cv2")) is not None and hasattr(cv2, "setRNGSeed"):
        cv2.setRNGSeed(number % 2**31)
    return call()
