"""A pipeline whose plugins misbehave by the name of the image, and what must hold after every run."""

import os
import shutil
import subprocess

import pytest
from mill import Mill

from maskmill.chain import plugin_call as steps


def pytest_generate_tests(metafunc):
    """A test that runs a pipeline does so with each engine of `--engines`, or those of them that its module names."""
    if "mill" in metafunc.fixturenames:
        asked = metafunc.config.getoption("engines").split(",")
        wanted = getattr(metafunc.module, "ENGINES", asked)
        metafunc.parametrize("engine", [name for name in asked if name in wanted], scope="session")


@pytest.fixture
def mill(project, monkeypatch, engine):
    if engine != "joblib":
        pytest.importorskip({"dask": "distributed"}.get(engine, engine))
    monkeypatch.setattr(steps, "PAUSES", (0.05, 0.05))  # the drop-in does the same in the workers
    made = Mill(project, engine)
    yield made
    made.end_all()


@pytest.fixture
def disk(tmp_path):
    """Makes a small disk at a path; skips where this user may not mount one."""
    mounted = []

    def make(path, options):
        path.mkdir(parents=True, exist_ok=True)
        if shutil.which("mount") is None or os.name != "posix":
            pytest.skip("needs mount")
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, text=True, check=False
        )
        if made.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {made.stderr.strip()}")
        mounted.append(path)
        return path

    yield make
    for path in mounted:
        subprocess.run(["umount", "-l", path], check=False, capture_output=True)
