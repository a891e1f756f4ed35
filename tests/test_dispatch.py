"""The loop that keeps slots busy, against an engine that dies on demand."""

from collections import Counter

import pytest

from maskmill.plugins.engine import Engine, OpenFailure, WorkerDied
from maskmill.run.dispatch import MAX_TRIES, QueuedImage, SlotGivenUp, Stop, dispatch


class Scripted(Engine):
    """Runs tasks at once; the task says how often it takes its process down."""

    def start(self, worker, slots, environment):
        self._slots = slots
        self._running = {}
        self._tries = Counter()
        self._most = 0

    def submit(self, token, task, timeout):
        assert len(self._running) < self._slots, "more tasks than slots"
        self._running[token] = task
        self._most = max(self._most, len(self._running))

    def wait(self, seconds):
        for token, task in list(self._running.items()):
            del self._running[token]
            self._tries[task["name"]] += 1
            if task.get("not_opened"):
                yield token, OpenFailure("no model")
            elif self._tries[task["name"]] <= task.get("dies_opening", 0):
                yield token, OpenFailure("exit code -9", died=True)
            elif self._tries[task["name"]] <= task.get("deaths", 0):
                yield token, WorkerDied("exit code -9")
            else:
                yield token, {"name": task["name"]}

    def stop(self, kill):
        self._running.clear()


def outcomes(tasks, slots=2, stop=None):
    engine = Scripted()
    engine.start({}, slots, {})
    found = [
        e for e in dispatch(engine, (QueuedImage(task) for task in tasks), slots, 0, stop or Stop()) if e is not None
    ]
    return engine, found


def test_every_item_comes_back_once_and_slots_are_used():
    engine, found = outcomes([{"name": str(n)} for n in range(10)], slots=3)
    assert sorted(item.task["name"] for item, _ in found) == sorted(str(n) for n in range(10))
    assert engine._most == 3


@pytest.mark.parametrize(("deaths", "succeeds"), [(0, True), (1, True), (2, True), (3, False), (9, False)])
def test_an_item_is_tried_three_times(deaths, succeeds):
    engine, found = outcomes([{"name": "a"}, {"name": "b", "deaths": deaths}, {"name": "c"}])
    mine = [(item.lost, outcome) for item, outcome in found if item.task["name"] == "b"]
    assert engine._tries["b"] == min(deaths + 1, MAX_TRIES)
    assert isinstance(mine[-1][1], dict) is succeeds
    assert mine[-1][0] == min(deaths, MAX_TRIES)
    assert {"a", "c"} <= {o["name"] for _, o in found if isinstance(o, dict)}


def test_losses_of_earlier_runs_count():
    engine = Scripted()
    engine.start({}, 1, {})
    found = [e for e in dispatch(engine, iter([QueuedImage({"name": "a", "deaths": 9}, lost=2)]), 1, 0, Stop()) if e]
    assert engine._tries["a"] == 1
    assert found[0][0].lost == 3


def test_stop_lets_running_items_end_and_draws_no_more():
    stop = Stop()
    engine = Scripted()
    engine.start({}, 2, {})
    found = []
    for event in dispatch(engine, (QueuedImage({"name": str(n)}) for n in range(100)), 2, 0, stop):
        if event is not None:
            found.append(event)
            stop.ask("enough")
    assert len(found) == 2
    assert stop.message == "enough"


def test_a_slot_that_does_not_get_ready_is_given_up_while_another_works():
    engine = Scripted()
    engine.start({}, 3, {})
    tasks = [{"name": "a"}, {"name": "b", "dies_opening": 2}, *({"name": str(n)} for n in range(20))]
    found = [e for e in dispatch(engine, (QueuedImage(task) for task in tasks), 3, 0, Stop()) if e is not None]
    assert [outcome.slots for _, outcome in found if isinstance(outcome, SlotGivenUp)] == [2, 1]
    done = [item for item, outcome in found if isinstance(outcome, dict)]
    assert sorted(item.task["name"] for item in done) == sorted(task["name"] for task in tasks)
    assert {item.lost for item in done} == {0}


@pytest.mark.parametrize(("before", "slots"), [(0, 3), (5, 1)], ids=["no slot ever got ready", "it is the only slot"])
def test_the_last_slot_is_not_given_up(before, slots):
    engine = Scripted()
    engine.start({}, slots, {})
    tasks = [*({"name": str(n)} for n in range(before)), {"name": "b", "dies_opening": 1}]
    found = [e for e in dispatch(engine, (QueuedImage(task) for task in tasks), slots, 0, Stop()) if e is not None]
    assert isinstance(found[-1][1], OpenFailure)


def test_a_chain_that_does_not_open_is_passed_on():
    _, found = outcomes([{"name": "a", "not_opened": True}])
    assert isinstance(found[0][1], OpenFailure)
