"""Progress: a bar on a terminal, a plain line every ten seconds elsewhere, JSON lines for programs."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

from tqdm import tqdm
from tqdm.utils import disp_len

from ..display import in_notebook
from ..output.hosts import format_hosts
from ..plugins.packages import is_installed
from ..results import RunInfo, RunReport
from ..wording import count_noun
from .events import write_event
from .stop import Stop

SECONDS_BETWEEN_LINES = 10.0
#: How soon a signal is answered, and how often a bar is drawn while no image finishes.
SECONDS_BETWEEN_TICKS, SECONDS_BETWEEN_BARS = 0.1, 1.0
#: Columns of the bar itself; where there is less room, numbers alone say more.
SHORTEST_BAR = 10


class Progress:
    """Counts images and shows how far the run is, from a thread of its own; a context manager.

    That thread also answers signals: a signal handler must not print.

    Args:
        quiet: show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self.finished = 0
        self.skipped = 0
        self.total: int | None = None
        self._quiet = quiet
        self._bar: tqdm[Any] | None = None
        self._doing: Callable[[], str] = lambda: "starting"
        self._stop: Stop | None = None
        self._count_running: Callable[[], int] = lambda: 0
        self._hosts: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
        self._answered = 0
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._started = self._line_at = self._bar_at = time.monotonic()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        if not self._quiet:
            if (sys.stderr.isatty() or in_notebook()) and type(self) is Progress:
                self._bar = _choose_bar()(
                    unit="image", dynamic_ncols=True, smoothing=0.05, miniters=1, bar_format="{desc}"
                )
                self._draw()
            self._ticker.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def describe(self, doing: str | Callable[[], str]) -> None:
        """Set what the run is doing while no images finish; a function is called again and again, "" hides it."""
        self._doing = doing if callable(doing) else lambda: doing
        self._draw()

    def count_in_background(self, listing: Iterable[object]) -> None:
        """Count the images in a thread, so that the first one does not wait for the last folder."""
        if not self._quiet:
            threading.Thread(target=self._count, args=(listing,), daemon=True).start()

    def _count(self, listing: Iterable[object]) -> None:
        try:
            self.total = sum(1 for _ in listing)
        except Exception:  # the run itself gets the same error and reports it
            self.total = None

    def answer(self, stop: Stop, count_running: Callable[[], int]) -> None:
        """Answer signals from now on.

        Args:
            stop: what a signal requests.
            count_running: how many images are in progress.
        """
        self._stop, self._count_running = stop, count_running

    def show_hosts(self, hosts: Callable[[], Mapping[str, Mapping[str, Any]]]) -> None:
        """Show the machines that work for the run, if they are several; a function as `Engine.hosts`."""
        self._hosts = hosts

    def begin(self, info: RunInfo, command: str, images: int | None) -> None:
        """The run begins, on so many images; None if they are not listed to the end yet."""

    def end(self, report: RunReport) -> None:
        """The run has ended."""

    def log(self, line: str) -> None:
        """Print a line."""
        with contextlib.suppress(OSError), self._lock:  # a closed terminal must not end the run
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
            with contextlib.suppress(OSError), self._lock:
                self._format(self._bar)
                self._bar.update()

    def count(self, status: str, doubts: Collection[str]) -> None:
        """Count an image; a finished one also as doubtful if it has doubts."""
        self.counts[status] += 1
        self.finished += 1
        if doubts and status in ("done", "empty"):
            self.counts["doubtful"] += 1

    @property
    def _left(self) -> int | None:
        """The images of this run, without those that are up to date."""
        return None if self.total is None else max(0, self.total - self.skipped)

    def _tick(self) -> None:
        while not self._closed.wait(SECONDS_BETWEEN_TICKS):
            self._answer_signal()
            now = time.monotonic()
            if self._bar is not None:
                if now - self._bar_at >= SECONDS_BETWEEN_BARS:
                    self._bar_at = now
                    self._draw()
            elif now - self._line_at >= SECONDS_BETWEEN_LINES:
                self._line_at = now
                self._show()

    def _answer_signal(self) -> None:
        """Say once that the run ends after the images in progress, and once that it ends at once."""
        if self._stop is None or not self._stop.interrupted:
            return
        if not self._answered:
            self._answered = 1
            running = self._count_running()
            doing = f"finishing {count_noun(running, 'image')} in progress" if running else "stopping"
            self.log(f"{doing}; press Ctrl-C again to stop at once")
        if self._stop.at_once and self._answered == 1:
            self._answered = 2
            self.log("stopping at once")

    def _draw(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._lock:  # ValueError: a closed stream
            if self._bar is not None:
                self._format(self._bar)
                self._bar.refresh()

    def _format(self, bar: tqdm[Any]) -> None:
        """Choose the form that fits into the terminal."""
        left = self._left
        bar.total = None if left is None else max(left, self.finished)  # tqdm has no percentage of more than all
        values = bar.format_dict
        columns = values["ncols"] if isinstance(values["ncols"], int) else 80  # a notebook's bar has "100%"
        doing, counts, has_total = self._doing(), self._format_counts(), bool(bar.total)
        forms = list_forms(doing, counts, has_total, self._format_counts("done"))
        if hosts := format_hosts(self._hosts()):
            forms = [list_forms(doing, f"{counts}; {hosts}", has_total)[0], *forms]
        for form in forms:
            bar.bar_format = form
            text = bar.format_meter(**{**values, "bar_format": form.replace("{bar}", " " * SHORTEST_BAR)})
            if disp_len(text) < columns:
                return

    def _format_counts(self, without: str = "") -> str:
        return ", ".join(f"{status} {count}" for status, count in sorted(self.counts.items()) if status != without)

    def _show(self) -> None:
        self.log(self._line(self._left))

    def _line(self, left: int | None) -> str:
        hosts = format_hosts(self._hosts())
        return f"{self._numbers(left)}{hosts and '; '}{hosts}"

    def _numbers(self, left: int | None) -> str:
        done, counts = self.finished, self._format_counts()
        of = "" if left is None else f" of {left}"
        seconds = time.monotonic() - self._started
        if doing := self._doing():
            return f"{done}{of} images, {doing}, {_duration(seconds)}{f': {counts}' if done else ''}"
        rate = done / max(1e-9, seconds)
        eta = "" if left is None or not done else f", {_duration((left - done) / rate)} left"
        return f"{done}{of} images, {rate:.2f} images/s{eta}: {counts or 'none finished yet'}"

    def close(self) -> None:
        """Stop showing progress; the bar stays as it is, unless no image has finished. Idempotent."""
        self._closed.set()
        if self._ticker.is_alive():
            self._ticker.join()
        if self._bar is not None:
            if self.finished:
                self.describe("")
            with contextlib.suppress(OSError, ValueError):
                self._bar.leave = bool(self.finished)
                self._bar.close()
            self._bar = None


def list_forms(doing: str, counts: str, has_total: bool, not_done: str = "") -> Sequence[str]:
    """What a bar can look like, as tqdm formats it: the most telling first, the shortest last.

    Args:
        doing: what the run is doing while no images finish, "" while they do.
        counts: images by status, "" if none has finished.
        has_total: whether it is known how many images there are.
        not_done: `counts` without those that are done, for narrow terminals.
    """
    doing, counts, not_done = (text.replace("{", "{{").replace("}", "}}") for text in (doing, counts, not_done))
    so_far = "{n_fmt}/{total_fmt}" if has_total else "{n_fmt}"
    if doing:
        full = ", ".join([f"{so_far} images", doing, *([counts] if counts else []), "{elapsed}"])
        return [full, f"{so_far}, {doing}, {{elapsed}}", f"{doing}, {{elapsed}}", f"{so_far}, {{elapsed}}"]
    parts = [so_far, *([counts] if counts else [])]
    shorter = [", ".join([*parts, "{elapsed}"]), ", ".join(parts)]
    shorter += [f"{so_far}, {not_done}", so_far] if not_done else [so_far]
    if not has_total or not counts:  # before the first image there is no telling how long the rest takes
        return [", ".join([f"{so_far} images", *parts[1:], "{elapsed}, {rate_fmt}"]), *shorter]
    times = "[{elapsed}<{remaining}, {rate_fmt}]"
    full = f"{{percentage:3.0f}}%|{{bar}}| {so_far} {times} {counts}"
    return [full, ", ".join([*parts, "{elapsed}<{remaining}"]), *shorter]


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

    docs/pipelines.md lists the events and their members.
    """

    def begin(self, info: RunInfo, command: str, images: int | None) -> None:
        """The first event of the work."""
        about = {"name": info.name, "output": str(info.output), "jobs": info.jobs, "threads": info.threads}
        write_event("start", **about, images=images, command=command)

    def end(self, report: RunReport) -> None:
        """The last event: the report."""
        write_event("end", exit_code=report.exit_code, **asdict(report))

    def log(self, line: str) -> None:
        """A message."""
        write_event("message", text=line)

    def step(self, status: str, key: str, seconds: float, doubts: Collection[str] = ()) -> None:
        """An image."""
        self.count(status, doubts)
        write_event("image", key=key, status=status, seconds=round(seconds, 3), doubts=sorted(doubts))

    def _show(self) -> None:
        hosts = {"hosts": found} if (found := self._hosts()) else {}
        counts, doing = dict(self.counts), self._doing()
        write_event("progress", done=self.finished, of=self._left, counts=counts, doing=doing, **hosts)
