"""What a process may use: cores, and memory below its container's limits; how its libraries wait and keep memory."""

from __future__ import annotations

import os
import subprocess
import sys

import loky
import psutil
import pytest

from maskmill import testing
from maskmill.plugins import threads
from maskmill.run import memory
from maskmill.run.resources import BASE, RESERVE, plan_resources

GIB = 1024**3
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch):
    for name in (*WAITING, "MASKMILL_THREADS"):
        monkeypatch.delenv(name, raising=False)


def write_group(folder, limit: str, usage: int, cached: int = 0, v1: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if v1 else ("memory.max", "memory.current")
    for name, value in zip(names, (limit, usage), strict=True):
        (folder / name).write_text(f"{value}\n")
    name = "total_inactive_file" if v1 else "inactive_file"
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file 7\n{name} {cached}\n" if v1 else f"{name} {cached}\n")


def make_root(folder, line: str):
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(f"12:cpu:/elsewhere\n{line}\n")
    return folder


def find(root) -> int | str:
    found = memory.find_available_memory(root)
    return found if found < 100_000 else "of the system"


def test_what_is_left_below_a_limit_of_cgroup_v2_counts_and_file_pages_are_not_used(tmp_path):
    root = make_root(tmp_path, "0::/a/b")
    write_group(root / "sys/fs/cgroup/a/b", "10000", 4000, cached=1500)
    assert find(root) == 7500


def test_the_limit_of_a_group_above_counts(tmp_path):
    root = make_root(tmp_path, "0::/a/b")
    write_group(root / "sys/fs/cgroup/a/b", "max", 10)
    write_group(root / "sys/fs/cgroup/a", "9000", 2000)
    assert find(root) == 7000


def test_a_container_whose_own_group_is_mounted_at_the_top(tmp_path):
    root = make_root(tmp_path, "4:hugetlb,memory:/docker/0123abc")
    write_group(root / "sys/fs/cgroup/memory", "8000", 3000, cached=500, v1=True)
    assert find(root) == 5500


def test_a_group_beyond_its_limit_has_nothing_left(tmp_path):
    root = make_root(tmp_path, "0::/")
    write_group(root / "sys/fs/cgroup", "100", 200)
    assert find(root) == 0


@pytest.mark.parametrize("line", ["0::/", "4:memory:/x", "3:cpuset:/x"])
def test_without_a_limit_the_systems_free_memory_counts(tmp_path, line):
    root = make_root(tmp_path, line)
    write_group(root / "sys/fs/cgroup/memory/x", str(2**63 - 4096), 1, v1=True)
    assert find(root) == "of the system"


def test_where_there_are_no_groups_the_systems_free_memory_counts(tmp_path):
    assert find(tmp_path) == "of the system"
    assert memory.find_available_memory() <= psutil.virtual_memory().total


def test_jobs_auto_starts_as_many_workers_as_the_container_has_memory_for(monkeypatch):
    monkeypatch.setattr("maskmill.run.resources.find_available_memory", lambda: RESERVE + 3 * (BASE + GIB))
    monkeypatch.setattr(loky, "cpu_count", lambda: 8)
    chosen = plan_resources("auto", "auto", GIB)
    assert (chosen.jobs, chosen.threads) == (3, 2)
    assert "limited by memory" in chosen.why


@pytest.mark.parametrize("given", WAITING)
def test_idle_threads_sleep_unless_the_user_configured_that(monkeypatch, given):
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    assert plan_resources(1, 3, None).environment()["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv(given, "1")
    environment = plan_resources(1, 3, None).environment()
    assert {name: environment[name] for name in WAITING if name in environment} == {given: "1"}
    threads.set_waiting()
    assert os.environ.get("OMP_WAIT_POLICY", "1") == "1"


def test_all_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(loky, "cpu_count", lambda: 5)
    assert threads.worker_threads() == 5
    monkeypatch.setenv("MASKMILL_THREADS", "3")
    assert threads.worker_threads() == 3


def test_one_thread_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = dict(os.environ)
    with threads.one_thread():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MASKMILL_THREADS"] == "1"
    assert dict(os.environ) == before


#: Allocates and frees a block; prints how many bytes the process kept, or "not glibc".
KEEPING = """
import ctypes, os, sys
from pathlib import Path
from maskmill.run.memory import keep_freed_memory
changed = keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size = 20_000_000
rss = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
before = rss()
block = libc.malloc(size)
ctypes.memset(block, 1, size)
libc.free(block)
print(changed, rss() - before > size // 2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux")
@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "True True"), ({"MALLOC_ARENA_MAX": "2"}, "False False"), ({"GLIBC_TUNABLES": "glibc.malloc.check=0"}, "")],
    ids=["by default", "the user set a variable", "the user set a tunable"],
)
def test_a_worker_keeps_freed_memory_unless_the_user_configured_that(given, expected):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    asked = [sys.executable, "-c", KEEPING]
    found = subprocess.run(asked, env={**environment, **given}, capture_output=True, text=True, check=True).stdout
    assert found.strip() == (expected or "False False")


THREADED = """
from maskmill import Backend, Mask, hookimpl
import numpy as np
from library_with_threads import THREADS


class Threaded(Backend):
    '''Gives masks that depend on the number of threads.'''

    def accepts(self):
        return frozenset({"box"})

    def model_id(self):
        return "threaded"

    def masks(self, image, prompts, embedding=None):
        score = 1 / (1 + THREADS)
        return [Mask.from_array(np.ones(image.size, bool), prompt=one, score=score) for one in prompts]


@hookimpl
def register_backends(register):
    register("threaded", Threaded)
"""


def test_a_plugin_whose_last_bits_depend_on_the_threads_passes_the_checks(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    file = tmp_path / "threaded.py"
    file.write_text(THREADED, encoding="utf-8")
    reads = 'import os\nTHREADS = int(os.environ.get("OMP_NUM_THREADS", 64))\n'  # once in a process, as torch does
    (tmp_path / "library_with_threads.py").write_text(reads, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert testing.problems(file, engines=("inline", "joblib")) == []
