"""The JSON Schema of the pipeline file over a set of plugins, for editors that complete and check YAML.

It accepts what `config.load_config` accepts and refuses what can be refused without running
code: rules that look at several options at once stay with the plugins.

Reference: JSON Schema 2020-12, https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ..plugins.registry import ROLES, RegisteredPlugin, Registry
from .config import RunOptions
from .load import PipelineFile

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: A text that holds an environment variable may stand wherever a text may.
VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}
#: key of the pipeline file -> role of the plugins listed there
LISTS: Mapping[str, str] = {"prompts": "prompt source", "filters": "filter", "writers": "writer"}


def pipeline_schema(registry: Registry) -> Schema:
    """The JSON Schema of a pipeline file.

    Args:
        registry: the plugins that `use:` may name.
    """
    defs: Schema = {}
    for role in ROLES:
        defs[_slug(role)] = _any_of_role(role, registry, defs)
    top = _schema_of(PipelineFile, "#")
    for key, role in LISTS.items():
        top["properties"][key]["items"] = {"$ref": f"#/$defs/{_slug(role)}"}
    top["properties"]["backend"]["$ref"] = "#/$defs/backend"
    run = _schema_of(RunOptions, "#/properties/run")
    run["properties"]["jobs"]["not"] = {"const": 0}
    engine = run["properties"]["engine"]
    run["properties"]["engine"] = _described({"$ref": "#/$defs/engine"}, engine)
    top["properties"]["run"] = _described(run, top["properties"]["run"])
    optional = {
        key: _described({"anyOf": [about, {"type": "null"}]}, about) for key, about in top["properties"].items()
    }
    return {
        "$schema": DIALECT,
        "title": "maskmill pipeline",
        "description": "What to segment, with what, into what.",
        "type": "object",
        "properties": {**optional, "prompts": top["properties"]["prompts"]},
        "required": ["prompts"],
        "additionalProperties": False,
        "$defs": defs,
    }


def _described(schema: Schema, by: Schema) -> Schema:
    """The schema with the words of another one."""
    return {**schema, **{word: by[word] for word in ("description", "default") if word in by}}


def _any_of_role(role: str, registry: Registry, defs: Schema) -> Schema:
    """What may stand where a plugin of this role is due: its name, or `use:` with its options.

    Args:
        role: a key of `ROLES`.
        registry: the plugins.
        defs: receives the schema of each plugin.
    """
    entries = [registry.entries[role, name] for name in registry.names(role)]
    names, alone, cases = [], [], []
    for entry in entries:
        key = _free(_slug(f"{role}-{entry.name}"), defs)
        defs[key] = _plugin(entry, f"#/$defs/{key}")
        names.append({"const": entry.name, "description": defs[key]["description"]})
        if set(defs[key]["required"]) == {"use"}:
            alone.append(names[-1])
        chosen = {"properties": {"use": {"const": entry.name}}, "required": ["use"]}
        cases.append({"if": chosen, "then": {"$ref": f"#/$defs/{key}"}})
    mapping = {
        "type": "object",
        "properties": {"use": {"description": f"which {role}", "anyOf": [*names, VARIABLE]}},
        "required": ["use"],
        "allOf": cases,
    }
    return {"anyOf": [{"anyOf": [*alone, VARIABLE]}, mapping]}


def _plugin(entry: RegisteredPlugin, place: str) -> Schema:
    """The options of a plugin, and its `use:`."""
    schema = _schema_of(entry.cls, place)
    text = (entry.cls.__doc__ or "").strip().splitlines()
    properties = {"use": {"const": entry.name}, **schema.get("properties", {})}
    required = ["use", *schema.get("required", ())]
    return {
        **schema,
        "description": text[0] if text else entry.name,
        "properties": properties,
        "required": required,
    }


def _schema_of(model: type[BaseModel], place: str) -> Schema:
    """A model's schema, which will stand at that place; that of anything at all if it has none."""
    template = f"{place}/$defs/{{model}}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a default that JSON cannot hold is left out
            return model.model_json_schema(ref_template=template, schema_generator=_Generator)
    except Exception:  # an option of a type that has no JSON Schema: pydantic's errors and the type's own
        return {"type": "object"}


class _Generator(GenerateJsonSchema):
    """Leaves out titles made of field names, and lets a variable stand for every text."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        return _or_variable(super().str_schema(schema))

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return _or_variable(super().literal_schema(schema))

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        return _or_variable(super().enum_schema(schema))


def _or_variable(schema: JsonSchemaValue) -> JsonSchemaValue:
    choices = [schema["const"]] if "const" in schema else schema.get("enum", ())
    limited = any(word in schema for word in ("pattern", "minLength", "maxLength"))
    if limited or any(isinstance(choice, str) for choice in choices):
        return {"anyOf": [schema, VARIABLE]}
    return schema


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)


def _free(key: str, taken: Schema) -> str:
    while key in taken:
        key += "-"
    return key
