"""What the engines for clusters share, with workers that come and go on demand; and slots, with real processes."""

import dataclasses
import os
import sys
from collections import deque
from pathlib import Path

import pytest

from maskmill import ImageRef, Pipeline, testing
from maskmill.plugins.messages import (
    ChainSpec,
    HostLost,
    ModelIds,
    NotBegun,
    OpenFailure,
    PluginSpec,
    Reply,
    Task,
    WorkerDied,
    WorkerSetup,
)
from maskmill.plugins.registry import Registry
from maskmill.run.dispatch import MAX_HOSTS_LOST, QueuedImage, dispatch
from maskmill.run.slot import Slot, SlotAbout, SlotAnswer, SlotSetup
from maskmill.run.slot_process import describe_slot
from maskmill.run.stop import Stop
from maskmill_plugins._shared.cluster.engine import ClusterEngine
from maskmill_plugins._shared.cluster.remote_slots import Answered, Joined, Left, RemoteSlot
from maskmill_plugins._shared.cluster.sameness import compare_slots

HERE = describe_slot()


def make_setup(output="", drop_ins=(), **backend):
    spec = ChainSpec(dict(drop_ins), "first", (), (), PluginSpec(backend.pop("use", "grabcut"), backend, ""), (), ())
    return WorkerSetup(spec, str(output), 10**9, (), ModelIds(), "")


def make_task(name, **values):
    return Task(ImageRef(name, name), "", False, "", **values)


class Scripted(ClusterEngine):
    """Answers at once; `script`: key of an image -> how often its machine is lost, or its process dies, with it."""

    def _connect(self, slots):
        self._events = deque(Joined(RemoteSlot(number, f"host{number}")) for number in range(self._count))
        self._sent = []

    _count = 2

    def _send(self, slot, tasks, kind):
        if kind == "open":
            self._events.append(Answered(slot, SlotAnswer(about=dataclasses.replace(HERE, host=slot.host))))
            return
        self._sent.append([task.ref.key for task in tasks])
        outcomes = []
        for task in tasks:
            does = self._script.setdefault(task.ref.key, {})
            if does.get("hosts", 0) > 0:
                does["hosts"] -= 1
                self._events += [Left(slot, f"{slot.host} went away"), Joined(RemoteSlot(slot.worker, slot.host))]
                return
            if does.get("deaths", 0) > 0:
                does["deaths"] -= 1
                outcomes.append(WorkerDied("exit code SIGKILL(-9)"))
                break
            outcomes.append(Reply("done", lines=(task.ref.key,)))
        self._events.append(Answered(slot, SlotAnswer(outcomes, 0.001 * len(outcomes))))

    def _poll(self, seconds):
        found, self._events = list(self._events), deque()
        return found

    def _disconnect(self, kill):
        pass


def run_scripted(count, script=None, jobs=2, stop=None, **options):
    engine = Scripted(**options)
    engine.start(make_setup(), jobs, {})
    engine._script = script or {}
    images = (QueuedImage(make_task(str(number))) for number in range(count))
    return engine, [event for event in dispatch(engine, images, 0, stop or Stop()) if event is not None]


def test_small_images_travel_together_and_each_has_its_outcome():
    engine, found = run_scripted(200, chunk=16)
    assert sorted(outcome.lines[0] for _, outcome in found) == sorted(str(number) for number in range(200))
    assert max(map(len, engine._sent)) == 16
    assert sum(about["images"] for about in engine.hosts().values()) == 200


def test_a_death_is_its_own_images_and_what_was_not_begun_is_sent_again():
    engine, found = run_scripted(100, {"50": {"deaths": 9}}, chunk=16)
    deaths = [image for image, outcome in found if isinstance(outcome, WorkerDied)]
    assert [image.key for image in deaths] == ["50"] * 3
    assert (deaths[0].lost, deaths[0].hosts_lost) == (3, 0)
    assert sum(isinstance(outcome, Reply) for _, outcome in found) == 99
    assert [keys for keys in engine._sent if "50" in keys][1:] == [["50"], ["50"]], "after a death it is alone"


def test_a_lost_machine_is_nobodys_death_and_its_images_are_sent_alone():
    engine, found = run_scripted(100, {"50": {"hosts": 2}}, chunk=16)
    assert not any(isinstance(outcome, WorkerDied) for _, outcome in found)
    assert sum(isinstance(outcome, Reply) for _, outcome in found) == 100
    assert [keys for keys in engine._sent if "50" in keys][1:] == [["50"], ["50"]]


def test_an_image_with_which_machines_are_lost_again_and_again_is_given_up():
    _, found = run_scripted(40, {"7": {"hosts": 99}}, chunk=4)
    losses = [image for image, outcome in found if isinstance(outcome, HostLost) and image.key == "7"]
    assert len(losses) == losses[0].hosts_lost == MAX_HOSTS_LOST
    assert losses[0].is_spent
    assert losses[0].lost == 0
    assert sum(isinstance(outcome, Reply) for _, outcome in found) == 39


def test_slots_that_join_later_are_used_and_jobs_bounds_them():
    engine = Scripted(chunk=1)
    engine.start(make_setup(), 3, {})
    engine._count = 0
    engine.submit(1, make_task("a"), 0)
    assert list(engine.wait(0)) == [(1, NotBegun())]
    assert (engine.slots(), engine.room()) == (0, 0)
    for number in range(5):
        engine._events.append(Joined(RemoteSlot(number, "host")))
    list(engine.wait(0))
    assert (engine.slots(), engine.room()) == (3, 3)


def test_a_task_for_which_no_slot_is_left_comes_back():
    engine = Scripted()
    engine.start(make_setup(), 1, {})
    engine.submit(1, make_task("a"), 0)
    assert list(engine.wait(0)) == [(1, NotBegun())]
    assert engine.slots() == 1
    engine.submit(2, make_task("a"), 0)
    engine._slots.clear()
    assert list(engine.wait(0)) == [(2, NotBegun())]


def test_a_run_without_workers_stops_after_its_patience():
    stop = Stop()
    engine = Scripted(patience=0.05, address="somewhere")
    engine._count = 0
    engine.start(make_setup(), 2, {})
    assert list(filter(None, dispatch(engine, iter([QueuedImage(make_task("a"))]), 0, stop))) == []
    assert stop.reason == "there has been no worker at somewhere for 0.05 s (engine: patience)"


@pytest.mark.parametrize(
    ("changed", "refusal", "warning"),
    [
        ({}, "", []),
        ({"maskmill": "0.0"}, "far has maskmill 0.0, this machine", []),
        ({"numpy": "1.0"}, "", ["numpy 1.0 instead of"]),
        ({"torch": "99"}, "", ["torch 99 instead of"]),
    ],
    ids=["same", "maskmill", "numpy", "torch"],
)
def test_a_machine_with_other_versions_is_refused_or_named(changed, refusal, warning):
    there = SlotAbout("far", HERE.processor, {**HERE.versions, **changed})
    refused, warnings = compare_slots(there, HERE)
    assert refused.startswith(refusal)
    assert bool(refused) == bool(refusal)
    assert [text.startswith(start) for text, start in zip(warnings, warning, strict=True)] == [True] * len(warning)


def test_another_processor_is_named():
    there = dataclasses.replace(HERE, host="far", processor="Other")
    assert compare_slots(there, HERE)[1][0].startswith("another processor (Other) than this machine")


# --- slots ---

BACKEND = '''
import os, signal, time
from maskmill import hookimpl
from maskmill.testing import FillPrompt

class Odd(FillPrompt):
    """Dies or hangs by the name of the image; dies while it opens if it is told so."""

    def open(self):
        if os.environ.get("ODD") == "die":
            os._exit(3)

    def masks(self, image, prompts, embedding=None):
        if image.ref.key == "die.png":
            os.kill(os.getpid(), signal.SIGKILL)
        while image.ref.key == "hang.png":
            time.sleep(60)
        return super().masks(image, prompts)

@hookimpl
def register_backends(register):
    register("odd", Odd)
'''


class Bench:
    """Slots of a pipeline whose drop-in is on the driver's machine only."""

    def __init__(self, folder):
        (folder / "plugins").mkdir()
        drop_in = folder / "plugins" / "odd.py"
        drop_in.write_text(BACKEND, encoding="utf-8")
        file = folder / "p.yaml"
        lines = ["dataset: .", "prompts: [{use: manual, box: [1, 1, 5, 5]}]", "backend: {use: odd}", "output: out"]
        file.write_text("\n".join(lines), encoding="utf-8")
        config = Pipeline.load(file).config
        models = config.stages().model_ids()
        self.folder = folder
        self.fingerprints = config.fingerprints(models)
        digest = config.backend.stage.digest()
        config.output.mkdir()
        (config.output / "ledger.sqlite").touch()
        self.setup = WorkerSetup(config.chain_spec(), str(config.output), 10**9, (), models, digest)
        self.drop_ins = {str(path): path.read_bytes() for path in config.drop_ins}
        drop_in.unlink()
        self.made = []

    def make(self, **environment):
        self.made.append(Slot(SlotSetup("run", self.setup, self.drop_ins, environment, False)))
        return self.made[-1]

    def task(self, name, **values):
        ref = testing.write_picture(self.folder / f"{name}.png", 8, 8)
        return Task(ref, str(self.fingerprints.of(ref)), False, "", **values)


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    for slot in made.made:
        slot.close(kill=True)


posix = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")


@posix
def test_a_slot_runs_a_drop_in_that_came_as_bytes_and_tells_of_a_death(bench):
    slot = bench.make()
    tasks = [bench.task("a"), bench.task("die"), bench.task("b")]
    opened = slot.open(tasks[0], {})
    assert opened.failure is None
    assert opened.about == HERE
    first, second = slot.run(tasks).outcomes
    assert first.status == "done"
    assert second == WorkerDied("exit code SIGKILL(-9)")
    assert [reply.status for reply in slot.run([tasks[2]]).outcomes] == ["done"]


@posix
def test_a_slot_ends_an_image_at_its_time_limit_with_its_stack(bench):
    slot = bench.make()
    (death,) = slot.run([bench.task("hang", timeout=0.3)]).outcomes
    assert death.timed_out
    assert "in masks" in death.stack


def test_a_slot_that_never_opens_says_so_and_blames_nobody(bench):
    answer = bench.make(ODD="die").open(bench.task("a"), {})
    assert answer.failure == OpenFailure("exit code EXIT(3)", died=True)


def test_a_slot_has_the_variables_that_it_is_given_and_no_other_of_its_run(bench):
    slot = bench.make(ODD="no")
    assert slot.open(bench.task("a"), {}).failure is None
    assert "ODD" not in os.environ
    slot.close(kill=False)
    assert slot.open(bench.task("a"), {}).failure == OpenFailure("the slot was closed")


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, name):
    monkeypatch.setattr("maskmill.plugins.stage.is_installed", lambda package: False)
    engine = Registry.load().build("engine", {"use": name}, Path())
    (problem,) = engine.missing()
    assert problem.hint == f'pip install "maskmill[{name}]"'
