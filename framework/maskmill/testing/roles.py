"""What each role promises, as checks on a bench. A check raises `Broken` or returns; those of writers lie beside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import PromptError
from ..images import Image
from ..masks import Mask
from ..plugins.optional import has_answer, max_concurrent, prompts_fingerprint
from ..plugins.roles import PromptSource
from ..prompts import Box, Point, Prompt
from . import fakes as testing
from .bench import Bench, Broken, Refusal, list_of, show
from .writers import bears_an_empty_run, looks_at_no_pixels, names_its_files, writes_the_same

KINDS: tuple[testing.Kind, ...] = ("box", "points", "text", "everything")


def _ask_prompts(bench: Bench) -> Callable[[Any, Image], Any]:
    return lambda stage, image: bench.call(image, stage.prompts, image)


def gives_prompts(bench: Bench) -> None:
    """`prompts` gives None or a list of prompts that lie inside the image, of the kinds that it announced."""
    said = bench.make().kinds()
    for image, found in zip(bench.images, bench.each(_ask_prompts(bench)), strict=True):
        if found is None or isinstance(found, Refusal):
            continue
        if not list_of(found, Prompt):
            hint = "it returns a list of maskmill.Prompt, [] if there is nothing, None if it does not know the image"
            raise Broken(f"prompts() of {show(image)} returns {found!r:.100}", hint)
        for prompt in found:
            if not isinstance(prompt.box, Box | None) or not all(isinstance(point, Point) for point in prompt.points):
                hint = "write Prompt(box=Box(x1, y1, x2, y2)) or Prompt(points=(Point(x, y), ...))"
                raise Broken(f"prompts() of {show(image)} returns {prompt!r:.100}", hint)
            try:
                prompt.fit(*image.size)
            except PromptError as error:
                hint = "coordinates are pixels of this image: 0 to image.width, 0 to image.height"
                raise Broken(f"prompts() of {show(image)}: {error}", hint) from None
            if said is not None and (more := prompt.needs - said):
                text = f"kinds() says {', '.join(sorted(said))}, prompts() also gives {', '.join(sorted(more))}"
                raise Broken(text, "kinds() names all of them, or returns None")


def gives_the_same_prompts(bench: Bench) -> None:
    """The same image has the same prompts, also in other threads if the source waits."""
    bench.same_again("prompts()", _ask_prompts(bench))
    stage_class = bench.entry.cls
    assert issubclass(stage_class, PromptSource)
    if not stage_class.waits:
        return
    expected = bench.each(_ask_prompts(bench))
    with bench.opened() as stage, ThreadPoolExecutor(4) as threads:
        if list(threads.map(lambda image: _ask_prompts(bench)(stage, image), bench.images)) != expected:
            raise Broken("prompts() gives something else in several threads at once", "guard shared state with a lock")


def knows_before(bench: Bench) -> None:
    """`fingerprint`, `has_answer` and `at_once` work without `open` and agree with `prompts`."""
    stage = bench.make()
    if not isinstance(threads := max_concurrent(stage), int) or threads < 1:
        raise Broken(f"at_once() returns {threads!r}", "it returns a whole number of at least 1")
    for image, found in zip(bench.images, bench.each(_ask_prompts(bench)), strict=True):
        prints = [prompts_fingerprint(one)(image.ref) for one in (stage, stage, bench.make())]
        if not all(isinstance(text, str) and text for text in prints) or len(set(prints)) != 1:
            raise Broken(
                f"fingerprint() of {show(image)} is {prints}", "the same text as long as the prompts are the same"
            )
        answer = has_answer(stage, image.ref)
        if answer is not None and answer == (found is None):
            raise Broken(f"has_answer() of {show(image)} is {answer}, and prompts() returns {found!r:.100}")


def accepts_kinds(bench: Bench) -> None:
    """`accepts` names kinds of prompts; `model_id` and `memory_per_worker` are of their types."""
    stage = bench.make()
    kinds = stage.accepts()
    if not kinds or not isinstance(kinds, (frozenset, set)) or not kinds <= set(KINDS):
        raise Broken(f"accepts() returns {kinds!r}", f"it returns a frozenset of: {', '.join(KINDS)}")
    if not isinstance(name := stage.model_id(), str) or name != bench.make().model_id():
        raise Broken(f"model_id() returns {name!r}", "it returns a text that is the same for the same model")
    if (memory := stage.memory_per_worker()) is not None and not isinstance(memory, int):
        raise Broken(f"memory_per_worker() returns {memory!r}", "it returns bytes as a whole number, or None")


def _asked(bench: Bench) -> list[testing.Kind]:
    accepted = bench.make().accepts()
    return [kind for kind in KINDS if kind in accepted]


def gives_masks(bench: Bench) -> None:
    """`masks` answers each prompt with masks of the image's size, in order."""
    for kind in _asked(bench):
        for image, found in zip(bench.images, bench.each(_ask_masks(bench, kind)), strict=True):
            if not isinstance(found, Refusal):
                _are_answers(image, kind, testing.prompts(image, kind), found)


def _ask_masks(bench: Bench, kind: testing.Kind) -> Callable[[Any, Image], Any]:
    return lambda stage, image: bench.call(image, stage.masks, image, testing.prompts(image, kind))


def _are_answers(image: Image, kind: str, prompts: Sequence[Prompt], masks: Any) -> None:
    where = f"masks() of {show(image)}"
    if not list_of(masks, Mask):
        raise Broken(f"{where} returns {masks!r:.100}", "it returns a list of maskmill.Mask")
    for mask in masks:
        if mask.size != image.size:
            hint = "Mask.from_array takes an array of shape (image.height, image.width)"
            raise Broken(f"{where}: a mask is of size {mask.size}, the image of {image.size}", hint)
        if mask.prompt not in prompts:
            raise Broken(f"{where}: a mask does not name its prompt", "Mask.from_array(..., prompt=prompt)")
        if mask.score is not None and not math.isfinite(mask.score):
            raise Broken(f"{where}: a score is {mask.score}", "None if there is no score")
    if kind in {"text", "everything"}:
        return
    answered = [mask.prompt for mask in masks]
    if answered not in (list(prompts), [prompt for prompt in prompts for _ in range(3)]):
        order = [prompts.index(prompt) for prompt in answered]
        text = f"{where}: {len(prompts)} prompts got {len(masks)} masks, of the prompts number {order}"
        raise Broken(text, "one mask a prompt (or three), in the order of the prompts, also if it is empty")


def gives_the_same_masks(bench: Bench) -> None:
    """The same image and prompts have the same masks."""
    for kind in _asked(bench):
        bench.same_again("masks()", _ask_masks(bench, kind))


def embeds(bench: Bench) -> None:
    """`masks` says the same with `embed`'s embedding as without."""
    kind = _asked(bench)[0]
    with bench.opened() as stage:
        for image in bench.images:
            embedding = bench.call(image, stage.embed, image)
            if embedding is None or isinstance(embedding, Refusal):
                continue
            asked = testing.prompts(image, kind)
            if bench.call(image, stage.masks, image, asked, embedding) != bench.call(image, stage.masks, image, asked):
                raise Broken(f"masks() of {show(image)} differ with and without the embedding of embed()")


def _ask_filter(bench: Bench) -> Callable[[Any, Image], Any]:
    return lambda stage, image: bench.call(image, stage.apply, image, testing.masks(image))


def only_keeps(bench: Bench) -> None:
    """`apply` returns some of the masks it was given, and leaves its argument alone."""
    for image, found in zip(bench.images, bench.each(_ask_filter(bench)), strict=True):
        if isinstance(found, Refusal):
            continue
        if not list_of(found, Mask):
            raise Broken(f"apply() of {show(image)} returns {found!r:.100}", "it returns a list of the masks to keep")
        given = {mask.index: mask for mask in testing.masks(image)}
        for mask in found:
            if mask.index not in given:
                hint = "return the given masks, or for other pixels mask.with_array(...); both keep mask.index"
                raise Broken(f"apply() of {show(image)} returns a mask that it was not given", hint)
            if mask.size != image.size:
                raise Broken(f"apply() of {show(image)}: a mask is of size {mask.size}, the image of {image.size}")
            if mask.dropped_by is not None:
                raise Broken("apply() sets dropped_by", 'the framework fills that in; write mask.drop("why")')
        if len(found) != len({mask.index for mask in found}):
            raise Broken(f"apply() of {show(image)} returns a mask twice")


def bears_no_masks(bench: Bench) -> None:
    """`apply` of no masks is none; the list it is given stays as it is."""
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


def filters_the_same(bench: Bench) -> None:
    """The same masks are kept when it is asked again."""
    bench.same_again("apply()", _ask_filter(bench))


Check = tuple[str, Callable[[Bench], None]]

#: role -> (the rule, its check), in the order of asking
CHECKS: Mapping[str, Iterable[Check]] = {
    "prompt source": (
        ("gives prompts inside the image, of its kinds", gives_prompts),
        ("gives the same prompts again", gives_the_same_prompts),
        ("knows before what it will say", knows_before),
    ),
    "backend": (
        ("says what it accepts", accepts_kinds),
        ("answers each prompt with masks of the right size", gives_masks),
        ("gives the same masks again", gives_the_same_masks),
        ("gives the same masks from its embedding", embeds),
    ),
    "filter": (
        ("only keeps masks", only_keeps),
        ("bears an image without masks", bears_no_masks),
        ("keeps the same masks again", filters_the_same),
    ),
    "writer": (
        ("names the files it makes, in its folder", names_its_files),
        ("writes the same bytes again", writes_the_same),
        ("needs pixels if it says so", looks_at_no_pixels),
        ("bears a run without images", bears_an_empty_run),
    ),
}
