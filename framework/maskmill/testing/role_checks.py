"""What each role promises, as checks on a bench. A check raises `Broken` or returns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..chain.contract import check_mask, check_prompt
from ..errors import ImageError, PromptError
from ..images import Image
from ..masks import Mask
from ..plugins.optional import has_answer, max_concurrent, prompts_fingerprint
from ..plugins.roles import PromptSource, Writer
from ..prompts import Prompt
from ..results import Artifact, ImageResult
from ..wording import count_noun
from . import fakes as testing
from .bench import Bench, Broken, Refusal, describe_image, is_list_of

KINDS: tuple[testing.Kind, ...] = ("box", "points", "text", "everything")


def _call_prompts(bench: Bench) -> Callable[[Any, Image], Any]:
    return lambda stage, image: bench.call(image, stage.prompts, image)


def check_prompts(bench: Bench) -> None:
    """`prompts` returns None or a list of prompts inside the image, of the kinds that `kinds` announces."""
    announced = bench.build_stage().kinds()
    for image, found in zip(bench.images, bench.call_for_each(_call_prompts(bench)), strict=True):
        if found is None or isinstance(found, Refusal):
            continue
        if not is_list_of(found, Prompt):
            hint = "return a list of maskmill.Prompt, [] for an image without objects, None for an unknown image"
            raise Broken(f"prompts() of {describe_image(image)} returns {found!r:.100}", hint)
        for prompt in found:
            try:
                check_prompt(prompt)
            except PromptError as error:
                raise Broken(f"prompts() of {describe_image(image)}: {error}") from None
            try:
                prompt.fit(*image.size)
            except PromptError as error:
                hint = "coordinates are pixels of this image: 0 to image.width, 0 to image.height"
                raise Broken(f"prompts() of {describe_image(image)}: {error}", hint) from None
            if announced is not None and (more := prompt.needs - announced):
                names, others = (", ".join(sorted(kinds)) for kinds in (announced, more))
                raise Broken(
                    f"kinds() returns {names}, but prompts() also gives {others}",
                    "return all of them from kinds(), or None",
                )


def check_prompts_again(bench: Bench) -> None:
    """The same image gets the same prompts, also in other threads if the source waits."""
    bench.check_repeatable("prompts()", _call_prompts(bench))
    stage_class = bench.entry.cls
    assert issubclass(stage_class, PromptSource)
    if not stage_class.waits:
        return
    expected = bench.call_for_each(_call_prompts(bench))
    with bench.open_stage() as stage, ThreadPoolExecutor(4) as threads:
        if list(threads.map(lambda image: _call_prompts(bench)(stage, image), bench.images)) != expected:
            raise Broken(
                "prompts() returns something else in several threads at once", "guard shared state with a lock"
            )


def check_prediction(bench: Bench) -> None:
    """`fingerprint`, `has_answer` and `at_once` work without `open` and agree with `prompts`."""
    stage = bench.build_stage()
    if not isinstance(threads := max_concurrent(stage), int) or threads < 1:
        raise Broken(f"at_once() returns {threads!r}", "return a whole number of at least 1")
    for image, found in zip(bench.images, bench.call_for_each(_call_prompts(bench)), strict=True):
        prints = [prompts_fingerprint(one)(image.ref) for one in (stage, stage, bench.build_stage())]
        if not all(isinstance(text, str) and text for text in prints) or len(set(prints)) != 1:
            raise Broken(
                f"fingerprint() of {describe_image(image)} is {prints}",
                "return the same text as long as the prompts are the same",
            )
        answer = has_answer(stage, image.ref)
        if answer is not None and answer == (found is None):
            raise Broken(f"has_answer() of {describe_image(image)} is {answer}, but prompts() returns {found!r:.100}")


def check_accepted_kinds(bench: Bench) -> None:
    """`accepts` names kinds of prompts; `model_id` and `memory_per_worker` are of their types."""
    stage = bench.build_stage()
    kinds = stage.accepts()
    if not isinstance(kinds, (frozenset, set)) or not kinds <= set(KINDS):
        raise Broken(f"accepts() returns {kinds!r}", f"return a frozenset of: {', '.join(KINDS)}")
    if not isinstance(name := stage.model_id(), str) or name != bench.build_stage().model_id():
        raise Broken(f"model_id() returns {name!r}", "return a text that is the same for the same model")
    if (memory := stage.memory_per_worker()) is not None and not isinstance(memory, int):
        raise Broken(f"memory_per_worker() returns {memory!r}", "return bytes as a whole number, or None")


def _accepted_kinds(bench: Bench) -> list[testing.Kind]:
    accepted = bench.build_stage().accepts()
    return [kind for kind in KINDS if kind in accepted]


def check_masks(bench: Bench) -> None:
    """`masks` returns masks of the image's size for each prompt, in order."""
    for kind in _accepted_kinds(bench):
        for image, found in zip(bench.images, bench.call_for_each(_call_masks(bench, kind)), strict=True):
            if not isinstance(found, Refusal):
                _check_answers(image, kind, testing.prompts(image, kind), found)


def _call_masks(bench: Bench, kind: testing.Kind) -> Callable[[Any, Image], Any]:
    return lambda stage, image: bench.call(image, stage.masks, image, testing.prompts(image, kind))


def _check_answers(image: Image, kind: str, prompts: Sequence[Prompt], masks: Any) -> None:
    where = f"masks() of {describe_image(image)}"
    if not is_list_of(masks, Mask):
        raise Broken(f"{where} returns {masks!r:.100}", "return a list of maskmill.Mask")
    for mask in masks:
        _check_mask(where, mask, image)
        if mask.prompt not in prompts:
            raise Broken(f"{where}: a mask does not name its prompt", "Mask.from_array(..., prompt=prompt)")
    if kind in {"text", "everything"}:
        return
    answered = [mask.prompt for mask in masks]
    if answered not in (list(prompts), [prompt for prompt in prompts for _ in range(3)]):
        order = [prompts.index(prompt) for prompt in answered]
        got = f"{count_noun(len(prompts), 'prompt')} got {count_noun(len(masks), 'mask')}"
        text = f"{where}: {got}, for the prompts number {order}"
        raise Broken(text, "return one mask per prompt (or three), in the order of the prompts, even if it is empty")


def _check_mask(where: str, mask: Mask, image: Image) -> None:
    hint = ""
    if mask.size != image.size:
        hint = "Mask.from_array takes an array of shape (image.height, image.width)"
    try:
        check_mask(mask, image.size)
    except ImageError as error:
        raise Broken(f"{where}: {error}", hint or "use None if there is no score" * ("score" in str(error))) from None


def check_masks_again(bench: Bench) -> None:
    """The same image and prompts get the same masks."""
    for kind in _accepted_kinds(bench):
        bench.check_repeatable("masks()", _call_masks(bench, kind))


def check_embedding(bench: Bench) -> None:
    """`masks` returns the same with `embed`'s embedding as without."""
    kinds = _accepted_kinds(bench)
    with bench.open_stage() as stage:
        for image in bench.images if kinds else ():
            embedding = bench.call(image, stage.embed, image)
            if embedding is None or isinstance(embedding, Refusal):
                continue
            prompts = testing.prompts(image, kinds[0])
            without = bench.call(image, stage.masks, image, prompts)
            if bench.call(image, stage.masks, image, prompts, embedding) != without:
                raise Broken(f"masks() of {describe_image(image)} differ with and without the embedding of embed()")


def _call_filter(bench: Bench) -> Callable[[Any, Image], Any]:
    return lambda stage, image: bench.call(image, stage.apply, image, testing.masks(image))


def check_filtered_masks(bench: Bench) -> None:
    """`apply` returns some of the masks it was given, and leaves its argument alone."""
    for image, found in zip(bench.images, bench.call_for_each(_call_filter(bench)), strict=True):
        if isinstance(found, Refusal):
            continue
        if not is_list_of(found, Mask):
            raise Broken(
                f"apply() of {describe_image(image)} returns {found!r:.100}", "return a list of the masks to keep"
            )
        given = {mask.index: mask for mask in testing.masks(image)}
        for mask in found:
            if mask.index not in given:
                hint = "return the given masks, or mask.with_array(...) for other pixels; both keep mask.index"
                raise Broken(f"apply() of {describe_image(image)} returns a mask that it was not given", hint)
            _check_mask(f"apply() of {describe_image(image)}", mask, image)
        if len(found) != len({mask.index for mask in found}):
            raise Broken(f"apply() of {describe_image(image)} returns a mask twice")


def check_without_masks(bench: Bench) -> None:
    """`apply` returns nothing for no masks, and does not change the list it is given."""
    with bench.open_stage() as stage:
        for image in bench.images:
            if (found := bench.call(image, stage.apply, image, [])) and not isinstance(found, Refusal):
                raise Broken(f"apply() of no masks returns {found!r:.100}")
            given = testing.masks(image)
            bench.call(image, stage.apply, image, given)
            if given != testing.masks(image):
                raise Broken(
                    "apply() changes the list that it is given", "make a new one: [mask for mask in masks if ...]"
                )


def check_filter_again(bench: Bench) -> None:
    """The same masks are kept when it is called again."""
    bench.check_repeatable("apply()", _call_filter(bench))


def _make_results(bench: Bench) -> list[tuple[Image, ImageResult]]:
    """Results with masks, one of them dropped; the last result has none."""
    results = []
    for image in bench.images:
        masks = testing.masks(image) if image is not bench.images[-1] else []
        results.append((image, testing.result(image, [_drop_second(mask) for mask in masks])))
    return results


def _drop_second(mask: Mask) -> Mask:
    return replace(mask, dropped_by="fake-filter", reason="for the check") if mask.index == 1 else mask


def _write_all(bench: Bench, folder: Path, backwards: bool = False, black: bool = False) -> list[list[Artifact]]:
    """What `write` returns for each image and, last, what `finish` returns; checked against the folder."""
    order = [*reversed(_make_results(bench))] if backwards else _make_results(bench)
    made: list[list[Artifact]] = []
    with bench.open_stage() as stage:
        for image, result in order:
            shown = replace(image, pixels=np.zeros_like(image.pixels)) if black else image
            found = bench.call(image, stage.write, shown, result, folder)
            found = [] if isinstance(found, Refusal) else found
            made.append(_check_artifacts(f"write() of {describe_image(image)}", found, folder))
        made = [*reversed(made)] if backwards else made
        finished = bench.build_stage().finish(iter(sorted((r for _, r in order), key=lambda r: r.key)), folder)
    made.append(_check_artifacts("finish()", finished, folder))
    return made


def _check_artifacts(where: str, found: Any, folder: Path) -> list[Artifact]:
    hint = "write with maskmill.save(folder, result.key, data, suffix) and return what it returns"
    found = list(found) if isinstance(found, Iterator) else found
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
    """`write` and `finish` return the files that they wrote, all of them in the folder, with different names."""
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
    _check_artifacts("finish() of no results", bench.build_stage().finish(iter(()), folder), folder)
