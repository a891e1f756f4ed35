"""Which prompts a backend gets and which masks it may return: the rule of runs, `segment`, server and plugin checks."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import ImageError, PromptError
from ..masks import Mask, match_prompts
from ..plugins.roles import Backend
from ..prompts import Prompt

T = TypeVar("T")
#: Kinds of prompt that each need a mask of their own; texts and grids may find nothing.
ANSWERED_ONE_BY_ONE = frozenset({"points", "box"})


def call_for_list(kind: type[T], call: Callable[..., object], *given: Any) -> list[T]:
    """What a plugin's method returns that must return a list.

    Raises:
        TypeError: it returned something else.
    """
    answer = call(*given)
    if isinstance(answer, (list, tuple)) and all(isinstance(item, kind) for item in answer):
        return list(answer)
    raise TypeError(f"expected a list of {kind.__name__}, not {reprlib.repr(answer)}")


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
            raise PromptError(
                f"the backend {name!r} takes {', '.join(sorted(accepted))}, not {', '.join(sorted(unknown))}"
            )
    return tuple(prompt.fit(*size) for prompt in prompts)


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
        ImageError: a mask of another size, or no mask for a box or for points; equal prompts need a mask each.
    """
    found = call_for_list(Mask, masks, image, prompts, *embedding)
    for mask in found:
        if mask.size != image.size:
            raise ImageError(f"a mask of size {mask.size} came back for an image of size {image.size}")
    answered = set(match_prompts(found, prompts))
    for number, prompt in enumerate(prompts):
        if prompt.needs <= ANSWERED_ONE_BY_ONE and number not in answered:
            raise ImageError(f"no mask came back for the prompt {prompt.to_json()}")
    return tuple(replace(mask, index=index) for index, mask in enumerate(found))
