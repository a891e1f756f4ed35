"""Look into a built wheel: every package is there with its types, and nothing that does not belong."""

import configparser
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main(wheel: str) -> None:
    """Exit with a message if something is missing or too much."""
    names = set(zipfile.ZipFile(wheel).namelist())
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    packages = parser["options"]["packages"].split()
    expected = {f"{package.replace('.', '/')}/__init__.py" for package in packages}
    for name, root in {"maskmill": "framework/maskmill", "maskmill_plugins": "plugins/maskmill_plugins"}.items():
        folder = ROOT / root
        expected |= {f"{name}/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.py")}
        expected.add(f"{name}/py.typed")
    expected |= {f"maskmill_pipelines/{path.name}" for path in (ROOT / "pipelines").glob("*.yaml")}
    pages = ("_shared/result_pages/web", "writers/report/page", "evaluation/report/page")
    for data in (
        "framework/maskmill/testing/plugin_templates",
        *(f"plugins/maskmill_plugins/{page}" for page in pages),
    ):
        package = data.partition("/")[2]
        expected |= {f"{package}/{path.name}" for path in (ROOT / data).iterdir()}
    expected |= {f"maskmill_quickstart/{name}" for name in ("boxes.json", "photos.txt", "prompts.jsonl")}
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name.split("/")[0]}
    if missing := sorted(expected - names):
        sys.exit(f"the wheel lacks {missing}")
    if strange := sorted(tops - {package.split(".")[0] for package in packages}):
        sys.exit(f"the wheel holds {strange}")
    if tests := sorted(name for name in names if Path(name).name.startswith(("test_", "conftest"))):
        sys.exit(f"the wheel holds tests: {tests}")


if __name__ == "__main__":
    main(sys.argv[1])
