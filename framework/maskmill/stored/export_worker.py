"""Exporting one image, in any process: its result is read, the writer opened once, its files written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from ..chain.contract import call_for_list
from ..chain.plugin_call import StepError, Trace
from ..config.option_errors import explain_validation_error
from ..errors import OutputError, PipelineError, PluginError, Problem
from ..images import ImageRef
from ..output.store import load_result
from ..plugins.registry import Registry
from ..plugins.roles import Writer
from ..plugins.stage import working_in
from ..results import Artifact, Failure, ImageResult
from .originals import black_image, load_unchanged

_opened: dict[str, Writer] = {}


def build_writer(registry: Registry, name: str, options: Mapping[str, Any]) -> Writer:
    """A writer with its options, checked, not yet open.

    Raises:
        UsageError: there is no such writer, a package is missing, or an option is wrong.
    """
    cls = registry.get("writer", name).cls
    try:
        writer = cast(Writer, cls.from_options(options, Path.cwd()))
    except ValidationError as error:
        found = explain_validation_error(error, cls, dict(options), f"the writer {name!r}")
        raise PipelineError(*(Problem(str(each), "--set", hint=each.hint) for each in found)) from None
    if problems := [each for each in writer.missing() or writer.check() if not each.warning]:
        raise PipelineError(*(replace(each, message=f"the writer {name!r}: {each.message}") for each in problems))
    return writer


def export_one(setup: Mapping[str, Any], key: str, uri: str | None) -> dict[str, Any]:
    """Write one image's files, in any process.

    Args:
        setup: plain data: `writer`, `options`, `drop_ins`, `run`, `folder`, `pixels`, `max_pixels`.
        key: the image.
        uri: where it is, None if unknown.

    Returns:
        key, artifacts as [path, sha256, bytes], notes, and failure as data or None.

    Raises:
        StopRun: nothing can be written any more.
    """
    name = setup["writer"]
    trace = Trace()
    failure: Failure | None = None
    made: list[Artifact] = []
    try:
        result = trace.step("read", "", partial(_load_stored, setup, key))
        ref = None if uri is None else ImageRef(uri, key)
        find = (
            partial(load_unchanged, result, ref, setup["max_pixels"])
            if setup["pixels"]
            else partial(black_image, result, ref)
        )
        image = trace.step("read", "", find)
        call = partial(call_for_list, Artifact, _open_writer(setup).write, image, result, Path(setup["folder"]))
        made = trace.step("writers", name, call, image.sha256)
    except StepError as error:
        failure = error.failure
    return {
        "key": key,
        "artifacts": [[item.path, item.sha256, item.bytes] for item in made],
        "notes": trace.notes.get(name, {}),
        "failure": None if failure is None else asdict(failure),
    }


def _load_stored(setup: Mapping[str, Any], key: str) -> ImageResult:
    result = load_result(Path(setup["run"]), key)
    if result is None or result.size is None:
        raise OutputError("its stored result is missing or damaged; run the pipeline again with --verify")
    return replace(result, artifacts=())


def _open_writer(setup: Mapping[str, Any]) -> Writer:
    """The writer of this process, opened once."""
    name = json.dumps([os.getpid(), setup["writer"], setup["options"], setup["drop_ins"], setup["folder"]], default=str)
    if name not in _opened:
        close_writer()
        registry = Registry.load(Path(path) for path in setup["drop_ins"])
        writer = build_writer(registry, setup["writer"], setup["options"])
        try:
            with working_in(Path(setup["run"])):
                writer.open()
        except Exception as error:
            raise PluginError(
                f"the writer {setup['writer']!r} cannot be opened: {error or type(error).__name__}"
            ) from error
        _opened[name] = writer
    return _opened[name]


def close_writer() -> None:
    """Close the writer of this process."""
    while _opened:
        _opened.popitem()[1].close()
