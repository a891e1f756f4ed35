"""What several commands share: options, loading a pipeline, writing a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..api import Pipeline
    from ..plugins.registry import Registry

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
PLUGINS = click.option(
    "--plugins", multiple=True, type=FILE, metavar="PATH", help="Also load drop-in plugins from this file or folder."
)
#: For commands about all plugins.
BESIDE = click.option(
    "--for",
    "file",
    type=FILE,
    metavar="PIPELINE",
    help="Also load the drop-ins that this pipeline file would find.",
)
#: For messages about a plugin that is not found.
DROP_INS_HINT = "plugins that lie beside a pipeline file are found with --for PIPELINE.yaml, others with --plugins PATH"
#: For commands that read the images of a run again.
IMAGES = click.option(
    "--images", type=FILE, metavar="FOLDER", help="Where the images are now, if they were moved since the run."
)
#: The parameters of `load_pipeline`, as named by click.
LOAD = ("file", "photos", "output", "state", "sets", "jobs", "plugins", "no_drop_ins")


def pipeline_options(function: F) -> F:
    """Add the options that select a pipeline: FILE, PHOTOS, -o, --set, --jobs, --plugins, --no-drop-ins."""
    for decorate in reversed(
        [
            click.argument("file", type=FILE),
            click.argument("photos", required=False),
            click.option("-o", "--output", type=FILE, help="Output folder, instead of the one in the file."),
            click.option(
                "--state",
                type=FILE,
                metavar="DIR",
                help="For an output in object storage or on a network drive: the folder of this machine to work in.",
            ),
            click.option(
                "--set",
                "sets",
                multiple=True,
                metavar="KEY=VALUE",
                help="Override one value of the file, for example backend.model=vit_h.",
            ),
            click.option("-j", "--jobs", help="Number of workers, or auto."),
            PLUGINS,
            click.option("--no-drop-ins", is_flag=True, help="Load only drop-in plugins that are named explicitly."),
        ]
    ):
        function = decorate(function)
    return function


def load_pipeline(
    file: Path,
    photos: str | None,
    output: Path | None,
    state: Path | None,
    sets: tuple[str, ...],
    jobs: str | None,
    plugins: tuple[Path, ...],
    no_drop_ins: bool,
) -> Pipeline:
    """Load the pipeline selected by these options.

    Raises:
        UsageError: the pipeline file or an option is wrong.
    """
    from ..api import Pipeline

    if jobs is not None:
        sets = (*sets, f"run.jobs={jobs}")
    return Pipeline.load(
        file,
        sets=sets,
        dataset=None if photos is None else (photos,),
        output=output,
        state=state,
        plugins=plugins,
        drop_ins=not no_drop_ins,
    )


def load_registry(plugins: Sequence[Path], file: Path | None) -> Registry:
    """The installed plugins, those of `--plugins`, and those that the pipeline file of `--for` finds.

    As in a run, the latter may be wrong: `Registry.failures` names them.

    Raises:
        PluginError: one that is named does not exist or cannot be loaded.
    """
    from ..config.inherit import find_plugin_files
    from ..plugins.find import find_drop_ins
    from ..plugins.registry import Registry

    named = find_drop_ins(None, plugins)
    found = [path for path in find_plugin_files(file) if path not in named]
    return Registry.load([*named, *found], optional=found)


def show_failures(registry: Registry) -> None:
    """Name the plugins that were left out."""
    for problem in registry.failures:
        click.echo(str(problem), err=True)


def parse_settings(sets: Sequence[str], models: Callable[[], Sequence[type[BaseModel]]]) -> dict[str, Any]:
    """Parse the options of `--set`, each read as what the plugins say that it is (see `config.overrides`).

    Args:
        sets: OPTION=VALUE each.
        models: the plugins that the options are for; called if there are options.

    Raises:
        PipelineError: one does not have the form OPTION=VALUE, or its value is not valid YAML.
    """
    from ..config.document import Document
    from ..config.overrides import override, settle_texts
    from ..errors import PipelineError
    from ..plugins.options import OptionSchema

    if not sets:
        return {}
    document = Document("--set")
    document.tree = {}
    found = [problem for each in sets for problem in override(document, each)]
    schemas = [OptionSchema(model) for model in models()]
    settle_texts(document, lambda loc: [allowed for schema in schemas for allowed in schema.at(loc)])
    if found or document.problems:
        raise PipelineError(*found, *document.problems)
    settings: dict[str, Any] = document.tree
    return settings


def write_text(file: Path, text: str) -> None:
    """Write a text file in UTF-8, creating its folder.

    Raises:
        OutputError: the file cannot be written.
    """
    from ..errors import OutputError, Problem
    from ..files import write_atomic

    try:
        write_atomic(file, text.encode("utf-8"))
    except OSError as error:
        raise OutputError(Problem(f"cannot write '{file}': {error.strerror or error}")) from None
