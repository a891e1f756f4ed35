"""The loop that keeps slots busy, against an engine that dies on demand."""

from collections import Counter

import pytest

from maskmill import ImageRef
from maskmill.plugins.engine import Engine
from maskmill.plugins.messages import OpenFailure, Reply, Task, WorkerDied
from maskmill.run.dispatch import MAX_TRIES, QueuedImage, SlotGivenUp, dispatch
from maskmill.run.stop import Stop


class Scripted(Engine):
    """Runs tasks at once; the script says what becomes of an image: it dies so often, opening or at work."""

    def start(self, script, slots, environment):
        self._script = script
        self._slots = slots
        self._running = {}
        self._tries = Counter()
        self._waits = Counter()
        self._most = 0

    def slots(self):
        return self._slots

    def room(self):
        return self._slots - len(self._running)

    def submit(self, token, task, timeout):
        assert self.room(), "more tasks than slots"
        self._running[token] = task
        self._most = max(self._most, len(self._running))

    def wait(self, seconds):
        for token, task in list(self._running.items()):
            name = task.ref.key
            does = self._script.get(name, {})
            if self._waits[name] < does.get("waits", 0):
                self._waits[name] += 1
                continue
            del self._running[token]
            self._tries[name] += 1
            if does.get("not_opened"):
                yield token, OpenFailure("no model")
            elif self._tries[name] <= does.get("dies_opening", 0):
                self._slots -= 1
                yield token, OpenFailure("exit code -9", died=True)
            elif self._tries[name] <= does.get("deaths", 0):
                yield token, WorkerDied("exit code -9")
            else:
                yield token, Reply("done", lines=(name,))

    def stop(self, kill):
        self._running.clear()


def queued(name, lost=0):
    return QueuedImage(Task(ImageRef(name, name), "", False, ""), lost=lost)


def outcomes(script, slots=2, stop=None, lost=0):
    engine = Scripted()
    engine.start(script, slots, {})
    images = (queued(name, lost) for name in script)
    return engine, [e for e in dispatch(engine, images, 0, stop or Stop()) if e is not None]


def numbered(count, **more):
    return {str(n): more for n in range(count)}


def test_every_item_comes_back_once_and_slots_are_used():
    engine, found = outcomes(numbered(10), slots=3)
    assert sorted(image.key for image, _ in found) == sorted(str(n) for n in range(10))
    assert engine._most == 3


@pytest.mark.parametrize(("deaths", "succeeds"), [(0, True), (1, True), (2, True), (3, False), (9, False)])
def test_an_item_is_tried_three_times(deaths, succeeds):
    engine, found = outcomes({"a": {}, "b": {"deaths": deaths}, "c": {}})
    mine = [(image.lost, outcome) for image, outcome in found if image.key == "b"]
    assert engine._tries["b"] == min(deaths + 1, MAX_TRIES)
    assert isinstance(mine[-1][1], Reply) is succeeds
    assert mine[-1][0] == min(deaths, MAX_TRIES)
    assert {"a", "c"} <= {outcome.lines[0] for _, outcome in found if isinstance(outcome, Reply)}


def test_losses_of_earlier_runs_count():
    engine, found = outcomes({"a": {"deaths": 9}}, slots=1, lost=2)
    assert engine._tries["a"] == 1
    assert found[0][0].lost == 3
    assert found[0][0].is_spent


def test_stop_lets_running_items_end_and_draws_no_more():
    stop = Stop()
    engine = Scripted()
    engine.start({}, 2, {})
    found = []
    for event in dispatch(engine, (queued(str(n)) for n in range(100)), 0, stop):
        if event is not None:
            found.append(event)
            stop.request("enough")
    assert len(found) == 2
    assert stop.reason == "enough"


def test_a_slot_that_does_not_get_ready_is_given_up_while_another_works():
    script = {"a": {}, "b": {"dies_opening": 2}, **numbered(20)}
    _, found = outcomes(script, slots=3)
    assert [outcome.slots for _, outcome in found if isinstance(outcome, SlotGivenUp)] == [2, 1]
    done = [image for image, outcome in found if isinstance(outcome, Reply)]
    assert sorted(image.key for image in done) == sorted(script)
    assert {image.lost for image in done} == {0}


def test_slots_that_die_before_any_other_is_ready_are_given_up_once_one_works():
    script = {"slow": {"waits": 5}, "b": {"dies_opening": 1}, "c": {"dies_opening": 1}}
    _, found = outcomes(script, slots=3)
    assert [type(outcome) for _, outcome in found] == [Reply, SlotGivenUp, SlotGivenUp, Reply, Reply]
    assert {outcome.slots for _, outcome in found if isinstance(outcome, SlotGivenUp)} == {1}


def test_slots_that_all_die_before_any_is_ready_end_the_run():
    _, found = outcomes({name: {"waits": waits, "dies_opening": 9} for waits, name in enumerate("abc")}, slots=3)
    assert [type(outcome) for _, outcome in found] == [OpenFailure]


@pytest.mark.parametrize(("before", "slots"), [(0, 3), (5, 1)], ids=["no slot ever got ready", "it is the only slot"])
def test_the_last_slot_is_not_given_up(before, slots):
    _, found = outcomes({**numbered(before), "b": {"dies_opening": 1}}, slots)
    assert isinstance(found[-1][1], OpenFailure)


def test_a_chain_that_does_not_open_is_passed_on():
    _, found = outcomes({"a": {"not_opened": True}})
    assert isinstance(found[0][1], OpenFailure)


def test_a_stop_while_the_engine_opens_its_chains_waits_for_nothing():
    class Opening(Scripted):
        def wait(self, seconds):
            stop.request("interrupted")
            return ()

        def is_opening(self):
            return True

    stop, engine, running = Stop(), Opening(), {}
    engine.start({}, 2, {})
    assert list(dispatch(engine, iter([queued("a"), queued("b")]), 0, stop, running)) == [None]
    assert len(running) == 2, "what was in progress can be shown"
