"""Workers that do not belong to the run: a Dask scheduler with workers, a Ray cluster; they come, go and are killed."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

import psutil
import pytest
from mill import command, wait_until

ENGINES = ["dask", "ray"]
#: A node of Ray needs some seconds to join.
PATIENCE = 12

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.faults,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL"),
]


class DaskCluster:
    """A scheduler on the loopback, and workers of one thread each; none of them belongs to a run."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        self.file = folder / "scheduler.json"
        self.scheduler = self.start_scheduler("0")
        try:
            wait_until(self._is_up)
        except BaseException:
            self.end()
            raise
        self.address = json.loads(self.file.read_text())["address"]

    def _is_up(self):
        """Whether the file is there and written to its end."""
        with contextlib.suppress(OSError, ValueError):
            return "address" in json.loads(self.file.read_text())

    def start_scheduler(self, port):
        where = ["--host", "127.0.0.1", "--port", port, "--dashboard-address", "127.0.0.1:0"]
        return self._start("distributed.cli.dask_scheduler", *where)

    def _start(self, module, *arguments):
        options = ["--scheduler-file", str(self.file), *arguments]
        self.started.append(start_beside(self.folder, ["-W", "ignore", "-m", module, *options]))
        return self.started[-1]

    def add_worker(self):
        options = [
            "--no-dashboard",
            "--nthreads",
            "1",
            "--no-nanny",
            "--memory-limit",
            "0",
            "--local-directory",
            str(self.folder),
        ]
        return self._start("distributed.cli.dask_worker", *options)

    def end(self):
        for process in self.started:
            kill_tree(process)


class RayCluster:
    """A head without cores, and nodes with one core each."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        where = ["--node-ip-address=127.0.0.1", f"--port={self.address.partition(':')[2]}", "--include-dashboard=false"]
        # Ray's sockets have no room for long names.
        self.temporary = tempfile.TemporaryDirectory(prefix="mm-ray-", ignore_cleanup_errors=True)
        self._start("--head", "--num-cpus=0", f"--temp-dir={self.temporary.name}", *where)
        wait_until(self._is_up)
        time.sleep(3)  # from the port to a head that nodes can join

    def _is_up(self):
        host, port = self.address.split(":")
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), 1).close()
            return True

    def _start(self, *arguments):
        code = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
        self.started.append(start_beside(self.folder, ["-W", "ignore", "-c", code, "start", "--block", *arguments]))
        return self.started[-1]

    def add_worker(self):
        return self._start(f"--address={self.address}", "--num-cpus=1")

    def end(self):
        for process in reversed(self.started):
            kill_tree(process)
        self.temporary.cleanup()


def start_beside(folder, arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MILL")}
    return psutil.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


def kill_tree(process):
    """Kill a process and all below it, as when the machine is unplugged."""
    if process.is_running():
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                each.kill()
    process.wait(10)


@pytest.fixture
def cluster(mill, tmp_path, monkeypatch):
    for name in ("MILL", "MILL_COUNTS"):  # the runs that a test starts have them; those in this process need none
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = {"dask": DaskCluster, "ray": RayCluster}[mill.engine](folder)
    kind = mill.engine
    mill.engine = f"{{use: {kind}, address: '{made.address}', environment: [MILL, MILL_COUNTS], patience: 45}}"
    made.kind = kind
    yield made
    made.end()


def slots_of(worker):
    return [child for child in worker.children(recursive=True) if "slot_process" in command(child)]


def test_a_worker_that_is_killed_costs_no_image_a_try_and_one_that_comes_helps(mill, cluster):
    mill.many(24)
    worker = cluster.add_worker()
    mill.write(backend="seconds: 0.2")
    reference = mill.reference()
    process = mill.start()
    wait_until(lambda: mill.finished() >= 3)
    cluster.add_worker()
    cluster.add_worker()
    wait_until(lambda: mill.finished() >= 8)
    kill_tree(worker)
    code, said = mill.end(process, 80)
    assert code == 0, said
    assert "went away" in said
    assert "; its images are tried again" in said
    assert "try 1 of 3" not in said
    assert sum(mill.tries(f"{number:03}.png") for number in range(24)) <= 24 + 8
    hosts = mill.about()["hosts"]
    assert sum(host["images"] for host in hosts.values()) == 24
    mill.assert_tidy()
    mill.assert_resumes(reference)


def test_a_run_without_workers_waits_then_stops_and_goes_on_when_they_are_back(mill, cluster):
    mill.many(6)
    worker = cluster.add_worker()
    mill.engine = mill.engine.replace("patience: 45", f"patience: {PATIENCE}")
    mill.write(backend="seconds: 0.3")
    process = mill.start()
    wait_until(lambda: mill.finished() >= 2)
    kill_tree(worker)
    code, said = mill.end(process)
    assert code == 1, said
    assert f"there has been no worker at {cluster.address} for {PATIENCE} s" in said
    assert "continue with:" in said
    assert set(mill.statuses().values()) == {"done"}
    cluster.add_worker()
    code, said = mill.run()
    assert code == 0, said
    mill.assert_tidy()
    mill.assert_resumes(mill.reference())


def test_a_driver_that_is_killed_leaves_no_slot_and_a_rerun_goes_on(mill, cluster):
    mill.many(12)
    worker = cluster.add_worker()
    mill.write(backend="seconds: 0.2")
    process = mill.start("-q")
    wait_until(lambda: mill.finished() >= 3)
    assert slots_of(worker)
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: not slots_of(worker), 15)
    assert worker.is_running(), "the workers are not ours to end"
    code, said = mill.run()
    assert code == 0, said
    assert not slots_of(worker)
    mill.assert_tidy()
    mill.assert_resumes(mill.reference())


def test_a_scheduler_that_is_killed_stops_the_run_loudly(mill, request):
    if mill.engine == "ray":
        pytest.skip("it takes 30 s, see benchmarks/cluster_faults.py")
    cluster = request.getfixturevalue("cluster")
    mill.many(12)
    cluster.add_worker()
    mill.engine = mill.engine.replace("patience: 45", "patience: 4")
    mill.write(backend="seconds: 0.2")
    process = mill.start()
    wait_until(lambda: mill.finished() >= 3)
    cluster.scheduler.kill()
    code, said = mill.end(process, 60)
    assert code == 1, said
    assert f"warning: the connection to the Dask scheduler {cluster.address} was lost; trying for 4 s" in said
    assert f"Stopped: the Dask scheduler {cluster.address} has not been reached for 4 s" in said
    assert "continue with:" in said
    assert set(mill.statuses().values()) <= {"done"}


def test_a_scheduler_that_is_started_anew_lets_the_run_go_on(mill, request):
    if mill.engine == "ray":
        pytest.skip("what a cluster of Ray knows is lost with its head")
    cluster = request.getfixturevalue("cluster")
    mill.many(12)
    cluster.add_worker()
    mill.write(backend="seconds: 0.3")
    reference = mill.reference()
    process = mill.start()
    wait_until(lambda: mill.finished() >= 3)
    cluster.scheduler.kill()
    cluster.scheduler.wait(10)
    cluster.start_scheduler(cluster.address.rpartition(":")[2])
    cluster.add_worker()
    code, said = mill.end(process, 60)
    assert code == 0, said
    assert (
        f"warning: the connection to the Dask scheduler {cluster.address} was lost; its images are tried again" in said
    )
    mill.assert_tidy()
    mill.assert_resumes(reference)


def test_a_poison_takes_no_worker_of_the_cluster_down(mill, cluster):
    mill.photos("a.png", "poison.png", "z.png", *(f"{number:03}.png" for number in range(6)))
    worker = cluster.add_worker()
    mill.write()
    code, said = mill.run()
    assert code == 1, said
    assert mill.tries("poison.png") == 3
    assert {key for key, status in mill.statuses().items() if status != "done"} == {"poison.png"}
    assert all(mill.tries(key) == 1 for key in mill.statuses() if key != "poison.png")
    assert worker.is_running()
    mill.assert_tidy()
    mill.assert_resumes()


def test_check_tries_the_address_and_a_wrong_one_is_refused(mill, cluster, project):
    mill.many(1)
    cluster.add_worker()
    time.sleep(2 if cluster.kind == "dask" else 12)
    mill.write()
    checked = [sys.executable, "-m", "maskmill", "check", str(project.file)]
    environment = {**os.environ, "PYTHONUTF8": "1", "MILL": "1", "MILL_COUNTS": "1"}
    said = subprocess.run(checked, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    found = "1 slot in 1 worker on 1 host" if cluster.kind == "dask" else "1 core on 1 host"
    assert f"engine {cluster.kind}: {cluster.address} has {found}" in said.stderr
    mill.engine = f"{{use: {cluster.kind}, address: '{'tcp://' * (cluster.kind == 'dask')}127.0.0.1:9'}}"
    mill.write()
    code, said = mill.run()
    assert code == 2
    assert "answers at" in said
    assert "127.0.0.1:9: " in said
