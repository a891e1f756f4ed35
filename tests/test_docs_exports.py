"""docs/exports.md: the ready commands work, and the lines that load what they write, where the program is installed."""

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from stored_runs import KEYS, project, run, told

PAGE = (Path(__file__).parents[1] / "docs" / "exports.md").read_text(encoding="utf-8")
BLOCKS = re.compile(
    r"<!-- consumer: (\w+) -->\n.*?```bash\n(maskmill export .+?)\n```\n\n```python\n(.*?)```", re.DOTALL
)
READY = {name: (command, code) for name, command, code in BLOCKS.findall(PAGE)}
#: What the lines cannot do here: download weights, ask a server, open a window.
NOT_RUN = {"ultralytics", "labelstudio", "fiftyone"}
#: Program -> the files without which it finds nothing.
FILES = {
    "ultralytics": "data.yaml",
    "cvat": "annotations.xml",
    "supervision": "instances.json",
    "fiftyone": "samples.json",
    "labelstudio": "tasks.json",
    "hf": "train/metadata.parquet",
    "detectron2": "annotations/panoptic_train.json",
    "segmentation": "labels.txt",
}


def count_masks_of_each_image(name, found):
    dataset = found.get("dataset")
    if name in ("cvat", "detectron2"):
        return [len(item.annotations) for item in dataset]
    if name == "supervision":
        return [len(detections) for _, _, detections in dataset]
    if name == "hf":
        assert found["names"] == ["thing", "猫"]
        return [len(row["objects"]["category"]) for rows in dataset.values() for row in rows]
    assert found["names"] == ["background", "thing", "猫"]
    return [len(np.unique(numbers)) - 1 for numbers in found["maps"].values()]


def is_installed(module):
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None  # not a folder of the same name, such as our `datasets`


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """A run of five images, with two masks each."""
    return run(project(tmp_path_factory.mktemp("现成"), writers="[]"), "outputs/mine")


def test_every_program_has_a_ready_command():
    assert set(READY) == set(FILES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_ready_commands_write_what_their_program_loads(name, output, tmp_path, monkeypatch, capsys):
    command, code = READY[name]
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/mine").symlink_to(output, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    status, out, _ = told(capsys, *shlex.split(command)[1:])
    assert (status, "5 images exported" in out) == (0, True)
    assert (tmp_path / "dataset" / FILES[name]).is_file()
    modules = [line.split()[1].split(".")[0] for line in code.splitlines() if re.match("import |from ", line)]
    compile(code, name, "exec")
    if name in NOT_RUN or not all(map(is_installed, modules)):
        return
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if name == "hf":
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    found = {}
    (tmp_path / "outputs/mine").unlink()  # the folder has everything
    exec(code, found)
    assert sorted(count_masks_of_each_image(name, found)) == [2] * len(KEYS)
