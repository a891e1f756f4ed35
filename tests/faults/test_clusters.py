"""Workers that do not belong to the run: a Dask scheduler with workers, a Ray cluster; they come, go and are killed."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
from mill import command, wait_until

ENGINES = ["dask"]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.faults,
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL"),
]


class Cluster:
    """A scheduler on the loopback, and workers of one thread each."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        file = folder / "scheduler.json"
        self.scheduler = self._start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", file=file)
        wait_until(file.exists)
        self.file = file
        self.address = json.loads(file.read_text())["address"]

    def _start(self, module, *arguments, file):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MILL")}
        process = psutil.Popen(
            [sys.executable, "-W", "ignore", "-m", module, "--scheduler-file", str(file), "--no-dashboard", *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def add_worker(self):
        options = ["--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--local-directory", str(self.folder)]
        return self._start("distributed.cli.dask_worker", *options, file=self.file)

    def end(self):
        for process in self.started:
            for each in [*process.children(recursive=True), process] if process.is_running() else []:
                each.kill()
            process.wait(10)


@pytest.fixture
def cluster(mill, tmp_path, monkeypatch):
    for name in ("MILL", "MILL_COUNTS"):  # the runs that a test starts have them; those in this process need none
        monkeypatch.setenv(name, "")
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder)
    mill.engine = f"{{use: dask, address: '{made.address}', environment: [MILL, MILL_COUNTS], patience: 3}}"
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
    worker.kill()
    code, said = mill.end(process)
    assert code == 0, said
    assert "went away; its images are tried again" in said
    assert "try 1 of 3" not in said
    assert sum(mill.tries(f"{number:03}.png") for number in range(24)) <= 24 + 8
    hosts = mill.about()["hosts"]
    assert sum(host["images"] for host in hosts.values()) == 24
    mill.assert_tidy()
    mill.assert_resumes(reference)


def test_a_run_without_workers_waits_then_stops_and_goes_on_when_they_are_back(mill, cluster):
    mill.many(6)
    worker = cluster.add_worker()
    mill.write(backend="seconds: 0.3")
    process = mill.start()
    wait_until(lambda: mill.finished() >= 2)
    worker.kill()
    code, said = mill.end(process)
    assert code == 1, said
    assert f"there has been no worker at {cluster.address} for 3 s" in said
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


def test_a_scheduler_that_is_killed_stops_the_run_loudly(mill, cluster):
    mill.many(12)
    cluster.add_worker()
    mill.write(backend="seconds: 0.2")
    process = mill.start()
    wait_until(lambda: mill.finished() >= 3)
    cluster.scheduler.kill()
    code, said = mill.end(process, 60)
    assert code == 1, said
    assert f"Stopped: the Dask scheduler {cluster.address} cannot be reached any more" in said
    assert "continue with:" in said
    assert set(mill.statuses().values()) <= {"done"}


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
    time.sleep(2)
    mill.write()
    checked = [sys.executable, "-m", "maskmill", "check", str(project.file)]
    environment = {**os.environ, "PYTHONUTF8": "1", "MILL": "1", "MILL_COUNTS": "1"}
    said = subprocess.run(checked, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    assert f"engine dask: {cluster.address} has 1 slot" in said.stderr
    mill.engine = "{use: dask, address: 'tcp://127.0.0.1:9'}"
    mill.write()
    code, said = mill.run()
    assert code == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in said
