"""Values from the command line, put into a parsed pipeline file: `--set backend.model=vit_h`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from ..errors import PipelineError, Problem
from .document import Document, Loc
from .yaml_reader import parse_yaml

_PLUGINS = ("prompts", "backend", "filters", "writers")


class _Refused(Exception):  # noqa: N818 - carries one problem to `override`
    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def override(
    document: Document,
    assignment: str,
    *,
    defaults: Mapping[Loc, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] | None = None,
    label: str = "",
) -> list[Problem]:
    """Put the value of one `--set KEY=VALUE` into the document's tree.

    The value is YAML, mostly a word or a number; keys that are missing are made. A place in
    a list is a number from 0 on, and one more than the last appends. A `use:` that is written
    as a plain name becomes a mapping when an option is set in it.

    Args:
        document: its tree is a mapping; changed in place.
        assignment: what follows `--set`.
        defaults: what is there, by place, when an option of it is set and the file leaves it out;
            setting its `use` starts from nothing.
        environ: the variables for `${NAME}`; None takes the process's own.
        label: names the origin in messages; "" stands for `--set KEY`.

    Returns:
        What is wrong with it; the value itself is not repeated, it may be a secret.
    """
    path, equals, text = assignment.partition("=")
    path = path.strip()
    if not equals or not re.fullmatch(r"[^\s.=]+(\.[^\s.=]+)*", path):
        found = re.match(r"[\w.\-]*", path)
        hint = "for example: --set backend.model=vit_h"
        return [Problem(f"--set: expected KEY=VALUE, found '{found[0] if found else ''}...'", hint=hint)]
    label = label or f"--set {path}"
    try:
        value = parse_yaml(text.encode("utf-8", "surrogateescape"), label, environ, empty=True)
    except PipelineError as error:
        return [_placeless(problem, label) for problem in error.problems]
    try:
        loc, made = _assign(document.tree, path.split("."), value.tree, defaults or {})
    except _Refused as error:
        return [Problem(str(error), label, hint=error.hint)]
    document.put(loc, label, value, made)
    return [_placeless(problem, label) for problem in value.problems]


def _placeless(problem: Problem, label: str) -> Problem:
    return dataclasses.replace(problem, file=label, line=0, column=0)


def _assign(tree: Any, keys: list[str], value: Any, defaults: Mapping[Loc, Mapping[str, Any]]) -> tuple[Loc, Loc]:
    """Set a value in nested mappings and lists, making what is missing.

    Returns:
        Where it stands now, and the outermost thing that was made for it.
    """
    loc: Loc = ()
    made: Loc | None = None
    holder = tree
    for name, following in zip(keys, [*keys[1:], None], strict=True):
        step = _step(holder, name, loc)
        loc = (*loc, step)
        if isinstance(step, int) and step == len(holder):
            holder.append(None)
        inner = holder[step] if isinstance(step, int) else holder.get(step)
        if following is None:
            holder[step] = value
        elif inner is None:
            default = {} if following == "use" else dict(defaults.get(loc, {}))
            holder[step] = [] if following.isdecimal() else default
            made = made or loc
        elif isinstance(inner, str) and (loc[0] in _PLUGINS or loc == ("run", "engine")):
            holder[step] = {"use": inner}
        holder = holder[step]
    return loc, made or loc


def _step(holder: Any, name: str, loc: Loc) -> str | int:
    """The key or index that `name` means in this mapping or list."""
    where = ".".join(map(str, loc))
    if isinstance(holder, dict):
        return name
    if not isinstance(holder, list):
        raise _Refused(f"'{where}' is a single value; nothing can be set inside it")
    if not name.isdecimal():
        example = f"{where}.0.{name}"
        raise _Refused(
            f"'{where}' is a list; expected a number after it, not '{name}'", f"for example: --set {example}=..."
        )
    if int(name) > len(holder):
        entries = "1 entry" if len(holder) == 1 else f"{len(holder)} entries"
        raise _Refused(f"'{where}' has {entries}, counted from 0; there is no number {name}")
    return int(name)
