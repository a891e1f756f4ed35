"""`maskmill init`: copy the example pipelines into the working directory."""

from __future__ import annotations

import importlib.resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click

#: Data package -> folder that it is copied to; the pipelines refer to the data by these paths.
SAMPLES = {"maskmill_pipelines": "pipelines", "maskmill_quickstart": "datasets/quickstart"}
#: Needs images that are only in the repository.
NOT_COPIED = "scenes.yaml"


@click.command("init")
@click.argument("name", required=False)
def command(name: str | None) -> int:
    """Copy the example pipelines (or only NAME) and their data to the working directory; overwrites nothing."""
    pipelines = {Path(file.name).stem: file for file in _list_files("maskmill_pipelines")}
    if name is not None and name not in pipelines:
        raise click.UsageError(f"there is no pipeline {name!r}; available: {', '.join(sorted(pipelines))}")
    for package, folder in SAMPLES.items():
        for file in _list_files(package):
            if name in (None, Path(file.name).stem) or package != "maskmill_pipelines":
                _copy(file, Path(folder, file.name))
    click.echo(f"Try: run-pipeline {SAMPLES['maskmill_pipelines']}/{name or 'quickstart'}.yaml")
    return 0


def _list_files(package: str) -> list[Traversable]:
    files = [file for file in importlib.resources.files(package).iterdir() if file.is_file()]
    wanted = [file for file in files if not file.name.endswith(".py") and file.name != NOT_COPIED]
    return sorted(wanted, key=lambda file: file.name)


def _copy(source: Traversable, target: Path) -> None:
    content = source.read_bytes()
    if target.exists():
        same = target.read_bytes() == content
        click.echo(f"kept     {target}" + ("" if same else " (it differs from the version included in maskmill)"))
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    click.echo(f"created  {target}")
