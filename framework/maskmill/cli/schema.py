"""`maskmill schema`: the JSON Schema with which editors complete and check pipeline files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ..files import path_from
from .options import BESIDE, FILE, PLUGINS, load_registry, show_failures, write_text


@click.command("schema")
@click.option("-o", "--output", type=FILE, help="Write it to this file instead of standard output.")
@PLUGINS
@BESIDE
def command(output: Path | None, plugins: tuple[Path, ...], file: Path | None) -> int:
    """Print the JSON Schema of pipeline files, with the options of every plugin found."""
    from ..config.json_schema import build_schema

    registry = load_registry(plugins, file)
    schema = build_schema(registry)
    show_failures(registry)
    text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return 0
    write_text(output, text)
    click.echo(f"Add this as the first line of {file or 'a pipeline file in the same folder'}:")
    click.echo(f"# yaml-language-server: $schema={_relative_path(file, output)}")
    return 0


def _relative_path(file: Path | None, schema: Path) -> str:
    """The schema's path relative to the pipeline file; None means a file in the schema's folder."""
    folder = schema.parent if file is None else file.parent
    try:
        return path_from(folder, schema)
    except ValueError:  # on another drive
        return schema.resolve().as_posix()
