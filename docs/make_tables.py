"""Update the tables of docs/pipelines.md from the code: python docs/make_tables.py

A table is placed between `<!-- table: NAME -->` and `<!-- end -->`. NAME is `pipeline file`, `run`, a command
(`command run`), a plugin (`backend sam`), or `models of sam`. Names, types of values, defaults and meanings
come from the models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from pydantic import BaseModel

from maskmill.cli import cli
from maskmill.cli.run import command as run
from maskmill.config.config import ImageOptions, RunOptions, StorageModel
from maskmill.config.load import PipelineFile
from maskmill.plugins.options import list_options
from maskmill.plugins.registry import Registry
from maskmill_plugins.backends.sam.weights.published import MODELS as MODELS_OF_SAM, PublishedModel

PAGE = Path(__file__).parent / "pipelines.md"
TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
MODELS: dict[str, type[BaseModel]] = {
    "pipeline file": PipelineFile,
    "images": ImageOptions,
    "storage": StorageModel,
    "run": RunOptions,
}


def update_tables(page: str) -> str:
    """Return the page with updated tables."""
    return TABLE.sub(lambda found: f"{found[1]}{render_table(found[2])}{found[3]}", page)


def render_table(name: str) -> str:
    """Return the table with this name, in Markdown."""
    what, _, rest = name.rpartition(" ")
    if what == "command":
        return render_command(cli.get_command(click.Context(cli), rest))
    if name == "models of sam":
        return render_models()
    return render_options(MODELS[name] if name in MODELS else Registry.load().get(what, rest).cls)


def render_options(model: type[BaseModel]) -> str:
    """Return the table of the options of a model: value, default, meaning."""
    rows = list_options(model)
    if not rows:
        return "It has no options.\n"
    if model is PipelineFile:  # `Any` in this model means a plugin
        rows = [
            row._replace(value=row.value.replace("of anything", "of plugins").replace("anything", "plugin"))
            for row in rows
        ]
    cells = [(f"`{row.name}`", row.value, row.default, row.meaning) for row in rows]
    return render_markdown(("option", "value", "default", "meaning"), cells)


def render_command(command: click.Command | None) -> str:
    """Return the table of a command's options; those that it shares with `run` are left out."""
    assert command is not None, "unknown command"
    rows = []
    shared = [] if command is run else run.params  # described there
    for parameter in command.get_params(click.Context(command)):
        if parameter in shared:
            continue
        if isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            value = "" if parameter.is_flag else f" {parameter.metavar or (parameter.name or '').upper()}"
            names = ", ".join(f"`{name}{value}`" for name in parameter.opts)
            rows.append((names, parameter.help or ""))
    return render_markdown(("option", "meaning"), rows)


def render_models() -> str:
    """Return the table of the published models of Segment Anything."""
    rows = [
        (f"`{name}`", f"[{model.file}]({model.url})", f"{model.bytes / 1e6:,.0f} MB", format_memory(model))
        for name, model in MODELS_OF_SAM.items()
    ]
    return render_markdown(("model", "file", "size", "memory per worker on a CPU"), rows)


def format_memory(model: PublishedModel) -> str:
    """Return the memory needed, also with `fast: false`."""
    return f"{model.memory / 1e9:g} GB; with `fast: false` {model.stock_memory / 1e9:g} GB"


def render_markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, one row per line."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(update_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
