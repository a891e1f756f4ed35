"""What a plugin's options allow, read from the JSON Schema of its model.

Used for error messages and tables: the range of a number, the keys of a nested model, and whether
a value is a secret. Unions are followed into all their branches.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel

from .stage import PATH_OR_NAME

Schema = dict[str, Any]


class OptionSchema:
    """Looks up the JSON Schema of an option by its path in a pydantic model.

    If pydantic cannot create a schema (an option of an unusual type), nothing is known, and
    every value is treated as a secret.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self._root: Schema = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about defaults without a JSON form, not needed here
                self._root = model.model_json_schema()
        except Exception:  # from pydantic, or from a type of the plugin
            self._root = {}

    def at(self, loc: Sequence[str | int]) -> list[Schema]:
        """The schemas of the values allowed at a path, with unions and references resolved."""
        found = list(self._resolve(self._root))
        for step in loc:
            found = [inner for schema in found for inner in self._descend(schema, step)]
        return found

    def keys(self, loc: Sequence[str | int]) -> list[str]:
        """The keys allowed in a mapping at this path, in the order of the model."""
        return list(dict.fromkeys(key for schema in self.at(loc) for key in schema.get("properties", {})))

    def description(self, loc: Sequence[str | int]) -> str:
        """The description of an option, "" if it has none."""
        *parent, last = loc
        described = [schema["properties"][last] for schema in self.at(parent) if last in schema.get("properties", {})]
        return next((text for schema in described if (text := schema.get("description"))), "")

    def is_secret(self, loc: Sequence[str | int]) -> bool:
        """Whether the value at this path is a secret, or may contain one."""
        return not self._root or any(self._contains_secret(schema, set()) for schema in self.at(loc))

    def secrets(self, value: Any, loc: tuple[str | int, ...] = ()) -> Iterator[str]:
        """Every secret text in a tree of options."""
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from self.secrets(inner, (*loc, key))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                yield from self.secrets(inner, (*loc, index))
        elif isinstance(value, str) and value and self.is_secret(loc):
            yield value

    def _resolve(self, schema: Schema) -> Iterator[Schema]:
        """The schema itself with its reference resolved, or each branch of its union."""
        if "$ref" in schema:
            yield from self._resolve(self._root["$defs"][schema["$ref"].rpartition("/")[2]])
            return
        branches = [branch for word in ("anyOf", "oneOf", "allOf") for branch in schema.get(word, ())]
        for branch in branches:
            yield from self._resolve(branch)
        if not branches:
            yield schema

    def _descend(self, schema: Schema, step: str | int) -> Iterator[Schema]:
        if isinstance(step, int):
            fixed = schema.get("prefixItems", [])
            inner = fixed[step] if step < len(fixed) else schema.get("items")
        else:
            inner = schema.get("properties", {}).get(step, schema.get("additionalProperties"))
        if isinstance(inner, dict):
            yield from self._resolve(inner)

    def _contains_secret(self, schema: Schema, seen: set[int]) -> bool:
        if id(schema) in seen:  # a model may contain itself
            return False
        seen.add(id(schema))
        if schema.get("writeOnly"):
            return True
        parts = [*schema.get("properties", {}).values(), *schema.get("prefixItems", [])]
        parts += [part for word in ("items", "additionalProperties") if isinstance(part := schema.get(word), dict)]
        return any(self._contains_secret(inner, seen) for part in parts for inner in self._resolve(part))


_NOUNS = {"integer": "whole number", "number": "number", "string": "text", "object": "mapping"}


class OptionRow(NamedTuple):
    """One option, described in words.

    Attributes:
        name: its key in YAML.
        value: the values allowed, with limits.
        default: as written in YAML; "–" for none, "*needed*" if it is required.
        meaning: its description, and whether changing it changes results.
    """

    name: str
    value: str
    default: str
    meaning: str


def list_options(model: type[BaseModel]) -> list[OptionRow]:
    """The options of a model, in its order."""
    schema = OptionSchema(model)
    rows = []
    for root in schema.at(()):
        if "properties" not in root:  # a type without JSON Schema
            names = [(field.alias or name, field.description or "") for name, field in model.model_fields.items()]
            return [OptionRow(name, "anything", "–", meaning) for name, meaning in names]
        for name, about in root["properties"].items():
            branches = [branch for branch in schema.at((name,)) if branch.get("type") != "null"]
            branches.sort(key=lambda branch: "const" not in branch)  # `auto` or a number with its range
            meaning = about.get("description", "")
            if about.get("affects_results") is False:
                meaning += "; no effect on results"
            value = join_or([_describe_value(schema, (name,), branch) for branch in branches])
            rows.append(OptionRow(name, value, _describe_default(name, about, root), meaning.removeprefix("; ")))
    return rows


def _describe_value(schema: OptionSchema, loc: tuple[str | int, ...], branch: Schema, many: bool = False) -> str:
    """The values that a schema allows, in words.

    Args:
        schema: of the whole model.
        loc: the path of the option.
        branch: one of the schemas allowed there.
        many: in the plural.
    """
    choices = [branch["const"]] if "const" in branch else branch.get("enum")
    if choices is not None:
        return join_or([_format_code(choice) for choice in choices])
    if "type" not in branch:
        return "anything"
    if branch["type"] == "boolean":
        return "`true` or `false`"
    if branch["type"] == "array":
        items = join_or([_describe_value(schema, (*loc, 0), item, many=True) for item in schema.at((*loc, 0))])
        return f"list{'s' if many else ''} of {_describe_length(branch)}{items}"
    form = branch.get("format", "")
    noun = _NOUNS[branch["type"]] if form == PATH_OR_NAME or "path" not in form else "path"
    noun += "s" if many else ""
    if examples := branch.get("examples"):
        return f"{noun} such as {_format_code(examples[0])}"
    return noun + _describe_limits(branch)


def join_or(words: Sequence[str]) -> str:
    """Join words as in "a, b or c"."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _describe_length(branch: Schema) -> str:
    low, high = branch.get("minItems", 0), branch.get("maxItems")
    if high is None:
        return ""
    return f"{low} " if low == high else f"{low} to {high} "


def _describe_limits(branch: Schema) -> str:
    least, most = branch.get("minimum"), branch.get("maximum")
    if least is not None and most is not None:
        return f", {least:g} to {most:g}"
    above, below = branch.get("exclusiveMinimum"), branch.get("exclusiveMaximum")
    words = (("at least", least), ("above", above), ("at most", most), ("below", below))
    return "".join(f", {word} {limit:g}" for word, limit in words if limit is not None)


def _describe_default(name: str, about: Schema, root: Schema) -> str:
    if name in root.get("required", ()) or (about.get("default") == [] and about.get("minItems")):
        return "*needed*"
    return "–" if about.get("default") is None else _format_code(about["default"])


def _format_code(value: Any) -> str:
    """A value as YAML, in backticks."""
    if isinstance(value, (str, float)):
        return f"`{value}`" if isinstance(value, str) else f"`{value:g}`"
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return f"`{text.strip()[1:-1]}`"
