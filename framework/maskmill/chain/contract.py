"""What plugins hand over: the rule of runs, `segment`, the server, the backend `remote` and plugin checks.

A prompt or a mask that enters here is plain data afterwards: Python numbers and texts that every file can hold.
"""

from __future__ import annotations

import math
import reprlib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import ImageError, PromptError
from ..geometry import to_score
from ..masks import Mask, count_pixels, match_prompts
from ..plugins.roles import Backend
from ..prompts import Prompt

T = TypeVar("T")
#: Kinds of prompt that each need a mask of their own; texts and grids may find nothing.
ANSWERED_ONE_BY_ONE = frozenset({"points", "box"})
#: Unicode categories that a label cannot have: control characters, invalid surrogates, line and paragraph separators.
_NOT_IN_LABELS = frozenset({"Cc", "Cs", "Zl", "Zp"})


def call_for_list(kind: type[T], call: Callable[..., object], *given: Any) -> list[T]:
    """What a plugin's method returns that must return a list.

    Raises:
        TypeError: it returned something else.
    """
    answer = call(*given)
    if isinstance(answer, (list, tuple)) and all(isinstance(item, kind) for item in answer):
        return list(answer)
    raise TypeError(f"expected a list of {kind.__name__}, not {reprlib.repr(answer)}")


def iterate_over(kind: type[T], call: Callable[..., object], *given: Any) -> Iterator[T]:
    """What a plugin's method returns that may return a list or a generator, one at a time.

    Raises:
        TypeError: it returned something else.
    """
    answer = call(*given)
    if not isinstance(answer, Iterable):
        raise TypeError(f"expected a list of {kind.__name__}, not {reprlib.repr(answer)}")
    for item in answer:
        if not isinstance(item, kind):
            raise TypeError(f"expected a list of {kind.__name__}, but it contains {reprlib.repr(item)}")
        yield item


def _to_text(value: object, what: str) -> str | None:
    """A text as a Python string, None for None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ImageError(f"{what} must be a text, not {reprlib.repr(value)}")
    if any(unicodedata.category(letter) == "Cs" for letter in value):
        raise ImageError(f"{what} has invalid surrogate characters: {value!a}")
    return str(value)


def check_label(label: object, what: str = "a label") -> str | None:
    """A label as a Python string, None for None.

    Raises:
        ImageError: it is no text, or has control characters or line breaks.
    """
    text = _to_text(label, what)
    if text is not None and any(unicodedata.category(letter) in _NOT_IN_LABELS for letter in text):
        raise ImageError(f"{what} has control characters or line breaks: {text!a}")
    return text


def check_prompt(prompt: Prompt, what: str = "a prompt") -> Prompt:
    """A prompt as it is passed on; points, box and grid have checked themselves.

    Args:
        prompt: as a prompt source returned it.
        what: how the message names it.

    Raises:
        PromptError: its label, another text or its score is not valid.
    """
    try:
        values: dict[str, Any] = {
            name: _to_text(getattr(prompt, name), f"its {name}") for name in ("text", "source", "ref")
        }
        values["label"] = check_label(prompt.label, "its label")
        values["score"] = to_score(prompt.score, "its score")
        if prompt.mask is not None and count_pixels(prompt.mask.counts) != math.prod(prompt.mask.size):
            raise ImageError("the run lengths of its mask do not add up to its size")
    except (ImageError, ValueError) as error:
        raise PromptError(f"{what}: {error}") from None
    return prompt if _equals(prompt, values) else replace(prompt, **values)


def check_mask(mask: Mask, size: tuple[int, int], what: str = "a mask") -> Mask:
    """A mask as it is passed on.

    Args:
        mask: as a backend or a filter returned it, here or on a server.
        size: (height, width) of the image.
        what: how the message names it.

    Raises:
        ImageError: its size, pixels, scores, prompt or texts are not valid.
    """
    try:
        if tuple(mask.size) != size:
            raise ImageError(f"its size is {tuple(mask.size)}, the image's is {size}: (height, width)")
        if count_pixels(mask.counts) != size[0] * size[1]:
            raise ImageError(f"its run lengths do not add up to {size[1]}×{size[0]} pixels")
        values: dict[str, Any] = {name: to_score(getattr(mask, name), f"its {name}") for name in ("score", "stability")}
        values |= {"size": size, "counts": str(mask.counts), "reason": _to_text(mask.reason, "its reason")}
        if mask.prompt is not None and not isinstance(mask.prompt, Prompt):
            raise ImageError(f"its prompt must be a Prompt, not {reprlib.repr(mask.prompt)}")
        if mask.dropped_by is not None:
            raise ImageError('the framework sets dropped_by; write mask.drop("why")')
        values["prompt"] = None if mask.prompt is None else check_prompt(mask.prompt, "its prompt")
    except (ImageError, ValueError, TypeError, AttributeError) as error:
        raise ImageError(f"{what}: {error}") from None
    return mask if _equals(mask, values) else replace(mask, **values)


def _equals(item: object, values: dict[str, Any]) -> bool:
    """Whether these fields have these values, of the same types."""
    return all(
        getattr(item, name) == value and type(getattr(item, name)) is type(value) for name, value in values.items()
    )


def call_for_prompts(call: Callable[..., object], *given: Any) -> list[Prompt]:
    """What a prompt source's method returns, checked.

    Raises:
        TypeError: it is no list of prompts.
        PromptError: one of them is not valid.
    """
    found = call_for_list(Prompt, call, *given)
    return [check_prompt(prompt, f"prompt {number}") for number, prompt in enumerate(found)]


def call_for_masks(
    size: tuple[int, int], call: Callable[..., object], *given: Any, checked: Sequence[Mask] = ()
) -> list[Mask]:
    """What a backend's or a filter's method returns, checked.

    Args:
        size: (height, width) of the image.
        call: the method.
        given: its arguments.
        checked: masks that have been checked; a filter hands most of them on as they are.

    Raises:
        TypeError: it is no list of masks.
        ImageError: one of them is not valid.
    """
    found = call_for_list(Mask, call, *given)
    known = {id(mask) for mask in checked}
    return [
        mask if id(mask) in known else check_mask(mask, size, f"mask {number}") for number, mask in enumerate(found)
    ]


def explain_accepted(name: str, accepted: Collection[str]) -> str:
    """What a backend of this name takes, as the beginning of a message."""
    return f"the backend {name!r} takes {', '.join(sorted(accepted)) or 'only prompts that have a mask'}"


def fit_prompts(name: str, backend: Backend, prompts: Sequence[Prompt], size: tuple[int, int]) -> tuple[Prompt, ...]:
    """The prompts as the backend gets them: of kinds it takes, inside the image.

    Args:
        name: of the backend, for the message.
        backend: the backend.
        prompts: in pixels or relative.
        size: (height, width) of the image.

    Raises:
        PromptError: a kind that the backend does not take, or a prompt outside the image.
    """
    accepted = backend.accepts()
    for prompt in prompts:
        if unknown := prompt.needs - accepted:
            instead = "" if accepted else "; choose a backend that has a model, such as sam"
            raise PromptError(f"{explain_accepted(name, accepted)}, not {', '.join(sorted(unknown))}{instead}")
    return tuple(prompt.fit(*size) for prompt in prompts)


def _add_given_masks(found: Sequence[Mask], asked: Sequence[Prompt], prompts: Sequence[Prompt]) -> list[Mask]:
    """The backend's masks and those that prompts give themselves, in the order of the prompts."""
    places = [place for place, prompt in enumerate(prompts) if prompt.mask is None]
    placed: list[tuple[int, Mask]] = []
    for mask, number in zip(found, match_prompts(found, asked), strict=True):
        placed.append((len(prompts) if number is None else places[number], mask))
    for place, prompt in enumerate(prompts):
        if prompt.mask is not None:
            placed.append((place, Mask.from_prompt(prompt)))
    return [mask for _, mask in sorted(placed, key=lambda pair: pair[0])]


def compute_masks(
    masks: Callable[..., object], image: Any, prompts: Sequence[Prompt], *embedding: Any
) -> tuple[Mask, ...]:
    """Call a backend's `masks`, check what comes back, and number it.

    Args:
        masks: the method.
        image: the `Image`.
        prompts: as `fit_prompts` gives them.
        embedding: of the image, where it is known.

    Raises:
        TypeError: no list of masks came back.
        ImageError: a mask that is not valid, or no mask for a box or for points; equal prompts need a mask each.
    """
    asked = [prompt for prompt in prompts if prompt.mask is None]
    found = call_for_masks(image.size, masks, image, asked, *embedding) if asked else []
    if len(asked) < len(prompts):
        found = _add_given_masks(found, asked, prompts)
    answered = set(match_prompts(found, prompts))
    for number, prompt in enumerate(prompts):
        if prompt.mask is None and prompt.needs <= ANSWERED_ONE_BY_ONE and number not in answered:
            raise ImageError(f"the backend returned no mask for the prompt {prompt.to_json()}")
    return tuple(replace(mask, index=index) for index, mask in enumerate(found))
