"""One call into a plugin: timed, seeded, retried when it asks for it, its exceptions caught."""

from __future__ import annotations

import errno
import random
import re
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from .errors import MaskmillError, StopRun, Transient
from .results import Failure
from .stages import collecting

T = TypeVar("T")
#: Seconds before the second and the third try of a call that raised `Transient`.
PAUSES = (1.0, 4.0)
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
            with _recorded(stage, plugin), collecting(self.notes.setdefault(plugin, {})):
                for pause in PAUSES:
                    try:
                        return _seeded(call, stage + seed)
                    except Transient as error:
                        self.story(f"{plugin}: {error}; trying again in {pause:g} s")
                        time.sleep(pause)
                return _seeded(call, stage + seed)
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


@contextmanager
def _recorded(stage: str, plugin: str) -> Iterator[None]:
    try:
        yield
    except (StopRun, StepError):
        raise
    except OSError as error:
        if error.errno in _NO_ROOM:  # every further image would fail the same way
            raise StopRun(f"{plugin or stage}: {error}") from error
        raise StepError(_failure(stage, plugin, error)) from error
    except MaskmillError as error:  # raised on purpose: its text says all
        raise StepError(Failure(stage, plugin, type(error).__name__, str(error))) from error
    except Exception as error:
        raise StepError(_failure(stage, plugin, error)) from error


def _failure(stage: str, plugin: str, error: Exception) -> Failure:
    trace = "".join(traceback.format_exception(error))
    text = str(error) or "no message"
    return Failure(stage, plugin, type(error).__name__, without_addresses(text), without_addresses(trace))


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
