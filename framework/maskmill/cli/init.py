"""`maskmill init`: copy the ready pipelines into the working directory."""

from __future__ import annotations

import importlib.resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from ..errors import suggest_name

#: Packages of data, and the folder that each becomes; a pipeline's paths lead from one to the other.
SAMPLES = {"maskmill_pipelines": "pipelines", "maskmill_quickstart": "datasets/quickstart"}
#: Needs pictures that only a clone of the repository has.
NOT_COPIED = "scenes.yaml"


@click.command("init")
@click.argument("name", required=False)
def command(name: str | None) -> int:
    """Copy the ready pipelines (or only NAME) and the lists they use here; nothing is overwritten."""
    pipelines = {Path(file.name).stem: file for file in _files("maskmill_pipelines")}
    if name is not None and name not in pipelines:
        raise click.UsageError(f"there is no pipeline {name!r}; {suggest_name(name, sorted(pipelines))}")
    for package, folder in SAMPLES.items():
        for file in _files(package):
            if name in (None, Path(file.name).stem) or package != "maskmill_pipelines":
                _copy(file, Path(folder, file.name))
    click.echo(f"Try: run-pipeline {SAMPLES['maskmill_pipelines']}/{name or 'quickstart'}.yaml")
    return 0


def _files(package: str) -> list[Traversable]:
    files = [file for file in importlib.resources.files(package).iterdir() if file.is_file()]
    wanted = [file for file in files if not file.name.endswith(".py") and file.name != NOT_COPIED]
    return sorted(wanted, key=lambda file: file.name)


def _copy(source: Traversable, target: Path) -> None:
    content = source.read_bytes()
    if target.exists():
        same = target.read_bytes() == content
        click.echo(f"kept     {target}" + ("" if same else " (yours differs from the one that comes with maskmill)"))
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    click.echo(f"created  {target}")
