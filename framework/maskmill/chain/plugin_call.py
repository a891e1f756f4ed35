"""One call into a plugin: timed, seeded, retried when it asks for it, its exceptions caught."""

from __future__ import annotations

import errno
import json
import random
import re
import reprlib
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ..errors import MaskmillError, StopRun, Transient
from ..plugins.stage import collecting
from ..results import Failure

T = TypeVar("T")
#: Seconds before the second and the third try of a call that raised `Transient`.
PAUSES = (1.0, 4.0)
#: Characters of a message or a traceback that are recorded.
LONGEST = 10_000
_NO_ROOM = frozenset({errno.ENOSPC, errno.EROFS, errno.EDQUOT})


class StepError(Exception):
    """A step of the chain failed on this image; carries the record of it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass
class Trace:
    """What happens to one image on its way through a chain, beside its result.

    Attributes:
        seconds: by stage ("read", "prompts", "backend", "filters", "writers").
        story: called with a line for each step, for `-v`.
        notes: what the stages noted, by plugin name.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    story: Callable[[str], None] = lambda line: None
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)

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
            with _recorded(stage, plugin), collecting(notes, self.story):
                answer = self._tried(plugin, partial(_seeded, call, stage + seed))
                _check_notes(notes)
                return answer
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def _tried(self, plugin: str, call: Callable[[], T]) -> T:
        for pause in PAUSES:
            try:
                return call()
            except Transient as error:
                self.story(f"{plugin}: {error}; trying again in {pause:g} s")
                time.sleep(pause)
        return call()


def several(kind: type[T], call: Callable[..., object], *given: Any) -> list[T]:
    """What a plugin's method returns that has to give a list of these.

    Raises:
        TypeError: it gave something else.
    """
    answer = call(*given)
    if isinstance(answer, (list, tuple)) and all(isinstance(item, kind) for item in answer):
        return list(answer)
    raise TypeError(f"expected a list of {kind.__name__}, not {reprlib.repr(answer)}")


def _check_notes(notes: dict[str, Any]) -> None:
    """A note that cannot be stored is the fault of the plugin that made it, here and now."""
    try:
        json.dumps(notes, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        notes.clear()
        raise


@contextmanager
def _recorded(stage: str, plugin: str) -> Iterator[None]:
    try:
        yield
    except (StopRun, StepError):
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:  # every further image would fail the same way
            raise StopRun(f"{plugin or stage}: {error}") from error
        raise StepError(failure_of(stage, plugin, error)) from error
    except MaskmillError as error:  # raised on purpose: its text says all
        raise StepError(Failure(stage, plugin, type(error).__name__, _recordable(str(error)))) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() and a cancelled coroutine are no way to end a run
        raise StepError(failure_of(stage, plugin, error)) from error


def failure_of(stage: str, plugin: str, error: BaseException) -> Failure:
    """The record of an exception that nobody raised on purpose."""
    trace = "".join(traceback.format_exception(error))
    try:
        text = str(error) or "no message"
    except Exception:
        text = "no readable message"
    return Failure(stage, plugin, type(error).__name__, _recordable(text), _recordable(trace))


def _recordable(text: str) -> str:
    """Fit for every record: no addresses, no half characters, no novel."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return without_addresses(text).encode("utf-8", "backslashreplace").decode()


def without_addresses(text: str) -> str:
    """The text without memory addresses, which differ from run to run."""
    return re.sub(r"0x[0-9a-fA-F]{6,}", "0x…", text)


def _seeded(call: Callable[[], T], seed: str) -> T:
    """Call with every random generator set from the image, so that results do not depend on order."""
    number = zlib.crc32(seed.encode())
    random.seed(number)
    np.random.seed(number)
    if (torch := sys.modules.get("torch")) is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(number)
    if (cv2 := sys.modules.get("cv2")) is not None and hasattr(cv2, "setRNGSeed"):
        cv2.setRNGSeed(number % 2**31)
    return call()
