"""A worker proves that it sees this run's output folder and dataset before its first image."""

import platform
from pathlib import Path

import pytest
from stored_runs import project, told

from maskmill import ImageRef, PluginError, Run
from maskmill.plugins.messages import RUN_MARK, RunMark
from maskmill.run import worker


@pytest.fixture
def output(tmp_path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / RUN_MARK).write_text("abc", encoding="ascii")
    return folder


def test_a_worker_that_sees_the_run_begins(output):
    worker.check_folders(RunMark("abc", platform.node()), output)


@pytest.mark.parametrize(
    ("token", "problem"),
    [("", "does not see the run's folder"), ("xyz", "sees another folder")],
    ids=["nothing", "another-run"],
)
def test_a_worker_that_sees_another_folder_says_so(output, token, problem):
    (output / RUN_MARK).unlink() if not token else (output / RUN_MARK).write_text(token, encoding="ascii")
    with pytest.raises(PluginError, match=f"the worker on {platform.node()} {problem} at the output's path"):
        worker.check_folders(RunMark("abc", "head-node"), output)


def test_on_another_machine_a_sample_of_the_dataset_must_be_there(output, tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"123")
    sample = ImageRef(str(image), "a.png")
    worker.check_folders(RunMark("abc", "head-node", sample, 3), output)
    with pytest.raises(PluginError, match="sees another dataset, as 3 bytes are not 4"):
        worker.check_folders(RunMark("abc", "head-node", sample, 4), output)
    image.unlink()
    with pytest.raises(PluginError, match="does not see the dataset"):
        worker.check_folders(RunMark("abc", "head-node", sample, 3), output)
    worker.check_folders(RunMark("abc", platform.node(), sample, 3), output)  # deleted during the run: that image fails


def test_a_run_whose_workers_see_another_output_blames_no_image(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(worker, "RUN_MARK", "elsewhere")  # as on a machine with a disk of its own at this path
    code, _, err = told(capsys, "run", project(tmp_path))
    assert code == 2 and "does not see the run's folder" in err and "give an output folder that" in err
    assert sum(Run(tmp_path / "out").counts().values()) == 0
    assert not (tmp_path / "out" / RUN_MARK).exists()
