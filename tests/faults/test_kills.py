"""SIGKILL: of the driver, of workers, of the prompt lane, wherever they are."""

import contextlib
import os
import random
import signal
import sys
import time

import psutil
import pytest
from mill import points, wait_until

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL"),
]


def test_a_driver_killed_three_times_in_a_row(mill):
    mode, total = "lane", 30  # with all kinds of processes that there are
    mill.many(total - 2)
    mill.photos("raise.png", "sub/raise-图.png")
    mill.write(mode, backend="seconds: 0.04", source="seconds: 0.01")
    reference = mill.reference()
    for done in points(mode, 3, total):
        stored = {path: path.stat().st_mtime_ns for path in mill.results()}
        tried = {path.name: mill.tries(path.name[:-5]) for path in stored}
        mill.kill_at(done)
        assert 0.05 * total <= mill.finished() <= 0.95 * total
        assert {name: mill.tries(name[:-5]) for name in tried if "raise" not in name} == {
            name: tries for name, tries in tried.items() if "raise" not in name
        }, "what is stored is not computed again"
    code, said = mill.run()
    assert code == 1, said
    assert list(mill.statuses().values()).count("done") == total - 2
    mill.assert_tidy()
    mill.assert_resumes(reference)


def test_processes_killed_at_random(mill):
    mode, total = "lane", 24
    mill.many(total)
    mill.write(mode, backend="seconds: 0.06", source="seconds: 0.02")
    reference = mill.reference()
    chance = random.Random(mode)
    process = mill.start()
    wait_until(lambda: mill.finished() >= 0.05 * total)
    killed = early = 0
    while mill.finished() < 0.9 * total and process.poll() is None:
        if victims := mill.victims(process):
            victim = chance.choice(victims)
            ready = mill.tries(str(victim.pid), "ready")
            early += not ready
            if ready or early <= 2:  # three in a row while they get ready would end the lane
                with contextlib.suppress(psutil.Error):
                    victim.kill()
                    killed += 1
        done = mill.finished()  # a run gets on between two disasters, be the machine as slow as it likes
        wait_until(lambda done=done: mill.finished() >= done + 2 or process.poll() is not None)
        time.sleep(chance.uniform(0, 0.2))
    code, said = mill.end(process)
    assert killed >= 2
    assert code == 0, said
    mill.assert_tidy()
    mill.assert_resumes(reference)


def test_idle_workers_killed_while_the_lane_is_slow(mill):
    mill.many(4)
    mill.write("lane", source="seconds: 2, threads: 1")  # so long they are idle, however busy the machine
    process = mill.start()
    for done in (1, 3):
        wait_until(lambda done=done: mill.finished() >= done)
        time.sleep(0.7)  # from the result's file to the driver's knowing of it
        for worker in mill.victims(process):
            if worker not in mill.lane(process):
                worker.kill()
    code, said = mill.end(process)
    assert code == 0, said
    assert all(mill.tries(f"{number:03}.png") == 1 for number in range(4)), "nobody was at work when they were killed"
    mill.assert_tidy()


@pytest.mark.parametrize("stage", ["backend", "source"])
def test_a_process_killed_while_it_opens_is_started_again(mill, stage):
    mill.many(6)
    mill.write("lane", **{stage: "opening: first"})
    code, said = mill.run()
    assert code == 0, said
    assert mill.tries("first", "open") > 1
    mill.assert_tidy()


@pytest.mark.cluster
def test_a_worker_that_never_gets_ready_costs_a_worker_not_the_run(mill):
    mill.many(12)
    mill.write(backend="opening: others, seconds: 0.5")  # as where the memory holds one model and not two
    reference = mill.reference()
    code, said = mill.run()
    assert code == 0, said
    reason = "SIGKILL(-9) (killed by the system, usually because it ran out of memory)"
    assert f"{reason}; the run goes on with 1 worker\n" in said
    assert mill.tries("others", "open") == 1 + 3
    assert all(mill.tries(f"{number:03}.png") == 1 for number in range(12)), "no image is blamed"
    mill.assert_tidy()
    mill.assert_resumes(reference)


def test_a_killed_lane_asks_again_only_for_what_was_in_flight(mill):
    total = 24
    mill.many(total)
    mill.write("lane", source="seconds: 0.1, threads: 4, many: 60")
    reference = mill.reference()
    process = mill.start()
    for done in (4, 10, 16):
        wait_until(lambda done=done: mill.finished() >= done)
        for lane in mill.lane(process):
            lane.kill()
    code, said = mill.end(process)
    assert code == 0, said
    asked = [mill.tries(f"{number:03}.png", "lane") for number in range(total)]
    assert sum(asked) <= total + 3 * 4, "four were under way at each kill"
    assert all(mill.tries(f"{number:03}.png") == 1 for number in range(total))
    mill.assert_tidy()
    mill.assert_resumes(reference)


@pytest.mark.parametrize("mode", ["joblib", "lane"])
def test_a_driver_killed_beside_a_hang_in_c_leaves_no_process(mill, mode):
    folder = "lane/" if mode == "lane" else ""
    mill.photos("a.png", f"{folder}hangc.png")
    mill.write(mode)
    process = mill.start()
    wait_until(lambda: mill.tries(f"{folder}hangc.png", "lane" if folder else "backend"))
    time.sleep(0.2)
    process.kill()
    process.communicate(timeout=30)
    mill.assert_no_orphans(3.0)


def test_a_driver_killed_while_it_finishes(mill):
    mill.many(8)
    mill.write("inline", writer="finish_seconds: 0.1")
    reference = mill.reference()
    process = mill.start("-q")
    wait_until(lambda: mill.finished() == 8)
    time.sleep(0.3)
    process.kill()
    process.communicate(timeout=30)
    assert not (mill.output / "notes" / "all.list").exists(), "it was killed before the end"
    code, said = mill.run()
    assert code == 0, said
    assert all(mill.tries(f"{number:03}.png") == 1 for number in range(8))
    mill.assert_tidy()
    mill.assert_resumes(reference)


@pytest.mark.cluster
def test_a_rerun_right_after_a_kill_meets_no_worker_of_the_old_run(mill):
    mill.many(30)
    mill.write(backend="seconds: 0.05")
    reference = mill.reference()
    for _ in range(2):
        process = mill.start("-q")
        done = mill.finished()
        wait_until(lambda done=done: mill.finished() >= done + 6)
        process.send_signal(signal.SIGKILL)
        process.wait()
    code, said = mill.run("-q")
    assert code == 0, said
    mill.assert_tidy()
    mill.assert_resumes(reference)


@pytest.mark.parametrize("mode", ["joblib", "lane"])
def test_a_process_that_is_stopped_for_good_ends_at_the_time_limit(mill, mode):
    folder = "lane/" if mode == "lane" else ""
    mill.photos("a.png", "b.png", f"{folder}c.png", "z.png")
    mill.write(mode, backend="seconds: 0.3", source="seconds: 0.3", run="timeout: 3")
    process = mill.start()
    wait_until(lambda: mill.tries("a.png", "lane" if mode == "lane" else "backend"))
    stopped = mill.lane(process) if mode == "lane" else mill.victims(process)
    for victim in stopped:
        victim.suspend()  # SIGSTOP
    code, said = mill.end(process)
    assert code == 0, said
    assert set(mill.statuses().values()) == {"done"}
    assert not any(victim.is_running() for victim in stopped)
    assert mode == "lane" or "try 1 of 3 ended: it exceeded the time limit of 3 s" in said
    mill.assert_tidy()
    mill.assert_resumes(mill.reference())


def test_a_worker_that_is_stopped_while_it_is_idle_costs_no_image_a_try(mill):
    mill.many(4)
    mill.write("lane", source="seconds: 1.5, threads: 1", run="timeout: 4")
    process = mill.start()
    wait_until(lambda: mill.finished() >= 1)
    time.sleep(0.5)
    for victim in mill.victims(process):
        if victim not in mill.lane(process):
            victim.suspend()
    code, said = mill.end(process)
    assert code == 0, said
    assert "try 1 of 3" not in said, said
    assert all(mill.tries(f"{number:03}.png") == 1 for number in range(4))
    mill.assert_tidy()


def read_terminal(master):
    """What the run wrote to its terminal meanwhile."""
    with contextlib.suppress(OSError):
        return os.read(master, 100_000).decode("utf-8", "replace")
    return ""


def test_a_closed_terminal_drains(mill):
    total = 16
    mill.many(total)
    mill.write("lane", backend="seconds: 0.2", source="seconds: 0.05")
    process, master = mill.start_on_terminal()
    wait_until(lambda: mill.finished() >= 3)
    assert read_terminal(master)
    os.close(master)
    assert process.wait(30) == 130
    mill.assert_no_orphans()
    assert 3 <= len(mill.statuses()) < total
    assert set(mill.statuses().values()) == {"done"}
    assert mill.about()["outcome"] == "interrupted"
    assert mill.run()[0] == 0
    assert all(mill.tries(f"{n:03}.png") == 1 for n in range(total)), "what was in work ended first"
    mill.assert_tidy()
    mill.assert_resumes(mill.reference())


def test_a_run_under_nohup_outlives_its_terminal(mill):
    mill.many(6)
    mill.write(backend="seconds: 0.2")
    process, master = mill.start_on_terminal("nohup")
    wait_until(lambda: mill.finished() >= 2)
    os.close(master)
    assert process.wait(30) == 0
    assert mill.about()["outcome"] == "finished"
    assert set(mill.statuses().values()) == {"done"}


@pytest.mark.parametrize("mode", ["joblib", "lane"])
def test_a_process_that_is_stopped_while_it_loads_is_started_again(mill, mode):
    mill.many(3)
    mill.write(mode, backend="opening: slow", source="opening: slow", run="timeout: 2")
    process = mill.start()
    wait_until(lambda: mill.lane(process) if mode == "lane" else len(mill.victims(process)) == 2)
    for victim in mill.victims(process):
        victim.suspend()
    code, said = mill.end(process)
    assert code == 0, said
    assert all(mill.tries(f"{number:03}.png") == 1 for number in range(3))
    mill.assert_tidy()
