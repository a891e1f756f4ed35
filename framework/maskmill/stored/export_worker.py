"""Exporting one image, in any process: its result is read, the writer opened once, its files written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from ..chain.plugin_call import StepError, Trace
from ..chain.run_writers import call_writer
from ..config.option_errors import explain_validation_error
from ..errors import OutputError, PipelineError, PluginError, Problem
from ..images import ImageRef
from ..output.store import load_result
from ..plugins.optional import has_entries, make_entry
from ..plugins.registry import Registry
from ..plugins.roles import Writer
from ..plugins.stage import working_in
from ..results import FINISHED, Artifact, Failure, ImageResult
from ..storage import StorageOptions, configure
from .originals import black_image, load_unchanged

_opened: dict[str, Writer] = {}


@dataclass(frozen=True, slots=True)
class ExportSetup:
    """What a process needs to export images of a run.

    Attributes:
        writer: the registered name.
        options: of the writer, as in YAML.
        drop_ins: plugin files to load.
        run: the run's folder.
        folder: of the export.
        reads_pixels: whether the images have to be read.
        max_pixels: larger images are refused.
        storage: how images are read from object storage.
    """

    writer: str
    options: Mapping[str, Any]
    drop_ins: Sequence[Path]
    run: Path
    folder: Path
    reads_pixels: bool
    max_pixels: int
    storage: StorageOptions


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """The files of one image: their paths are below the export's folder; none if it failed.

    Attributes:
        key: the image.
        artifacts: the files.
        notes: of the writer.
        failure: why the image could not be exported, or None.
        entry: what the image adds to the files about the whole dataset; None if it failed or the writer has no entries.
    """

    key: str
    artifacts: Sequence[Artifact]
    notes: Mapping[str, Any]
    failure: Failure | None
    entry: bytes | None = None


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


def export_one(setup: ExportSetup, key: str, uri: str | None) -> ExportedImage:
    """Write one image's files, in any process.

    Args:
        setup: the same for all images of the export.
        key: the image.
        uri: where it is, None if unknown.

    Raises:
        StopRun: nothing can be written any more.
    """
    configure(setup.storage)
    trace = Trace()
    failure: Failure | None = None
    artifacts: list[Artifact] = []
    entry: bytes | None = None
    try:
        result = trace.step("read", "", partial(_load_stored, setup, key))
        ref = None if uri is None else ImageRef(uri, key)
        load = partial(load_unchanged, max_pixels=setup.max_pixels) if setup.reads_pixels else black_image
        image = trace.step("read", "", partial(load, result, ref))
        call = partial(call_writer, _open_writer(setup), image, result, setup.folder)
        artifacts = trace.step("writers", setup.writer, call, image.sha256)
        notes = dict(trace.notes.get(setup.writer, {}))
        if has_entries(writer := _open_writer(setup)):
            written = add_files(result, artifacts, notes, setup.writer, setup.folder.name)
            entry = trace.step("writers", setup.writer, partial(make_entry, writer, written), image.sha256)
            trace.notes[setup.writer] = notes
    except StepError as error:
        failure = error.failure
    if failure is not None:
        artifacts, entry = [], None
    return ExportedImage(key, artifacts, trace.notes.get(setup.writer, {}), failure, entry)


def add_files(
    result: ImageResult, artifacts: Sequence[Artifact], notes: Mapping[str, Any], writer: str, folder: str
) -> ImageResult:
    """A stored result as the writer gets it at the end: with its own files and notes only."""
    placed = tuple(replace(artifact, path=f"{folder}/{artifact.path}") for artifact in artifacts)
    others = {name: values for name, values in result.notes.items() if name != writer}
    return replace(result, artifacts=placed, notes={**others, **({writer: dict(notes)} if notes else {})})


def _load_stored(setup: ExportSetup, key: str) -> ImageResult:
    result = load_result(setup.run, key)
    if result is None or result.size is None:
        raise OutputError("its stored result is missing or damaged; run the pipeline again with --verify")
    if result.status not in FINISHED:
        raise OutputError("its stored result is unfinished; run the pipeline again")
    return replace(result, artifacts=())


def _open_writer(setup: ExportSetup) -> Writer:
    """The writer of this process, opened once."""
    name = f"{os.getpid()} {setup}"
    if name not in _opened:
        close_writer()
        writer = build_writer(Registry.load(setup.drop_ins), setup.writer, setup.options)
        try:
            with working_in(setup.run):
                writer.open()
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise PluginError(f"the writer {setup.writer!r} cannot be opened: {reason}") from error
        _opened[name] = writer
    return _opened[name]


def close_writer() -> None:
    """Close the writer of this process."""
    while _opened:
        _opened.popitem()[1].close()
