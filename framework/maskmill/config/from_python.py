"""Pipelines and options that are given in Python: the same rules as for a file, problems with the path of the value."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from ..display import brief
from ..errors import PipelineError, Problem
from ..files import absolute_path
from ..plugins.find import find_drop_ins
from ..plugins.registry import Registry
from ..plugins.roles import Backend
from .config import Config, RunOptions
from .document import Document, Loc
from .load import ConfigBuilder
from .option_errors import explain_validation_error
from .yaml_reader import expand_variables

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class DataDocument(Document):
    """Plain data that comes from Python: a value is found by its path, such as `prompts.0.box`."""

    def label(self, loc: Sequence[str | int]) -> str:
        """The path of the innermost value that exists."""
        found: list[str] = []
        holder = self.tree
        with suppress(KeyError, IndexError, TypeError):
            for step in loc:
                holder = holder[step]
                found.append(str(step))
        return super().label(loc) or ".".join(found) or self.name


def build_from_data(data: Mapping[str, Any], base: Path, plugins: Sequence[Path] = (), drop_ins: bool = True) -> Config:
    """Validate what a pipeline file would contain; `dataset` and `output` may be missing.

    Args:
        data: the content.
        base: the folder that relative paths start from.
        plugins: drop-in files and folders to load in addition.
        drop_ins: False loads only drop-ins that are named.

    Raises:
        PipelineError: everything that is wrong in it.
        PluginError: a drop-in cannot be loaded.
    """
    if not isinstance(data, Mapping):
        hint = "Pipeline.load(FILE) reads a file" if isinstance(data, (str, os.PathLike)) else ""
        text = f"expected a mapping with the keys of a pipeline file, not {brief(data)}"
        raise PipelineError(Problem(text, hint=hint))
    document = DataDocument("the pipeline", absolute_path(base))
    document.tree = to_plain_data(data, "")
    document.tree = _expand(document, document.tree, ())
    builder = ConfigBuilder(None, document)
    builder.apply_overrides((), None)
    top = builder.read_top(True, True, defer=True)
    builder.load_plugins(plugins, drop_ins)
    return builder.build(top, None, None)


def _expand(document: Document, value: Any, loc: Loc) -> Any:
    """The value with environment variables in the place of `${NAME}`."""
    if isinstance(value, dict):
        return {key: _expand(document, item, (*loc, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(document, item, (*loc, number)) for number, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    text, has_variables, mistakes = expand_variables(value, os.environ)
    if has_variables:
        document.variables[loc] = value
    for message, hint in mistakes:
        document.add_problem(document.problem(loc, message, hint), loc)
    return text


def to_plain_data(value: Any, place: str) -> Any:
    """The value with mappings, lists, texts, numbers, booleans and None only.

    Paths become texts; tuples, arrays and numpy's numbers become lists and numbers.

    Args:
        value: what the caller gave.
        place: its path, for messages.

    Raises:
        PipelineError: it holds something else, a key that is no text, or a number that is not finite.
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "tolist"):  # numpy's arrays and numbers
        value = value.tolist()
    if isinstance(value, str):
        if value != value.encode("utf-8", "replace").decode():
            raise PipelineError(Problem(f"this text contains invalid surrogate characters: {value!a}", place))
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise PipelineError(Problem(f"expected a finite number, not {value}", place))
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise PipelineError(Problem(f"a key must be a text, not {brief(key)}", place))
        return {key: to_plain_data(item, f"{place}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [to_plain_data(item, f"{place}.{number}".lstrip(".")) for number, item in enumerate(value)]
    text = f"expected plain data (texts, numbers, lists, mappings), not {type(value).__name__}: {brief(value)}"
    raise PipelineError(Problem(text, place))


def to_assignments(sets: str | Sequence[str] | Mapping[str, Any]) -> list[str]:
    """The texts KEY=VALUE of values to replace, given as a mapping, as such texts, or as one such text."""
    if isinstance(sets, str):
        return [sets]
    if not isinstance(sets, Mapping):
        return list(sets)
    plain = to_plain_data(sets, "sets")
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in plain.items()]


def join_paths(paths: Paths) -> list[str | os.PathLike[str]]:
    """A path, or several, as a list."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def replace_jobs(run: RunOptions, jobs: int | str) -> RunOptions:
    """The options of a run with another number of workers.

    Raises:
        PipelineError: `jobs` is neither a number other than 0 nor "auto".
    """
    options = {**dict(run), "jobs": int(jobs) if isinstance(jobs, str) and jobs.lstrip("-").isdecimal() else jobs}
    try:
        return RunOptions.model_validate(options)
    except ValidationError as error:
        found = explain_validation_error(error, RunOptions, options, "run")
        raise PipelineError(*(Problem(str(each), hint=each.hint) for each in found)) from None


def build_backend(
    backend: str | Mapping[str, Any], options: Mapping[str, Any], plugins: Any, check: bool = True
) -> tuple[str, Backend]:
    """A backend that is not open, and its name.

    Args:
        backend: its name, or a mapping with `use`.
        options: further options.
        plugins: files and folders of drop-ins.
        check: whether to look for missing files and packages.
    """
    spec = to_plain_data({"use": backend} if isinstance(backend, str) else backend, "backend")
    if not isinstance(spec, dict) or not isinstance(spec.get("use"), str):
        raise PipelineError(
            Problem(
                f"a backend is a name or a mapping with `use`, not {brief(backend)}",
                hint='for example "grabcut", or {"use": "sam", "model": "vit_b"}',
            )
        )
    spec |= to_plain_data(options, "")
    name = spec.pop("use")
    paths = find_drop_ins(None, [Path(path) for path in join_paths(plugins)])
    registry = Registry.load(paths) if paths else Registry.load()
    entry = registry.get("backend", name)
    try:
        stage = cast(Backend, entry.cls.from_options(spec, Path.cwd()))
    except ValidationError as error:
        found = explain_validation_error(error, entry.cls, spec, f"the backend {name!r}")
        problems = [Problem(f"{name}: {each}" if each.subject else str(each), hint=each.hint) for each in found]
        raise PipelineError(*problems) from None
    if check and (wrong := [one for one in stage.missing() or stage.check() if not one.warning]):
        raise PipelineError(*wrong)
    return name, stage
