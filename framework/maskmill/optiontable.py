"""The options of a model in words: what may stand there, the default, the meaning.

The words are Markdown, with what one types in backticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from .schema import OptionSchema, Schema

_NOUNS = {"integer": "whole number", "number": "number", "string": "text", "object": "mapping"}


class Option(NamedTuple):
    """One option, as words.

    Attributes:
        name: what stands in YAML.
        value: what may be its value, with its limits.
        default: as one writes it; "–" for none, "*needed*" if it must be given.
        meaning: its description, and whether changing it changes results.
    """

    name: str
    value: str
    default: str
    meaning: str


def option_table(model: type[BaseModel]) -> list[Option]:
    """The options of a model, in its order."""
    schema = OptionSchema(model)
    rows = []
    for root in schema.at(()):
        if "properties" not in root:  # types that have no JSON Schema
            names = [(field.alias or name, field.description or "") for name, field in model.model_fields.items()]
            return [Option(name, "anything", "–", meaning) for name, meaning in names]
        for name, about in root["properties"].items():
            branches = [branch for branch in schema.at((name,)) if branch.get("type") != "null"]
            branches.sort(key=lambda branch: "const" not in branch)  # `auto` or a number with its range
            meaning = about.get("description", "")
            if about.get("affects_results") is False:
                meaning += "; changing it redoes nothing"
            value = _either([_kind(schema, (name,), branch) for branch in branches])
            rows.append(Option(name, value, _default(name, about, root), meaning.removeprefix("; ")))
    return rows


def _kind(schema: OptionSchema, loc: tuple[str | int, ...], branch: Schema, many: bool = False) -> str:
    """What a value may be, in words.

    Args:
        schema: of the whole model.
        loc: where the value stands.
        branch: one of the things that may stand there.
        many: in the plural.
    """
    choices = [branch["const"]] if "const" in branch else branch.get("enum")
    if choices is not None:
        return _either([_as_code(choice) for choice in choices])
    if "type" not in branch:
        return "anything"
    if branch["type"] == "boolean":
        return "`true` or `false`"
    if branch["type"] == "array":
        items = _either([_kind(schema, (*loc, 0), item, many=True) for item in schema.at((*loc, 0))])
        return f"list{'s' if many else ''} of {_how_many(branch)}{items}"
    noun = "path" if "path" in branch.get("format", "") else _NOUNS[branch["type"]]
    noun += "s" if many else ""
    if examples := branch.get("examples"):
        return f"{noun} such as {_as_code(examples[0])}"
    return noun + _limits(branch)


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _how_many(branch: Schema) -> str:
    low, high = branch.get("minItems", 0), branch.get("maxItems")
    if high is None:
        return ""
    return f"{low} " if low == high else f"{low} to {high} "


def _limits(branch: Schema) -> str:
    least, most = branch.get("minimum"), branch.get("maximum")
    if least is not None and most is not None:
        return f", {least:g} to {most:g}"
    above, below = branch.get("exclusiveMinimum"), branch.get("exclusiveMaximum")
    words = (("at least", least), ("above", above), ("at most", most), ("below", below))
    return "".join(f", {word} {limit:g}" for word, limit in words if limit is not None)


def _default(name: str, about: Schema, root: Schema) -> str:
    if name in root.get("required", ()) or (about.get("default") == [] and about.get("minItems")):
        return "*needed*"
    return "–" if about.get("default") is None else _as_code(about["default"])


def _as_code(value: Any) -> str:
    """A value as YAML, in backticks."""
    if isinstance(value, (str, float)):
        return f"`{value}`" if isinstance(value, str) else f"`{value:g}`"
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return f"`{text.strip()[1:-1]}`"
