"""The JSON Schema of pipeline files with a set of plugins, for editors that complete and check YAML.

It accepts whatever `load_config` accepts, and rejects what can be rejected without running code:
rules about several options at once are checked by the plugins only.

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
from .config import ImageOptions, RunOptions
from .pipeline_file import PipelineFile

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: A text with an environment variable is allowed wherever a text is.
VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}
#: key of the pipeline file -> role of the plugins listed there
LISTS: Mapping[str, str] = {"prompts": "prompt source", "filters": "filter", "writers": "writer"}


def build_schema(registry: Registry) -> Schema:
    """The JSON Schema of a pipeline file, also of one that extends another.

    Args:
        registry: the plugins that `use:` can name.
    """
    defs: Schema = {}
    for role in ROLES:
        defs[_slugify(role)] = _build_role(role, registry, defs)
    top = _build_model(PipelineFile, "#")
    for key, role in LISTS.items():
        top["properties"][key]["items"] = {"$ref": f"#/$defs/{_slugify(role)}"}
    top["properties"]["backend"]["$ref"] = "#/$defs/backend"
    run = _build_model(RunOptions, "#/properties/run")
    run["properties"]["jobs"]["not"] = {"const": 0}
    engine = run["properties"]["engine"]
    run["properties"]["engine"] = _copy_description({"$ref": "#/$defs/engine"}, engine)
    images = _build_model(ImageOptions, "#/properties/images")
    top["properties"]["images"] = _copy_description(images, top["properties"]["images"])
    top["properties"]["run"] = _copy_description(run, top["properties"]["run"])
    optional = {
        key: _copy_description({"anyOf": [about, {"type": "null"}]}, about) for key, about in top["properties"].items()
    }
    return {
        "$schema": DIALECT,
        "title": "maskmill pipeline",
        "description": "Which images to segment, what to look for, with which model, and which files to write.",
        "type": "object",
        "properties": optional,
        "if": {"required": ["extends"], "properties": {"extends": {"type": "string"}}},
        "else": {"required": ["prompts"], "properties": {"prompts": {"type": "array"}}},
        "additionalProperties": False,
        "$defs": defs,
    }


def _copy_description(schema: Schema, source: Schema) -> Schema:
    """The schema with the description and default of another one."""
    return {**schema, **{word: source[word] for word in ("description", "default") if word in source}}


def _build_role(role: str, registry: Registry, defs: Schema) -> Schema:
    """A plugin of this role: its name, or `use:` with its options.

    Args:
        role: a key of `ROLES`.
        registry: the plugins.
        defs: the schema of each plugin is added to it.
    """
    entries = [registry.entries[role, name] for name in registry.names(role)]
    names, alone, cases = [], [], []
    for entry in entries:
        key = _make_unique(_slugify(f"{role}-{entry.name}"), defs)
        defs[key] = _build_plugin(entry, f"#/$defs/{key}")
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


def _build_plugin(entry: RegisteredPlugin, pointer: str) -> Schema:
    """The options of a plugin, and its `use:`."""
    schema = _build_model(entry.cls, pointer)
    text = (entry.cls.__doc__ or "").strip().splitlines()
    properties = {"use": {"const": entry.name}, **schema.get("properties", {})}
    required = ["use", *schema.get("required", ())]
    return {
        **schema,
        "description": text[0] if text else entry.name,
        "properties": properties,
        "required": required,
    }


def _build_model(model: type[BaseModel], pointer: str) -> Schema:
    """A model's schema, to be placed at this JSON pointer; any object if the model has no schema."""
    template = f"{pointer}/$defs/{{model}}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a default without a JSON form is left out
            return model.model_json_schema(ref_template=template, schema_generator=_Generator)
    except Exception:  # an option of a type without JSON Schema; the type may raise anything
        return {"type": "object"}


class _Generator(GenerateJsonSchema):
    """Omits titles made of field names, and allows a variable for every text."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        return _allow_variable(super().str_schema(schema))

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        return _allow_variable(super().literal_schema(schema))

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        return _allow_variable(super().enum_schema(schema))


def _allow_variable(schema: JsonSchemaValue) -> JsonSchemaValue:
    choices = [schema["const"]] if "const" in schema else schema.get("enum", ())
    limited = any(word in schema for word in ("pattern", "minLength", "maxLength"))
    if limited or any(isinstance(choice, str) for choice in choices):
        return {"anyOf": [schema, VARIABLE]}
    return schema


def _slugify(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)


def _make_unique(key: str, taken: Schema) -> str:
    while key in taken:
        key += "-"
    return key
