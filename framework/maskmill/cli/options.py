"""Options that several commands share."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ..api import Pipeline

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
#: Of commands that are about all plugins found.
PLUGINS = click.option(
    "--plugins", multiple=True, type=FILE, metavar="PATH", help="Also load drop-ins from this file or folder."
)
BESIDE = click.option("--for", "file", type=FILE, help="Also what lies beside this pipeline file.")
#: Of commands that look at the images of a run again.
IMAGES = click.option(
    "--images", type=FILE, metavar="FOLDER", help="Where the images are now, if no longer where the run found them."
)
#: The parameters of `load`, as click hands them over.
LOAD = ("file", "photos", "output", "sets", "jobs", "plugins", "no_drop_ins")


def pipeline_options(function: F) -> F:
    """FILE, PHOTOS, -o, --set, --jobs, --plugins, --no-drop-ins: what decides which pipeline it is."""
    for decorate in reversed(
        [
            click.argument("file", type=FILE),
            click.argument("photos", required=False),
            click.option("-o", "--output", type=FILE, help="Output folder, instead of the file's."),
            click.option(
                "--set",
                "sets",
                multiple=True,
                metavar="KEY=VALUE",
                help="Override one value, for example backend.model=vit_h.",
            ),
            click.option("-j", "--jobs", help="Workers: a number, or auto."),
            click.option(
                "--plugins",
                multiple=True,
                type=FILE,
                metavar="PATH",
                help="Load drop-in plugins from this file or folder.",
            ),
            click.option("--no-drop-ins", is_flag=True, help="Load no drop-in plugins that were not named."),
        ]
    ):
        function = decorate(function)
    return function


def load(
    file: Path,
    photos: str | None,
    output: Path | None,
    sets: tuple[str, ...],
    jobs: str | None,
    plugins: tuple[Path, ...],
    no_drop_ins: bool,
) -> Pipeline:
    """The pipeline that these options describe.

    Raises:
        UsageError: it is wrong.
    """
    from ..api import Pipeline

    if jobs is not None:
        sets = (*sets, f"run.jobs={jobs}")
    return Pipeline.load(
        file,
        sets=sets,
        dataset=None if photos is None else (photos,),
        output=output,
        plugins=plugins,
        drop_ins=not no_drop_ins,
    )


def as_typed(parts: Sequence[str]) -> str:
    """A command as this system's shell takes it."""
    return subprocess.list2cmdline(parts) if sys.platform == "win32" else shlex.join(parts)


def settings(sets: Sequence[str]) -> dict[str, Any]:
    """The options of `--set`, whose values are YAML.

    Raises:
        PipelineError: one is not of the form OPTION=VALUE, or its value is no YAML.
    """
    from ..config.document import Document
    from ..config.overrides import override
    from ..errors import PipelineError

    document = Document("--set")
    document.tree = {}
    found = [problem for each in sets for problem in override(document, each)]
    if found or document.problems:
        raise PipelineError(*found, *document.problems)
    settings: dict[str, Any] = document.tree
    return settings
