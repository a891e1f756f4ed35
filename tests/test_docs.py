"""The documentation is correct: the code that it names exists, files exist, links are valid."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLACES = re.findall(r"`([\w/]+\.py):([\w.]+)`", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize(("file", "name"), PLACES, ids=lambda value: value)
def test_every_place_of_the_architecture_exists(file, name):
    package = "maskmill" if (ROOT / "framework/maskmill" / file).exists() else "maskmill_plugins"
    found = importlib.import_module(f"{package}." + file.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        found = getattr(found, part)
    assert found.__module__.startswith("maskmill") if hasattr(found, "__module__") else True


def test_the_architecture_names_every_folder_of_code():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for root in (ROOT / "framework/maskmill", ROOT / "plugins/maskmill_plugins"):
        for folder in (path.parent for path in root.rglob("__init__.py") if path.parent != root):
            assert f"`{folder.relative_to(root).as_posix()}/`" in text or f"`{folder.name}/`" in text, folder


def test_the_table_of_places_is_there():
    assert len(PLACES) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 200
