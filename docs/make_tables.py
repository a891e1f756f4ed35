"""Write the tables of docs/pipelines.md anew from the code: python docs/make_tables.py

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. NAME is `pipeline file`, `run`, a command
(`command run`), a plugin (`backend sam`), or `models of sam`. Names, kinds of value, defaults and meanings
come from the models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from pydantic import BaseModel

from maskmill.cli import cli
from maskmill.config.config import RunOptions
from maskmill.config.load import PipelineFile
from maskmill.plugins.options import list_options
from maskmill.plugins.registry import Registry
from maskmill_plugins.backends.sam.weights.published import MODELS as MODELS_OF_SAM, PublishedModel

PAGE = Path(__file__).parent / "pipelines.md"
TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
MODELS: dict[str, type[BaseModel]] = {"pipeline file": PipelineFile, "run": RunOptions}


def rewritten(page: str) -> str:
    """The page with its tables written anew."""
    return TABLE.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", page)


def table(name: str) -> str:
    """The table of this name, in Markdown."""
    what, _, rest = name.rpartition(" ")
    if what == "command":
        return command_table(cli.get_command(click.Context(cli), rest))
    if name == "models of sam":
        return models_table()
    return options_table(MODELS[name] if name in MODELS else Registry.load().get(what, rest).cls)


def options_table(model: type[BaseModel]) -> str:
    """Options with the kind of their value, their default and their meaning."""
    rows = list_options(model)
    if not rows:
        return "It has no options.\n"
    if model is PipelineFile:  # there, what the model leaves open is a plugin
        rows = [
            row._replace(value=row.value.replace("of anything", "of plugins").replace("anything", "plugin"))
            for row in rows
        ]
    cells = [(f"`{row.name}`", row.value, row.default, row.meaning) for row in rows]
    return markdown(("option", "value", "default", "meaning"), cells)


def command_table(command: click.Command | None) -> str:
    """Arguments and options of a command."""
    assert command is not None, "a table is about a command that exists"
    rows = []
    for parameter in command.get_params(click.Context(command)):
        if isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            value = "" if parameter.is_flag else f" {parameter.metavar or (parameter.name or '').upper()}"
            names = ", ".join(f"`{name}{value}`" for name in parameter.opts)
            rows.append((names, parameter.help or ""))
    return markdown(("option", "meaning"), rows)


def models_table() -> str:
    """The published sizes of Segment Anything."""
    rows = [
        (f"`{name}`", f"[{model.file}]({model.url})", f"{model.bytes / 1e6:,.0f} MB", gigabytes(model))
        for name, model in MODELS_OF_SAM.items()
    ]
    return markdown(("model", "file", "size", "memory a worker needs on a CPU"), rows)


def gigabytes(model: PublishedModel) -> str:
    """Memory, also of the slow way."""
    return f"{model.memory / 1e9:g} GB; with `fast: false` {model.stock_memory / 1e9:g} GB"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, one row a line."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
