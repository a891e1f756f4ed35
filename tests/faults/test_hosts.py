"""Hosts with a network, files, processes and a name of their own; the long trials are benchmarks/cluster_faults.py."""

import json
import subprocess
import sys
import time

import pytest
from hosts import KINDS, Network
from mill import differences, wait_until

ENGINES = ["dask", "ray"]

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(200)]


@pytest.fixture
def cluster(mill, monkeypatch):
    for name in ("MILL", "MILL_COUNTS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with Network() as network:
        made = KINDS[mill.engine](network, mill.folder)
        about = f"use: {mill.engine}, address: '{made.address}', environment: [MILL, MILL_COUNTS]"
        mill.engine = f"{{{about}, patience: 60}}"
        mill.prefix = [*made.driver.prefix(), "sh", "-c", 'hostname driver; exec "$@"', "sh"]
        time.sleep(0 if made.driver is not made.head else 4)  # from Ray's port to a head that nodes can join
        yield made
        mill.end_all()
        made.end()


def ask(*arguments):
    command = [sys.executable, "-m", "maskmill", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True).stdout


def test_hosts_that_share_only_a_drive(mill, cluster):
    mill.many(30)
    mill.write(backend="seconds: 0.3")
    text = mill.project.file.read_text(encoding="utf-8")
    mill.project.file.write_text(text.replace("{use: notes}", "{use: notes}, coco, png, yolo, voc"), encoding="utf-8")
    reference = mill.reference()
    state = mill.folder / "state"

    if mill.engine == "dask":  # the check is the same, and a node of Ray needs long to come
        bad = cluster.add_worker("bad", hidden=[mill.folder / "photos"])
        code, said = mill.end(mill.start("--state", state), 60)
        assert code == 2, said
        assert said.count("the worker on bad does not see the dataset") == 1
        assert "(on bad)" not in said
        assert mill.statuses() == {}
        bad.kill()
    for name in ("east", "west"):
        cluster.add_worker(name, hidden=[state])
    process = mill.start("--state", state)
    wait_until(lambda: mill.finished() >= 4 and len(mill.about().get("hosts", ())) == 2, 60)
    assert "running now" in ask("status", mill.output)
    next(host for host in cluster.network.hosts if host.name == "east").kill()
    code, said = mill.end(process, 100)
    assert code == 0, said
    assert "on east went away" in said
    assert f"copied to {mill.output}" in said
    assert differences({name: data for name, data in mill.files().items() if name[0] != "."}, reference) == []
    assert differences({name: data for name, data in mill.files().items() if name.startswith(".mm-")}, {}) == []

    about = json.loads(ask("status", mill.output, "--json"))
    assert about["counts"]["done"] == 30
    assert sum(host["images"] for host in about["hosts"].values()) == 30
    assert about["hosts"]["east"]["lost"] == 1
    assert "Hosts: east (lost, " in ask("status", mill.output)
    made_on = {line for key in ("000.png", "029.png") for line in ask("explain", mill.output, key).splitlines()}
    assert made_on & {"host     east", "host     west"}
