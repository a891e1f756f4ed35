"""What a writer promises, as checks on a bench: its files are its own, and the same when they are written again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..images import Image
from ..masks import Mask
from ..plugins.roles import Writer
from ..results import Artifact, ImageResult
from . import fakes as testing
from .bench import Bench, Broken, Refusal, describe_image, is_list_of


def _results(bench: Bench) -> list[tuple[Image, ImageResult]]:
    """Results with masks, one of them dropped, but for the last, which has none."""
    results = []
    for image in bench.images:
        masks = testing.masks(image) if image is not bench.images[-1] else []
        results.append((image, testing.result(image, [_drop_second(mask) for mask in masks])))
    return results


def _drop_second(mask: Mask) -> Mask:
    return replace(mask, dropped_by="fake-filter", reason="for the check") if mask.index == 1 else mask


def _write_all(bench: Bench, folder: Path, backwards: bool = False, black: bool = False) -> list[list[Artifact]]:
    """What `write` returns for each image and, last, what `finish` returns; checked against the folder."""
    order = [*reversed(_results(bench))] if backwards else _results(bench)
    made: list[list[Artifact]] = []
    with bench.opened() as stage:
        for image, result in order:
            shown = replace(image, pixels=np.zeros_like(image.pixels)) if black else image
            found = bench.call(image, stage.write, shown, result, folder)
            made.append(
                _check_artifacts(
                    f"write() of {describe_image(image)}", [] if isinstance(found, Refusal) else found, folder
                )
            )
        made = [*reversed(made)] if backwards else made
        finished = bench.make().finish(iter(sorted((r for _, r in order), key=lambda r: r.key)), folder)
    made.append(_check_artifacts("finish()", finished, folder))
    return made


def _check_artifacts(where: str, found: Any, folder: Path) -> list[Artifact]:
    hint = "write with maskmill.save(folder, result.key, data, suffix) and return what it returns"
    if not is_list_of(found, Artifact):
        raise Broken(f"{where} returns {found!r:.100}", f"return a list of maskmill.Artifact; {hint}")
    for artifact in found:
        path = folder / artifact.path
        if not path.resolve().is_relative_to(folder.resolve()):
            raise Broken(f"{where} names a file outside its folder: {artifact.path}", hint)
        if not path.is_file():
            raise Broken(f"{where} names a file that does not exist: {artifact.path}", hint)
        data = path.read_bytes()
        if (hashlib.sha256(data).hexdigest(), len(data)) != (artifact.sha256, artifact.bytes):
            raise Broken(f"{where}: the content of the file {artifact.path} does not match its artifact", hint)
    return list(found)


def check_files(bench: Bench) -> None:
    """`write` and `finish` return the files that they made, all of them in the folder, no two alike."""
    folder = bench.folder / "named" / "own"
    made = _write_all(bench, folder)
    paths = [artifact.path for each in made for artifact in each]
    if double := sorted({path for path in paths if paths.count(path) > 1}):
        text = f"two images share the file {double[0]}; images may differ in their suffix alone"
        raise Broken(text, "name files after result.key, which is unique")
    hint = "write with maskmill.save and return the Artifact that it returns"
    there = {path for path in folder.parent.rglob("*") if path.is_file()}
    if strays := sorted(there - {folder / path for path in paths}):
        raise Broken(f"it wrote the file {strays[0].relative_to(folder.parent)} but does not return it", hint)


def check_files_again(bench: Bench) -> None:
    """Written again, in another order of images, every file has the same bytes."""
    first, second = (_write_all(bench, bench.folder / name, name == "second") for name in ("first", "second"))
    if differing := _first_difference(first, second):
        raise Broken(f"the file {differing} differs when it is written again", "write no times and no random names")


def check_needs_pixels(bench: Bench) -> None:
    """With `needs_pixels = False` the files are the same over black images."""
    stage_class = bench.entry.cls
    assert issubclass(stage_class, Writer)
    if stage_class.needs_pixels:
        return
    seen, black = (_write_all(bench, bench.folder / name, black=name == "black") for name in ("seen", "black"))
    if differing := _first_difference(seen, black):
        text = f"needs_pixels is False, but the file {differing} depends on the pixels"
        raise Broken(text, "leave needs_pixels out of the class")


def _first_difference(first: Sequence[Sequence[Artifact]], second: Sequence[Sequence[Artifact]]) -> str:
    """The first file that two writings do not have in common, "" if there is none."""
    pairs = zip(first, second, strict=True)
    return next((min(artifact.path for artifact in {*one} ^ {*two}) for one, two in pairs if {*one} != {*two}), "")


def check_empty_run(bench: Bench) -> None:
    """`finish` handles a run without results."""
    folder = bench.folder / "empty"
    _check_artifacts("finish() of no results", bench.make().finish(iter(()), folder), folder)
