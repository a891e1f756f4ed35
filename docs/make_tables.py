"""Write the tables of docs/pipelines.md anew from the code: python docs/make_tables.py

A table stands between `<!-- table: NAME -->` and `<!-- end -->`. NAME is `pipeline file`, `run`, a command
(`command run`), a plugin (`backend sam`), or `models of sam`. Names, kinds of value, defaults and meanings
come from the models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel

from maskmill.cli import cli
from maskmill.config import PipelineFile, RunOptions
from maskmill.plugins import Registry
from maskmill.schema import OptionSchema, Schema
from maskmill_plugins.backends.sam.checkpoints import MODELS as MODELS_OF_SAM
from maskmill_plugins.backends.sam.checkpoints import Model

PAGE = Path(__file__).parent / "pipelines.md"
TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
NOUNS = {"integer": "whole number", "number": "number", "string": "text", "object": "mapping"}
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
    if not model.model_fields:
        return "It has no options.\n"
    schema = OptionSchema(model)
    properties = model.model_json_schema()["properties"]
    rows = []
    for name, about in properties.items():
        branches = [branch for branch in schema.at((name,)) if branch.get("type") != "null"]
        branches.sort(key=lambda branch: "const" not in branch)  # `auto` or a number with its range, not the reverse
        meaning = about.get("description", "")
        if about.get("affects_results") is False:
            meaning += "; changing it redoes nothing"
        kinds = either([kind(schema, (name,), branch) for branch in branches])
        rows.append((f"`{name}`", kinds, default(about), meaning))
    return markdown(("option", "value", "default", "meaning"), rows)


def kind(schema: OptionSchema, loc: tuple[str | int, ...], branch: Schema, many: bool = False) -> str:
    """What a value may be, in words.

    Args:
        schema: of the whole model.
        loc: where the value stands.
        branch: one of the things that may stand there.
        many: in the plural.
    """
    choices = [branch["const"]] if "const" in branch else branch.get("enum")
    if choices is not None:
        return either([code(choice) for choice in choices])
    if "type" not in branch:
        return "plugins" if many else "plugin"
    if branch["type"] == "boolean":
        return "`true` or `false`"
    if branch["type"] == "array":
        items = either([kind(schema, (*loc, 0), item, many=True) for item in schema.at((*loc, 0))])
        return f"list{'s' if many else ''} of {how_many(branch)}{items}"
    noun = "path" if "path" in branch.get("format", "") else NOUNS[branch["type"]]
    noun += "s" if many else ""
    if examples := branch.get("examples"):
        return f"{noun} such as {code(examples[0])}"
    return noun + limits(branch)


def either(words: Sequence[str]) -> str:
    """One, two or three."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def how_many(branch: Schema) -> str:
    """How many entries a list has, "" where it does not matter."""
    low, high = branch.get("minItems", 0), branch.get("maxItems")
    if high is None:
        return ""
    return f"{low} " if low == high else f"{low} to {high} "


def limits(branch: Schema) -> str:
    """The range of a number, "" if it has none."""
    least, most = branch.get("minimum"), branch.get("maximum")
    if least is not None and most is not None:
        return f", {least:g} to {most:g}"
    above, below = branch.get("exclusiveMinimum"), branch.get("exclusiveMaximum")
    words = (("at least", least), ("above", above), ("at most", most), ("below", below))
    return "".join(f", {word} {limit:g}" for word, limit in words if limit is not None)


def default(about: Schema) -> str:
    """The default as one writes it in YAML, – for none."""
    if "default" not in about or (about["default"] == [] and about.get("minItems")):
        return "*needed*"
    return "–" if about["default"] is None else code(about["default"])


def code(value: Any) -> str:
    """A value as YAML, in backticks."""
    if isinstance(value, (str, float)):
        return f"`{value}`" if isinstance(value, str) else f"`{value:g}`"
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return f"`{text.strip()[1:-1]}`"


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
        (code(name), f"[{model.file}]({model.url})", f"{model.bytes / 1e6:,.0f} MB", gigabytes(model))
        for name, model in MODELS_OF_SAM.items()
    ]
    return markdown(("model", "file", "size", "memory a worker needs on a CPU"), rows)


def gigabytes(model: Model) -> str:
    """Memory, also of the slow way."""
    return f"{model.memory / 1e9:g} GB; with `fast: false` {model.stock_memory / 1e9:g} GB"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, one row a line."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
