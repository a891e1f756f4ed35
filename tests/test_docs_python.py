"""docs/python.md is correct: its code runs from top to bottom, and so does the notebook."""

import ast
import importlib.util
import re
import shutil
from pathlib import Path

import pytest

import maskmill

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
NOTEBOOK = ROOT / "docs/examples/first_steps.ipynb"
#: What blocks need that is not in every environment of the tests.
NEEDED = {"to_dataframe": "pandas", "table.": "pandas", "to_supervision": "supervision"}


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """The parts of a clone that the page uses, as the working directory."""
    for name in ("pipelines/quickstart.yaml", "datasets/scenes/boxes.jsonl", "datasets/quickstart"):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for name in ("000.jpg", "001.jpg"):
        (tmp_path / "datasets/scenes/images").mkdir(exist_ok=True)
        shutil.copy(ROOT / "datasets/scenes/images" / name, tmp_path / "datasets/scenes/images")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    maskmill.free_models()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of supervision and its packages
def test_the_code_runs_from_top_to_bottom(clone, capsys):
    values = {}
    for block in BLOCKS:
        if all(importlib.util.find_spec(package) for word, package in NEEDED.items() if word in block):
            exec(compile(block, "docs/python.md", "exec"), values)
    printed = capsys.readouterr().out
    assert "<RunReport finished: 2 done" in printed
    assert "the box [900.0, 900.0, 950.0, 950.0] lies outside the image of 320×240 pixels" in printed
    assert "did you mean 'iterations'?" in printed
    assert values["boxes"][1].label == "star"
    assert values["report"].ran == 2
    assert sorted(path.name for path in clone.glob("*.png")) == ["look.png", "mask.png", "result.png"]


def test_every_name_of_the_package_that_the_page_uses_is_public():
    code = "\n".join([*BLOCKS, *re.findall(r"`(maskmill\.\w+)", PAGE)])
    used = {
        node.attr
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "maskmill"
    }
    assert used - set(maskmill.__all__) == set()
    assert {"Predictor", "Pipeline", "segment", "read_run", "free_models"} <= used


def test_the_notebook_runs(clone):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "stored without outputs"
    folder = clone / "docs/examples"  # where Jupyter starts it
    folder.mkdir(parents=True)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    if importlib.util.find_spec("ipywidgets"):
        assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs), (
            "the bar"
        )
    text = "".join(output.get("text", "") for output in outputs)
    assert "UserWarning" not in text
    assert "Traceback" not in text
