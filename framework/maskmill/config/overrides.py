"""Applies `--set backend.model=vit_h` to a parsed pipeline file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from ..errors import PipelineError, Problem
from .document import Document, Loc
from .yaml_reader import parse_yaml

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

    The value is YAML, usually a word or a number; missing keys are created. List entries are
    counted from 0; the number after the last one appends. A plugin written as a plain name
    becomes a mapping when one of its options is set.

    Args:
        document: its tree is a mapping; changed in place.
        assignment: what follows `--set`.
        defaults: plugins that the file may omit, by path: setting an option starts from these,
            setting `use` starts from an empty mapping.
        environ: the variables for `${NAME}`; None takes the process's own.
        label: names the origin in messages; "" means `--set KEY`.

    Returns:
        What is wrong with it; the value itself is not shown, it may be a secret.
    """
    path, equals, text = assignment.partition("=")
    path = path.strip()
    if not equals or not re.fullmatch(r"[^\s.=]+(\.[^\s.=]+)*", path):
        start = re.match(r"[\w.\-]*", path)
        hint = "for example: --set backend.model=vit_h"
        return [Problem(f"--set: expected KEY=VALUE, got '{start[0] if start else ''}...'", hint=hint)]
    label = label or f"--set {path}"
    try:
        value = parse_yaml(text.encode("utf-8", "surrogateescape"), label, environ, empty=True)
        loc, created = _assign(document.tree, path.split("."), value.tree, defaults or {})
    except PipelineError as error:
        return [_remove_position(problem, label) for problem in error.problems]
    document.record_override(loc, label, value, created)
    return [_remove_position(problem, label) for problem in value.problems]


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
        entries = "1 entry" if len(holder) == 1 else f"{len(holder)} entries"
        raise PipelineError(Problem(f"'{where}' has {entries}, numbered from 0; there is no entry {name}"))
    return int(name)
