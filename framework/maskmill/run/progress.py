"""Progress: a bar on a terminal, a plain line every ten seconds elsewhere, JSON lines for programs."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from tqdm import tqdm

from ..display import in_notebook
from ..plugins.stage import is_installed

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts images and shows how far the run is.

    Args:
        listing: yields something for each image of the dataset; counted in the background,
            so that the first image does not wait for the last folder.
        quiet: show nothing.
    """

    def __init__(self, listing: Iterable[object], quiet: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.finished = 0
        self.skipped = 0
        self.total: int | None = None
        self._quiet = quiet
        self._bar: tqdm[Any] | None = None
        self._started = time.monotonic()
        self._line_at = self._started
        if not quiet:
            threading.Thread(target=self._count, args=(listing,), daemon=True).start()
        if not quiet and type(self) is Progress and (sys.stderr.isatty() or in_notebook()):
            self._bar = _choose_bar()(unit=" images", dynamic_ncols=True, smoothing=0.05)

    def _count(self, listing: Iterable[object]) -> None:
        try:
            self.total = sum(1 for _ in listing)
        except Exception:  # the run itself gets the same error and reports it
            self.total = None

    def log(self, line: str) -> None:
        """Print a line."""
        with contextlib.suppress(OSError):  # a closed terminal must not end the run
            if self._bar is not None:
                self._bar.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)

    def skip(self, images: int) -> None:
        """Count images that were up to date already."""
        self.skipped += images

    def step(self, status: str, key: str, seconds: float, doubts: Collection[str] = ()) -> None:
        """Count an image that has its status and doubts, after this many seconds of work."""
        self.count(status, doubts)
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.update()
                self._bar.set_postfix(self.counts, refresh=False)

    def count(self, status: str, doubts: Collection[str]) -> None:
        """Count an image; a finished one also as doubtful if it has doubts."""
        self.counts[status] += 1
        self.finished += 1
        if doubts and status in ("done", "empty"):
            self.counts["doubtful"] += 1

    def tick(self) -> None:
        """Called often: refresh what is shown if that is due."""
        left = None if self.total is None else max(0, self.total - self.skipped)
        if self._bar is not None:
            if self._bar.total != left and left is not None:
                self._bar.total = left
                with contextlib.suppress(OSError):
                    self._bar.refresh()
        elif not self._quiet and time.monotonic() - self._line_at >= SECONDS_BETWEEN_LINES:
            self._line_at = time.monotonic()
            self._show(left)

    def _show(self, left: int | None) -> None:
        self.log(self._line(left))

    def _line(self, left: int | None) -> str:
        done = self.finished
        rate = done / max(1e-9, time.monotonic() - self._started)
        of = "" if left is None else f" of {left}"
        eta = "" if left is None or not done else f", {_duration((left - done) / rate)} left"
        counts = ", ".join(f"{status} {count}" for status, count in sorted(self.counts.items()))
        return f"{done}{of} images, {rate:.2f} images/s{eta}: {counts or 'none finished yet'}"

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()
            self._bar = None


def _choose_bar() -> type[tqdm[Any]]:
    """The bar of a terminal or, with ipywidgets, that of a notebook."""
    if in_notebook() and is_installed("ipywidgets"):
        bar: type[tqdm[Any]] = importlib.import_module("tqdm.auto").tqdm
        return bar
    return tqdm


def _duration(seconds: float) -> str:
    return str(tqdm.format_interval(max(0, seconds)))


class JsonLog(Progress):
    """The same as one JSON object a line on the standard error, for programs that watch a run.

    Every object has `time` (seconds since 1970) and `event`: "message" (`text`), "image" (`key`,
    `status`, `seconds`, `doubts`) or "progress" (`done`, `of`, `counts`).
    """

    def log(self, line: str) -> None:
        """A message."""
        self._write("message", text=line)

    def step(self, status: str, key: str, seconds: float, doubts: Collection[str] = ()) -> None:
        """An image."""
        self.count(status, doubts)
        self._write("image", key=key, status=status, seconds=round(seconds, 3), doubts=sorted(doubts))

    def _show(self, left: int | None) -> None:
        self._write("progress", done=self.finished, of=left, counts=dict(self.counts))

    def _write(self, event: str, **values: Any) -> None:
        content = {"time": round(time.time(), 3), "event": event, **values}
        with contextlib.suppress(OSError):
            print(json.dumps(content, ensure_ascii=False), file=sys.stderr, flush=True)
