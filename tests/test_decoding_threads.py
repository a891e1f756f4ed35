"""Threads that decode prompts side by side."""

from __future__ import annotations

import threading

import loky
import pytest

torch = pytest.importorskip("torch")

from maskmill_plugins._shared.sam.decoding_threads import LEAST_NUMBERS, DecodingThreads  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def threads(monkeypatch):
    monkeypatch.setattr(loky, "cpu_count", lambda: 2)
    threads = DecodingThreads(5)  # as many as there are cores: two
    yield threads
    threads.close()


def test_items_are_worked_on_at_the_same_time_and_come_back_in_order(threads):
    both = threading.Barrier(2)
    names = threads.map(lambda item: (item, both.wait(10) >= 0, threading.current_thread().name), [5, 3])
    assert [item for item, *_ in names] == [5, 3]
    assert len({name for *_, name in names}) == 2


def test_there_are_no_more_threads_than_cores(threads):
    three = threading.Barrier(3)
    with pytest.raises(threading.BrokenBarrierError):
        threads.map(lambda _: three.wait(0.1), range(3))


def test_torch_uses_one_thread_in_each_and_as_many_as_before_elsewhere(monkeypatch):
    monkeypatch.setattr(loky, "cpu_count", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    threads = DecodingThreads(2)
    assert threads.map(lambda _: torch.get_num_threads(), range(4)) == [1, 1, 1, 1]
    assert threads.run(torch.get_num_threads) == 1
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
    threads.close()


def test_an_error_of_one_item_is_raised(threads):
    with pytest.raises(ZeroDivisionError):
        threads.map(lambda item: 1 / item, [1, 0, 2])


def test_little_work_is_done_by_one_of_them_with_one_torch_thread(threads):
    found = threads.map(lambda item: (item, threading.current_thread().name), [1, 2, 3], numbers=LEAST_NUMBERS - 1)
    assert [item for item, _ in found] == [1, 2, 3]
    assert {name.startswith("decoding") for _, name in found} == {True}
    assert len({name for _, name in found}) == 1
    assert threads.map(lambda _: torch.get_num_threads(), range(3), numbers=1) == [1, 1, 1]


def test_closing_ends_the_threads(threads):
    threads.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decoding")]


def test_one_thread_is_the_callers():
    threads = DecodingThreads(1)
    assert threads.map(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]
    assert threads.run(threading.current_thread) is threading.current_thread()
