"""The prompt lane: sources that wait run ahead, deaths in it, what it saves."""

import json
import os
import time

import pytest

from maskmill import Pipeline, PluginError

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
WAITING = '''
import os, signal, threading, time
from pathlib import Path
from maskmill import Box, ImageError, Prompt, PromptSource, StopRun, hookimpl


class Asks(PromptSource):
    """Waits, then gives one box; counts calls, and the most at a time, in files."""

    waits = True
    seconds: float = 0.0
    threads: int = 4
    log: str = ""
    knows: bool = True
    refuse: bool = False

    def at_once(self):
        return self.threads

    def open(self):
        if self.refuse:
            raise ValueError("no key")
        self._lock, self._now = threading.Lock(), 0

    def prompts(self, image):
        name = image.ref.key
        with self._lock:
            self._now += 1
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(f"{name} {self._now} {os.getpid()}\\n")
        print("a plugin that prints does no harm")
        time.sleep(self.seconds)
        tries = Path(self.log).read_text(encoding="utf-8").count(name + " ")
        if "kill" in name or ("once" in name and tries < 2):
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
        if "sleep" in name:
            time.sleep(600)
        if "wrong" in name:
            raise ImageError("refused by the other side")
        if "budget" in name:
            raise StopRun("budget spent")
        with self._lock:
            self._now -= 1
        self.note("reply", name)
        return [Prompt(box=Box(10, 10, 30, 30), label="thing")] if self.knows else None


@hookimpl
def register_prompt_sources(register):
    register("asks", Asks)
'''


@pytest.fixture
def asking(project):
    (project.folder / "plugins" / "asks.py").write_text(WAITING, encoding="utf-8")

    def write(options="", backend="{use: slow}", run="{engine: joblib, jobs: 2}", before="", **values):
        log = (project.folder / "asked.txt").as_posix()
        project.write(backend, run)
        text = project.file.read_text(encoding="utf-8")
        source = f"[{before}{{use: asks, log: '{log}'{options}}}]"
        project.file.write_text(text.replace("[{use: middle}]", source), encoding="utf-8")

    write()
    project.ask = write
    return project


def run(project, **options):
    return Pipeline.load(project.file).run(quiet=True, **options)


def asked(project):
    path = project.folder / "asked.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(name, int(now), int(pid)) for name, now, pid in map(str.split, lines)]


@pytest.mark.parametrize("engine", ["joblib", "inline"])
def test_answers_travel_with_the_image(asking, engine):
    asking.ask(run=f"{{engine: {engine}, jobs: 2}}")
    asking.photos("a.png", "b.png", "图.png", "empty.png")
    report = run(asking)
    assert report.counts == {"done": 3, "empty": 1, "rejected": 0, "failed": 0, "quarantined": 0}
    assert sorted(name for name, _, _ in asked(asking)) == ["a.png", "b.png", "empty.png", "图.png"]
    result = json.loads((asking.output / "results/a.png.json").read_text(encoding="utf-8"))
    assert result["prompts"][0]["source"] == "asks"
    assert result["notes"] == {"asks": {"reply": "a.png"}}


def test_lane_and_inline_give_the_same_files(asking):
    asking.photos("a.png", "b.png", "wrong.png")
    run(asking)
    lane = asking.files()
    asking.ask(run="{engine: inline}")
    run(asking, fresh=True)
    assert asking.files() == lane


def test_it_asks_several_at_once_but_not_more_than_told(asking):
    asking.ask(options=", seconds: 0.2, threads: 3")
    asking.many(12)
    run(asking)
    most = max(now for _, now, _ in asked(asking))
    assert most == 3
    assert len({pid for _, _, pid in asked(asking)}) == 1


def test_the_backend_does_not_wait_for_answers(asking):
    """Backend 0.3 s, source 0.6 s, four at once: the backend's time decides, not the sum."""
    asking.ask(
        options=", seconds: 0.6, threads: 4", backend="{use: slow, seconds: 0.3}", run="{engine: joblib, jobs: 1}"
    )
    asking.many(12)
    report = run(asking)
    backend = report.stage_seconds["backend"]
    assert backend >= 12 * 0.3
    assert report.seconds < 12 * 0.9, "waiting and computing overlap"


def test_a_source_before_it_that_knows_saves_the_call(asking):
    asking.ask(before="{use: middle}, ")
    asking.photos("a.png")
    assert run(asking).counts["done"] == 1
    assert asked(asking) == []


def test_nobody_is_asked_again_for_a_new_writer(asking):
    asking.photos("a.png", "b.png")
    run(asking)
    text = asking.file.read_text(encoding="utf-8")
    asking.file.write_text(text.replace("writers: [", "writers: [{use: areas}, "), encoding="utf-8")
    assert run(asking).ran == 2
    assert len(asked(asking)) == 2


def test_what_a_source_raises_fails_the_image_or_stops_the_run(asking):
    asking.photos("a.png", "wrong.png")
    assert run(asking).counts["failed"] == 1
    assert asking.failures()["wrong.png"]["message"] == "refused by the other side"
    asking.photos("budget.png")
    report = run(asking)
    assert (report.outcome, report.message) == ("stopped", "budget spent")


def test_a_source_that_cannot_be_opened_is_the_runs_fault(asking):
    asking.ask(options=", refuse: true")
    asking.photos("a.png")
    with pytest.raises(PluginError, match="prompt source 'asks' cannot be opened: no key"):
        run(asking)


@POSIX
def test_a_death_is_blamed_on_its_image_alone(asking):
    asking.ask(options=", seconds: 0.05, threads: 4")
    asking.many(10)
    asking.photos("kill.png", "once.png")
    report = run(asking)
    assert report.counts == {"done": 11, "empty": 0, "rejected": 0, "failed": 0, "quarantined": 1}
    assert "prompt lane" in asking.failures()["kill.png"]["message"]


@POSIX
def test_a_hang_in_the_lane_is_ended(asking):
    asking.ask(options=", threads: 2", run="{engine: joblib, jobs: 1, timeout: 1.0}")
    asking.photos("a.png", "sleep.png", "z.png")
    started = time.monotonic()
    run(asking)
    assert asking.statuses() == {"a.png": "done", "sleep.png": "quarantined", "z.png": "done"}
    assert asking.failures()["sleep.png"]["type"] == "Timeout"
    assert time.monotonic() - started < 60


LOUD = """
from maskmill import PromptSource, hookimpl


class Loud(PromptSource):
    log: str = ""

    def open(self):
        with open(self.log, "a", encoding="utf-8") as file:
            file.write("opened ")

    def prompts(self, image):
        return None


@hookimpl
def register_prompt_sources(register):
    register("loud", Loud)
"""


@pytest.mark.parametrize(("combine", "times"), [("first", 2), ("all", 2)])
def test_a_source_is_opened_where_it_is_queried_and_nowhere_else(asking, combine, times):
    (asking.folder / "plugins" / "loud.py").write_text(LOUD, encoding="utf-8")
    opened = asking.folder / "opened.txt"
    loud = f"{{use: loud, log: '{opened.as_posix()}'}}"
    asking.ask(before=f"{loud}, ", run="{engine: joblib, jobs: 1}")
    text = asking.file.read_text(encoding="utf-8")
    asking.file.write_text(text.replace("}]\nbackend", f"}}, {loud}]\ncombine: {combine}\nbackend"), encoding="utf-8")
    asking.photos("a.png")
    assert run(asking).exit_code == 0
    assert opened.read_text(encoding="utf-8").count("opened") == times, "once each, in the lane or in the worker"


def test_a_source_behind_one_that_always_answers_is_named_and_not_opened(asking):
    known = LOUD.replace("return None", "return []").replace("    log: str", "    always_answers = True\n    log: str")
    (asking.folder / "plugins" / "loud.py").write_text(known, encoding="utf-8")
    asking.ask(", refuse: true", before=f"{{use: loud, log: '{(asking.folder / 'opened.txt').as_posix()}'}}, ")
    asking.photos("a.png")
    (problem,) = Pipeline.load(asking.file).check()
    assert problem.warning and "'asks' is never asked, because 'loud' before it answers for every" in problem.message
    assert run(asking).counts["empty"] == 1
