"""The walk from a laptop to a cluster in docs/cluster.md, command by command."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
WALKS = re.findall(r"<!-- walk -->\n```console\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line.removeprefix("$ ") for walk in WALKS for line in walk.splitlines()]

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300), pytest.mark.skipif(os.name != "posix", reason="a shell")]


@pytest.fixture
def shell(tmp_path):
    """Runs a command in a folder; what ends in & goes on until the test ends."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "ignore"}
    started = []

    def run(command):
        if command.endswith("&"):
            started.append(psutil.Popen(command.removesuffix("&").split(), cwd=tmp_path, env=environment))
            time.sleep(3)
            return
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if "maskmill check" in command:
            assert "has 2 slots in 2 workers on 1 host" in done.stderr

    yield run
    for process in started:
        for each in [*process.children(recursive=True), process]:
            each.kill()
        process.wait(10)


def test_the_walk_of_the_documentation_goes_through(shell, request):
    asked = request.config.getoption("engines").split(",")
    if not {"dask", "ray"} <= set(asked):
        pytest.skip("with --engines dask,ray only")
    assert len(COMMANDS) > 10
    for command in COMMANDS:
        shell(command)
