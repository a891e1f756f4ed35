"""Plugins that go wrong in every way they can: each costs its own image, and nothing else."""

import contextlib
import os
import signal
import sys
import time

import psutil
import pytest
from mill import files, wait_until

from maskmill import testing
from maskmill.output.store import load_result

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX signals and /proc"),
]

#: What fails its image at once: name of the image -> (type, part of the message) of the failure.
RAISED = {
    "always": ("Transient", "busy for ever"),
    "balloon": ("MemoryError", "no message"),
    "cancelled": ("CancelledError", "no message"),
    "cargo": ("RuntimeError", "lock"),
    "deep": ("RecursionError", "maximum recursion depth"),
    "huge": ("RuntimeError", "xxx ... xxx"),
    "mute": ("MuteError", "no readable message"),
    "note": ("TypeError", "not JSON serializable"),
    "nothing": ("TypeError", "expected a list of"),
    "own": ("OwnError", "1 2"),
    "raise": ("RuntimeError", "as told"),
    "strange": ("TypeError", "expected a list of"),
    "surrogate": ("RuntimeError", r"bad name \udcff"),
    "sysexit": ("SystemExit", "0"),
}
#: What takes a process down: name -> (status, tries, type of the failure).
DEADLY = {
    "flaky": ("done", 3, None),
    "hang": ("quarantined", 3, "Timeout"),
    "hangc": ("quarantined", 3, "Timeout"),
    "osexit": ("quarantined", 3, "WorkerLost"),
    "poison": ("quarantined", 3, "WorkerLost"),
}
#: Where it happens: folder of the image, role whose calls are counted.
PLACES = {"backend": "", "lane": "lane/", "writer": "writer/"}
INNOCENT = [f"{number:03}.png" for number in range(6)]


@pytest.mark.parametrize(
    ("mode", "place"),
    [
        ("inline", "backend"),
        ("joblib", "backend"),
        ("joblib", "writer"),
        ("lane", "lane"),
    ],
)
def test_whatever_a_plugin_raises_fails_its_image_in_words(mill, mode, place):
    folder = PLACES[place]
    mill.photos(*INNOCENT, *(f"{folder}{name}.png" for name in [*RAISED, "transient"]))
    mill.write(mode)
    code, said = mill.run()
    assert code == 1, said
    assert len(said) < 30_000, "no novels on the terminal"
    statuses = mill.statuses()
    assert {key for key, status in statuses.items() if status == "done"} == {*INNOCENT, f"{folder}transient.png"}
    failures = mill.failures()
    for name, (kind, text) in RAISED.items():
        failure = failures[f"{folder}{name}.png"]
        assert failure["type"] == kind
        assert text in failure["message"]
        assert mill.tries(f"{folder}{name}.png", place) == (3 if name == "always" else 1)
    assert mill.tries(f"{folder}transient.png", place) == 3
    assert all(mill.tries(key) == 1 for key in INNOCENT)
    mill.assert_tidy()
    mill.assert_resumes()


@pytest.mark.parametrize(
    ("place", "names"),
    [
        pytest.param("backend", sorted(DEADLY), marks=pytest.mark.cluster),
        ("lane", ["flaky", "hangc", "poison"]),
        ("writer", ["flaky", "hang"]),
    ],
    ids=["backend", "lane", "writer"],
)
def test_whatever_takes_a_process_down_is_tried_three_times(mill, place, names):
    folder = PLACES[place]
    mill.photos(*INNOCENT, *(f"{folder}{name}.png" for name in names))
    limit = 1.5 if mill.engine == "joblib" else 4
    mill.write("lane" if place == "lane" else "joblib", run=f"timeout: {limit}", backend="seconds: 0.02")
    code, said = mill.run()
    assert code == 1, said
    statuses, failures = mill.statuses(), mill.failures()
    for name in names:  # the lane is watched from outside: one hang is as another, and so is one end
        status, tries, kind = DEADLY[name]
        key = f"{folder}{name}.png"
        assert statuses[key] == status, said
        assert tries <= mill.tries(key, place) <= tries + (place == "lane"), (
            "beside others, nobody knows whose fault it is"
        )
        assert kind is None or failures[key]["type"] == kind
    if place == "writer":  # the masks were stored before: a retry does not segment
        assert [mill.tries(f"writer/{name}.png") for name in names] == [1, 1]
        assert (failures["writer/hang.png"]["stage"], failures["writer/hang.png"]["plugin"]) == ("writers", "notes")
        stored = load_result(mill.output, "writer/hang.png")
        assert (stored.status, len(stored.kept)) == ("quarantined", 1)
    assert place == "lane" or "in act" in failures[f"{folder}hang.png"]["traceback"], "it shows where it hung"
    assert all(statuses[key] == "done" and mill.tries(key) == 1 for key in INNOCENT)
    mill.assert_tidy()
    mill.assert_resumes()


def test_without_worker_processes_a_poison_is_put_aside_after_three_runs(mill):
    mill.photos("a.png", "poison.png", "z.png")
    mill.write("inline")
    for _ in range(3):
        process = mill.start("-q")
        process.communicate(timeout=30)
        assert process.returncode == -signal.SIGKILL
    code, said = mill.run()
    assert code == 1, said
    assert mill.statuses() == {"a.png": "done", "poison.png": "quarantined", "z.png": "done"}
    assert mill.tries("poison.png") == 3
    assert mill.tries("a.png") == mill.tries("z.png") == 1
    mill.assert_tidy()
    mill.assert_resumes()


@pytest.mark.parametrize(("mode", "folder"), [("joblib", "writer/"), ("lane", "lane/")], ids=["writer", "lane"])
def test_a_plugin_that_stops_the_run_blames_nobody(mill, mode, folder):
    mill.photos("a.png", f"{folder}stop.png", "x.png", "y.png")
    mill.write(mode)
    code, said = mill.run()
    assert code == 1, said
    assert "budget spent" in said
    assert set(mill.statuses().values()) <= {"done"}
    (mill.folder / "photos" / folder / "stop.png").unlink()
    code, said = mill.run()
    assert code == 0, said
    mill.assert_tidy()
    mill.assert_resumes()


@pytest.mark.parametrize(
    ("mode", "opening", "text"), [("lane", "raise", "no such weights"), ("joblib", "exit", "SystemExit")]
)
def test_what_cannot_be_opened_is_the_runs_fault(mill, mode, opening, text):
    mill.many(3)
    mill.write(mode, backend=f"opening: {opening}")
    code, said = mill.run()
    assert code == 2, said
    assert text in said
    assert mill.statuses() == {}
    mill.write(mode)
    assert mill.run()[0] == 0
    mill.assert_tidy()


@pytest.mark.parametrize(
    ("mode", "number"),
    [("inline", signal.SIGINT), pytest.param("lane", signal.SIGTERM, marks=pytest.mark.cluster)],
    ids=["inline-SIGINT", "lane-SIGTERM"],
)
def test_a_signal_to_the_whole_group_drains(mill, mode, number):
    total = 16
    mill.many(total)
    mill.write(mode, backend="seconds: 0.2", source="seconds: 0.05")
    reference = mill.reference()
    process = mill.start()
    wait_until(lambda: mill.finished() >= 3)
    os.killpg(process.pid, number)
    code, said = mill.end(process)
    assert code == 130, said
    assert "To continue:" in said
    assert 3 <= len(mill.statuses()) < total
    assert set(mill.statuses().values()) == {"done"}
    assert mill.run()[0] == 0
    assert all(mill.tries(f"{n:03}.png") == 1 for n in range(total)), "what was in work ended first"
    mill.assert_tidy()
    mill.assert_resumes(reference)


@pytest.mark.parametrize(
    ("where", "mode"), [("hangc", "joblib"), ("hangc", "lane"), ("closing", "lane"), ("opening", "joblib")]
)
def test_a_second_signal_ends_everything_at_once(mill, mode, where):
    folder = "lane/" if mode == "lane" and where == "hangc" else ""
    mill.photos("a.png", "b.png", *([f"{folder}hangc.png"] if where == "hangc" else []))
    options = {"closing": "closing: 600", "opening": "opening: hang"}
    mill.write(mode, backend=options.get(where, ""))
    process = mill.start()
    if where == "hangc":
        wait_until(lambda: mill.tries(f"{folder}hangc.png", "lane" if folder else "backend"))
    elif where == "closing":
        wait_until(lambda: mill.finished() == 2)
    else:
        wait_until(lambda: len(mill.workers(process)) > 1)
        time.sleep(0.5)
    began = time.monotonic()
    for pause in (0.5, 3):  # the third, where a slow disk had Python see two as one
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(pause)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    code, said = mill.end(process)
    assert time.monotonic() - began < (8 if mill.engine == "joblib" else 25), said
    assert code == 130, said
    assert [str(path) for path in mill.output.rglob(".mm-*")] == []


def test_an_image_replaced_during_the_run_is_noticed_by_the_next(mill):
    mill.many(12)
    mill.write(backend="seconds: 0.1")
    process = mill.start("-q")
    wait_until(lambda: mill.finished() >= 3)
    done = [path.relative_to(mill.output / "results").as_posix()[:-5] for path in mill.results()]
    before = {key: (mill.output / "results" / f"{key}.json").read_bytes() for key in done}
    for key in (done[0], "011.png"):
        testing.write_picture(mill.folder / "photos" / key, seed=99)
    assert mill.end(process)[0] == 0
    assert (mill.output / "results" / f"{done[0]}.json").read_bytes() == before[done[0]], "it was finished by then"
    code, said = mill.run("-q")
    assert code == 0, said
    assert 1 <= mill.about()["ran"] <= 2
    assert (mill.output / "results" / f"{done[0]}.json").read_bytes() != before[done[0]]
    mill.assert_tidy()
    mill.assert_resumes(mill.reference())


def test_files_of_an_image_that_failed_later_on_do_not_stay(mill):
    mill.many(3)
    mill.write()
    assert mill.run()[0] == 0
    (mill.folder / "photos" / "001.png").write_bytes(b"no picture any more")
    assert mill.run()[0] == 1
    assert mill.statuses()["001.png"] == "failed"
    left = [name for name in files(mill.output) if "001" in name]
    assert left == ["results/001.png.json"]
