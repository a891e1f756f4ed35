"""Applies `--set backend.model=vit_h` to a parsed pipeline file.

What the option allows decides how its value is read:

- a text option takes the text after the `=` as it is, whatever it looks like in YAML;
- an option that takes a text or something else (a number, `true`, a list, a mapping) takes the latter if
  the text is one: a list or mapping begins with `[` or `{`; anything else is the text;
- every other option is read as YAML.

`${NAME}` is an environment variable in all of them; nothing after the `=` means no value, or the empty text
where the option must have one. `override` reads YAML, since the plugins that know their options are not
loaded yet; `settle_texts` puts the texts in their places once they are.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import PipelineError, Problem
from ..plugins.options import Schema
from ..wording import count_noun
from .document import Document, GivenText, Loc
from .yaml_reader import expand_variables, parse_yaml

#: JSON types of Python's.
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}

_PLUGINS = ("prompts", "backend", "filters", "writers")


def override(
    document: Document,
    assignment: str,
    *,
    defaults: Mapping[Loc, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] | None = None,
    label: str = "",
) -> list[Problem]:
    """Apply one `--set KEY=VALUE` to the document's tree.

    Missing keys are created. List entries are counted from 0; the number after the last one appends.
    A plugin written as a plain name becomes a mapping when one of its options is set. The value is read
    as YAML until `settle_texts` finds that its option takes a text.

    Args:
        document: its tree is a mapping; changed in place.
        assignment: what follows `--set`.
        defaults: plugins that the file may omit, by path: setting an option starts from these,
            setting `use` starts from an empty mapping.
        environ: the variables for `${NAME}`; None takes the process's own.
        label: names the origin in messages; "" means `--set KEY`.

    Returns:
        What is wrong with the assignment. What is wrong with the value is in `document.problems`, from
        where `settle_texts` may remove it. The value itself is not shown, it may be a secret.
    """
    path, equals, text = assignment.partition("=")
    path = path.strip()
    if not equals or not re.fullmatch(r"[^\s.=]+(\.[^\s.=]+)*", path):
        start = re.match(r"[\w.\-]*", path)
        hint = "for example: --set backend.model=vit_h"
        return [Problem(f"--set: expected KEY=VALUE, got '{start[0] if start else ''}...'", hint=hint)]
    label = label or f"--set {path}"
    given = GivenText(text, label, os.environ if environ is None else environ)
    value = _read_yaml(given)
    try:
        loc, created = _assign(document.tree, path.split("."), value.tree, defaults or {})
    except PipelineError as error:
        return [_remove_position(problem, label) for problem in error.problems]
    document.record_override(loc, label, value, created)
    document.given[loc] = given
    return []


def _read_yaml(given: GivenText) -> Document:
    """The value as YAML; its problems are those of the value, without a position."""
    value = Document(given.label)
    try:
        read = parse_yaml(given.text.encode("utf-8", "surrogateescape"), given.label, given.environ, empty=True)
        value.tree, value.variables, problems = read.tree, read.variables, read.problems
    except PipelineError as error:
        problems = list(error.problems)
    for problem in problems:
        value.add_problem(_remove_position(problem, given.label), ())
    return value


def settle_texts(document: Document, find_schemas: Callable[[Loc], Sequence[Schema] | None]) -> None:
    """Put the texts of text options in place of their reading as YAML.

    Args:
        document: with values of `override`; changed in place.
        find_schemas: what the option at a path allows, as `OptionSchema.at`; empty if there is no such option,
            None if that is not known yet.
    """
    for loc, given in list(document.given.items()):
        schemas = find_schemas(loc)
        if schemas is None:
            continue
        del document.given[loc]
        value = _read_yaml(given)
        if not _is_text(given.text, value, _find_types(schemas)):
            continue
        text, has_variables, mistakes = expand_variables(given.text, given.environ)
        document.replace_value(loc, text)
        if has_variables:
            document.variables[loc] = given.text
        for message, hint in mistakes:
            document.add_problem(Problem(message, given.label, hint=hint), loc)


def _find_types(schemas: Sequence[Schema]) -> set[str]:
    """The JSON types that these schemas allow; "any" for a schema that does not say."""
    types: set[str] = set()
    for schema in schemas:
        choices = [schema["const"]] if "const" in schema else schema.get("enum", ())
        if "type" in schema:
            types.add(schema["type"])
        else:
            types.update(_TYPES.get(type(choice), "any") for choice in choices)
            types.update(() if choices else ["any"])
    return types


def _is_text(text: str, value: Document, types: set[str]) -> bool:
    """Whether a value is the text as it was typed, not its reading as YAML."""
    if not _is_utf8(text):
        return False  # the problem of the YAML says so
    if not text:
        return "string" in types and "null" not in types
    if "string" not in types:
        return bool(value.problems) and types <= {"any"}  # of an unknown option, this is not the mistake
    if (text.lstrip()[:1] == "[" and "array" in types) or (text.lstrip()[:1] == "{" and "object" in types):
        return False
    if value.problems or isinstance(value.tree, (list, dict)):
        return True
    allowed = types | ({"integer"} if "number" in types else set())
    return value.tree is None or isinstance(value.tree, str) or _TYPES[type(value.tree)] not in allowed


def _is_utf8(text: str) -> bool:
    return text.isascii() or text == text.encode("utf-8", "replace").decode()


def _remove_position(problem: Problem, label: str) -> Problem:
    return dataclasses.replace(problem, file=label, line=0, column=0)


def _assign(tree: Any, keys: list[str], value: Any, defaults: Mapping[Loc, Mapping[str, Any]]) -> tuple[Loc, Loc]:
    """Set a value in nested mappings and lists, creating those that are missing.

    Returns:
        Its path, and the path of the outermost container that was created for it.
    """
    loc: Loc = ()
    created: Loc | None = None
    holder = tree
    for name, following in zip(keys, [*keys[1:], None], strict=True):
        step = _resolve_step(holder, name, loc)
        loc = (*loc, step)
        if isinstance(step, int) and step == len(holder):
            holder.append(None)
        inner = holder[step] if isinstance(step, int) else holder.get(step)
        if following is None:
            holder[step] = value
        elif inner is None:
            default = {} if following == "use" else dict(defaults.get(loc, {}))
            holder[step] = [] if following.isdecimal() else default
            created = created or loc
        elif isinstance(inner, str) and (loc[0] in _PLUGINS or loc == ("run", "engine")):
            holder[step] = {"use": inner}
        holder = holder[step]
    return loc, created or loc


def _resolve_step(holder: Any, name: str, loc: Loc) -> str | int:
    """The key or index for `name` in this mapping or list."""
    where = ".".join(map(str, loc))
    if isinstance(holder, dict):
        return name
    if not isinstance(holder, list):
        raise PipelineError(Problem(f"'{where}' is a single value; it has no keys to set"))
    if not name.isdecimal():
        text = f"'{where}' is a list; expected the number of an entry, not '{name}'"
        raise PipelineError(Problem(text, hint=f"for example: --set {where}.0.{name}=..."))
    if int(name) > len(holder):
        entries = count_noun(len(holder), "entry", "entries")
        raise PipelineError(Problem(f"'{where}' has {entries}, numbered from 0; there is no entry {name}"))
    return int(name)
