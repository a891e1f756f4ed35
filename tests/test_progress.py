"""What a run shows while it works: the bar on terminals of several widths, lines elsewhere, answers to signals."""

import os
import re
import threading
import time

import pytest

from maskmill import Pipeline
from maskmill.run import progress as progress_module
from maskmill.run.progress import Progress, list_forms
from maskmill.run.stop import Stop

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")


class Terminal:
    """A pseudo-terminal in the place of the standard error; `lines` are all that were drawn."""

    def __init__(self, columns):
        import fcntl
        import struct
        import termios

        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._data = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        try:
            while data := os.read(self._master, 4096):
                self._data += data
        except OSError:  # how Linux reports the end
            pass

    def lines(self):
        self.stream.close()
        self._reader.join(10)
        os.close(self._master)
        drawn = re.split(r"\r|\n|\x1b\[A", self._data.decode("utf-8"))
        return [line.rstrip() for line in drawn if line.strip()]


@POSIX
@pytest.mark.parametrize(
    ("columns", "last"),
    [
        (40, r"2/2, done 1, failed 1, 00:0\d<00:00"),
        (120, r"100%\|█+\| 2/2 \[00:0\d<00:00, .*/image\] done 1, failed 1"),
    ],
    ids=["40", "120"],
)
def test_the_bar_moves_from_the_start_and_says_what_the_run_does(project, monkeypatch, columns, last):
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_BARS", 0.1)
    project.write("{use: slow, seconds: 1.1}")
    project.photos("a.png", "raise.png")
    terminal = Terminal(columns)
    monkeypatch.setattr("sys.stderr", terminal.stream)
    Pipeline.load(project.file).run()
    lines = terminal.lines()
    bars = [line for line in lines if re.search(r"\d\d:\d\d", line)]
    doing = [line.split(", ")[1] for line in bars if line.count(", ") == 2 and "done" not in line]
    assert {"checking the pipeline", "listing images", "preparing", "first image"} <= set(doing)
    assert len({bar for bar in bars if bar.startswith("0/2 images, first image, ")}) > 1, "the clock moves"
    assert not [line for line in bars if "<?" in line]
    assert max(map(len, bars)) <= columns
    assert re.fullmatch(last, bars[-1])


@pytest.mark.parametrize(
    ("doing", "counts", "has_total", "shortest"),
    [
        ("loading sam", "", True, "{n_fmt}/{total_fmt}, {elapsed}"),
        ("", "done 1", True, "{n_fmt}/{total_fmt}"),
        ("", "done 1", False, "{n_fmt}"),
    ],
)
def test_a_bar_has_a_form_for_every_width(doing, counts, has_total, shortest):
    forms = list_forms(doing, counts, has_total)
    assert forms[-1] == shortest
    assert doing in forms[0] and counts in forms[0]


@POSIX
def test_on_a_narrow_terminal_the_failures_stay_in_sight(monkeypatch):
    terminal = Terminal(40)
    monkeypatch.setattr("sys.stderr", terminal.stream)
    with Progress() as progress:
        progress.describe("")
        progress.total = 20000
        progress._draw()
        progress.counts.update(done=11000, failed=312)
        progress.finished = 11312
        progress.step("empty", "a.png", 0.1)
        progress._bar.n = 11313
        progress._draw()
    lines = terminal.lines()
    assert not [line for line in lines if "<?" in line]
    assert lines[-1] == "11313/20000, empty 1, failed 312"


def test_where_there_is_no_terminal_a_line_comes_now_and_then(project, monkeypatch, capsys):
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", 0.15)
    project.write("{use: slow, seconds: 0.6}")
    project.photos("a.png", "b.png")
    Pipeline.load(project.file).run()
    said = capsys.readouterr().err
    assert re.search(r"^0 of 2 images, first image, 00:\d\d$", said, re.MULTILINE)
    assert re.search(r"^1 of 2 images, .* images/s, 00:\d\d left: done 1$", said, re.MULTILINE)
    assert "\r" not in said and "|" not in said, "no bar"


@pytest.mark.parametrize(
    ("running", "answer"),
    [(2, "finishing 2 images in progress"), (1, "finishing 1 image in progress"), (0, "stopping")],
)
def test_signals_are_answered_once_each_while_the_driver_waits(capsys, running, answer):
    stop = Stop()
    said = []
    with Progress() as progress:
        progress.log = said.append
        progress.answer(stop, lambda: running)
        for expected in (1, 2, 2):
            stop.interrupt()
            deadline = time.monotonic() + 30
            while len(said) < expected and time.monotonic() < deadline:
                time.sleep(0.01)
    assert said == [f"{answer}; press Ctrl-C again to stop at once", "stopping at once"]


@POSIX
def test_a_bar_of_more_images_than_were_counted_goes_on(monkeypatch):
    terminal = Terminal(80)
    monkeypatch.setattr("sys.stderr", terminal.stream)
    with Progress() as progress:
        progress.describe("")
        progress.total = 0
        for key in "ab":
            progress.step("done", key, 0.1)
    assert terminal.lines()[-1].startswith("100%|")
