"""Masks through the filters and back: what each filter did is recorded in the mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ..images import Image
from ..masks import Mask
from ..plugins.roles import Filter
from ..prompts import Prompt
from ..results import EMPTY_MASK, Failure, ImageResult
from ..wording import count_noun
from .contract import call_for_masks
from .plugin_call import StepError, Trace


def apply_filters(
    filters: Sequence[tuple[str, Filter]], backend: str, image: Image, raw: Sequence[Mask], trace: Trace
) -> tuple[Mask, ...]:
    """All masks in the backend's order; dropped and changed ones name the filter.

    Args:
        filters: with their names, in their order.
        backend: the name of the backend, which drops the masks that it left empty.
        image: whose masks they are.
        raw: the masks as the backend made them.
        trace: of this image.

    Raises:
        StepError: a filter failed, or gave back a mask that it had not been given.
    """
    dropped: list[Mask] = []
    kept: list[Mask] = []
    for mask in raw:
        kept.append(mask) if mask.area else dropped.append(replace(mask, dropped_by=backend, reason=EMPTY_MASK))
    checked_before: Sequence[Mask] = ()  # not `raw`: what an older version stored is checked by the first filter
    for name, stage in filters:
        known = {mask.index: mask for mask in kept}
        call = partial(call_for_masks, image.size, stage.apply, image, kept, checked=checked_before)
        back = trace.step("filters", name, call, image.sha256)
        if unknown := [mask for mask in back if mask.index not in known]:
            new = count_noun(len(unknown), "new mask")
            message = f"it returned {new}; a filter may only keep, change or drop those it is given"
            raise StepError(Failure("filters", name, "ImageError", message))
        checked = {mask.index: _record_change(mask, known[mask.index], name) for mask in back}
        for index, mask in known.items():
            if index not in checked or checked[index].reason is not None:
                dropped.append(replace(checked.get(index, mask), dropped_by=name))
        kept = [mask for mask in checked.values() if mask.reason is None]
        checked_before = tuple(kept)  # a copy: a filter may change the list it gets
    return tuple(sorted([*kept, *dropped], key=lambda mask: mask.index))


def restore_masks(result: ImageResult) -> tuple[Mask, ...]:
    """The masks as the backend made them, from a stored result."""
    if not result.masks:  # a filter failed
        return result.raw
    changed = {mask.index: mask for mask in result.raw}
    return tuple(replace(changed.get(m.index, m), dropped_by=None, reason=None) for m in result.masks)


def restore_masks_for(prompts: Sequence[Prompt], result: ImageResult) -> tuple[Mask, ...] | None:
    """The masks as the backend made them, if the stored result is of the same prompts; in the order of these.

    Args:
        prompts: of the image now.
        result: stored, of the same image and backend.

    Returns:
        None if the prompts differ, or if it is not known which mask answers which.
    """
    masks = restore_masks(result)
    if tuple(prompts) == result.prompts:
        return masks
    order = {prompt: number for number, prompt in enumerate(prompts)}
    if len(order) < len(prompts) or len(prompts) != len(result.prompts) or set(order) != set(result.prompts):
        return None
    if any(mask.prompt not in order for mask in masks):
        return None
    ordered = sorted(masks, key=lambda mask: (order[mask.prompt], mask.index) if mask.prompt else (0, mask.index))
    return tuple(replace(mask, index=index) for index, mask in enumerate(ordered))


def _record_change(mask: Mask, before: Mask, name: str) -> Mask:
    """A mask as a filter gave it back, with the filter's name if it is not what it was."""
    if replace(mask, reason=None) == before:
        return mask
    if mask.reason is None and not mask.area:
        mask = mask.drop("nothing is left of it")
    return replace(mask, changed_by=(*before.changed_by, name))
