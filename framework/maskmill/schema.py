"""What a model of options allows at a place, read from its JSON Schema.

Error messages are better for it: the range of a number, the names of a nested model's
keys, and whether a value is a secret. Unions are followed into all their branches.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]


class OptionSchema:
    """The JSON Schema of a pydantic model, asked by place.

    Where pydantic cannot make one (an option of an exotic type), nothing is known, and
    every value counts as secret.
    """

    def __init__(self, model: type[BaseModel]) -> None:
        self._root: Schema = {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # defaults that JSON cannot hold do not matter here
                self._root = model.model_json_schema()
        except Exception:  # pydantic's own errors and those of a plugin's types
            self._root = {}

    def at(self, loc: Sequence[str | int]) -> list[Schema]:
        """The schemas, without unions and references, of what may stand at a place."""
        found = list(self._plain(self._root))
        for step in loc:
            found = [inner for schema in found for inner in self._inside(schema, step)]
        return found

    def keys(self, loc: Sequence[str | int]) -> list[str]:
        """The keys that a mapping at this place may have, in the order of the model."""
        return list(dict.fromkeys(key for schema in self.at(loc) for key in schema.get("properties", {})))

    def description(self, loc: Sequence[str | int]) -> str:
        """What the model says about an option, "" if nothing."""
        *parent, last = loc
        described = [schema["properties"][last] for schema in self.at(parent) if last in schema.get("properties", {})]
        return next((text for schema in described if (text := schema.get("description"))), "")

    def is_secret(self, loc: Sequence[str | int]) -> bool:
        """Whether what stands here is a secret, or may hold one."""
        return not self._root or any(self._holds_secret(schema, set()) for schema in self.at(loc))

    def secrets(self, value: Any, loc: tuple[str | int, ...] = ()) -> Iterator[str]:
        """Every text in a tree of options that is a secret."""
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from self.secrets(inner, (*loc, key))
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                yield from self.secrets(inner, (*loc, index))
        elif isinstance(value, str) and value and self.is_secret(loc):
            yield value

    def _plain(self, schema: Schema) -> Iterator[Schema]:
        """The schema itself with its reference followed, or each branch of its union."""
        if "$ref" in schema:
            yield from self._plain(self._root["$defs"][schema["$ref"].rpartition("/")[2]])
            return
        branches = [branch for word in ("anyOf", "oneOf", "allOf") for branch in schema.get(word, ())]
        for branch in branches:
            yield from self._plain(branch)
        if not branches:
            yield schema

    def _inside(self, schema: Schema, step: str | int) -> Iterator[Schema]:
        if isinstance(step, int):
            fixed = schema.get("prefixItems", [])
            inner = fixed[step] if step < len(fixed) else schema.get("items")
        else:
            inner = schema.get("properties", {}).get(step, schema.get("additionalProperties"))
        if isinstance(inner, dict):
            yield from self._plain(inner)

    def _holds_secret(self, schema: Schema, seen: set[int]) -> bool:
        if id(schema) in seen:  # a model may hold itself
            return False
        seen.add(id(schema))
        if schema.get("writeOnly"):
            return True
        parts = [*schema.get("properties", {}).values(), *schema.get("prefixItems", [])]
        parts += [part for word in ("items", "additionalProperties") if isinstance(part := schema.get(word), dict)]
        return any(self._holds_secret(inner, seen) for part in parts for inner in self._plain(part))
