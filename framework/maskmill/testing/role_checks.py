"""What prompt sources, backends and filters promise, as checks on a bench. A check raises `Broken` or returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import PromptError
from ..images import Image
from ..masks import Mask
from ..plugins.optional import has_answer, max_concurrent, prompts_fingerprint
from ..plugins.roles import PromptSource
from ..prompts import Box, Point, Prompt
from . import fakes as testing
from .bench import Bench, Broken, Refusal, describe_image, is_list_of

KINDS: tuple[testing.Kind, ...] = ("box", "points", "text", "everything")


def _call_prompts(bench: Bench) -> Callable[[Any, Image], Any]:
    return lambda stage, image: bench.call(image, stage.prompts, image)


def check_prompts(bench: Bench) -> None:
    """`prompts` returns None or a list of prompts inside the image, of the kinds that `kinds` announces."""
    announced = bench.make().kinds()
    for image, found in zip(bench.images, bench.call_for_each(_call_prompts(bench)), strict=True):
        if found is None or isinstance(found, Refusal):
            continue
        if not is_list_of(found, Prompt):
            hint = "return a list of maskmill.Prompt, [] for an image without objects, None for an unknown image"
            raise Broken(f"prompts() of {describe_image(image)} returns {found!r:.100}", hint)
        for prompt in found:
            if not isinstance(prompt.box, Box | None) or not all(isinstance(point, Point) for point in prompt.points):
                hint = "write Prompt(box=Box(x1, y1, x2, y2)) or Prompt(points=(Point(x, y), ...))"
                raise Broken(f"prompts() of {describe_image(image)} returns {prompt!r:.100}", hint)
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
    with bench.opened() as stage, ThreadPoolExecutor(4) as threads:
        if list(threads.map(lambda image: _call_prompts(bench)(stage, image), bench.images)) != expected:
            raise Broken(
                "prompts() returns something else in several threads at once", "guard shared state with a lock"
            )


def check_prediction(bench: Bench) -> None:
    """`fingerprint`, `has_answer` and `at_once` work without `open` and agree with `prompts`."""
    stage = bench.make()
    if not isinstance(threads := max_concurrent(stage), int) or threads < 1:
        raise Broken(f"at_once() returns {threads!r}", "return a whole number of at least 1")
    for image, found in zip(bench.images, bench.call_for_each(_call_prompts(bench)), strict=True):
        prints = [prompts_fingerprint(one)(image.ref) for one in (stage, stage, bench.make())]
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
    stage = bench.make()
    kinds = stage.accepts()
    if not kinds or not isinstance(kinds, (frozenset, set)) or not kinds <= set(KINDS):
        raise Broken(f"accepts() returns {kinds!r}", f"return a frozenset of: {', '.join(KINDS)}")
    if not isinstance(name := stage.model_id(), str) or name != bench.make().model_id():
        raise Broken(f"model_id() returns {name!r}", "return a text that is the same for the same model")
    if (memory := stage.memory_per_worker()) is not None and not isinstance(memory, int):
        raise Broken(f"memory_per_worker() returns {memory!r}", "return bytes as a whole number, or None")


def _accepted_kinds(bench: Bench) -> list[testing.Kind]:
    accepted = bench.make().accepts()
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
        if mask.size != image.size:
            hint = "Mask.from_array takes an array of shape (image.height, image.width)"
            raise Broken(f"{where}: a mask has size {mask.size}, the image {image.size}", hint)
        if mask.prompt not in prompts:
            raise Broken(f"{where}: a mask does not name its prompt", "Mask.from_array(..., prompt=prompt)")
        if mask.score is not None and not math.isfinite(mask.score):
            raise Broken(f"{where}: a score is {mask.score}", "use None if there is no score")
    if kind in {"text", "everything"}:
        return
    answered = [mask.prompt for mask in masks]
    if answered not in (list(prompts), [prompt for prompt in prompts for _ in range(3)]):
        order = [prompts.index(prompt) for prompt in answered]
        text = f"{where}: {len(prompts)} prompts got {len(masks)} masks, for the prompts number {order}"
        raise Broken(text, "return one mask per prompt (or three), in the order of the prompts, even if it is empty")


def check_masks_again(bench: Bench) -> None:
    """The same image and prompts get the same masks."""
    for kind in _accepted_kinds(bench):
        bench.check_repeatable("masks()", _call_masks(bench, kind))


def check_embedding(bench: Bench) -> None:
    """`masks` returns the same with `embed`'s embedding as without."""
    kind = _accepted_kinds(bench)[0]
    with bench.opened() as stage:
        for image in bench.images:
            embedding = bench.call(image, stage.embed, image)
            if embedding is None or isinstance(embedding, Refusal):
                continue
            asked = testing.prompts(image, kind)
            if bench.call(image, stage.masks, image, asked, embedding) != bench.call(image, stage.masks, image, asked):
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
            if mask.size != image.size:
                raise Broken(f"apply() of {describe_image(image)}: a mask has size {mask.size}, the image {image.size}")
            if mask.dropped_by is not None:
                raise Broken("apply() sets dropped_by", 'the framework sets it; write mask.drop("why")')
        if len(found) != len({mask.index for mask in found}):
            raise Broken(f"apply() of {describe_image(image)} returns a mask twice")


def check_without_masks(bench: Bench) -> None:
    """`apply` returns nothing for no masks, and does not change the list it is given."""
    with bench.opened() as stage:
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
