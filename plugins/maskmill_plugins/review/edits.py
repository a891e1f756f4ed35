"""From an image's result and its last correction to what the page shows, and back to the objects of a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskmill import GivenMask, ImageResult, Mask, Prompt, PromptError
from maskmill.corrections import digest_entry, digest_masks, freeze_mask
from maskmill.masks import read_runs

from ..server.errors import ApiError
from .mask_wire import EditedMask, EditedObject
from .wire import ReviewObject

#: The ids of objects that the image did not have begin with it.
NEW = "n"


@dataclass(frozen=True)
class Candidate:
    """An object that an image has or could have.

    Attributes:
        id: `m` and the index of a mask of the result, or `c` and the number of a prompt of the correction that the
            result does not have.
        prompt: answers itself.
        kept: whether the image has it now.
        reason: if not, why.
    """

    id: str
    prompt: Prompt
    kept: bool
    reason: str

    def describe(self) -> ReviewObject:
        """As the page gets it."""
        mask = Mask.from_prompt(self.prompt)
        return ReviewObject(
            id=self.id,
            label=self.prompt.label,
            score=mask.score,
            kept=self.kept,
            reason=self.reason,
            size=mask.size,
            counts=mask.counts,
            box=None if mask.box is None else mask.box.xyxy,
            area=mask.area,
            points=[(point.x, point.y, point.label) for point in self.prompt.points],
            drawn=None if self.prompt.box is None else self.prompt.box.xyxy,
        )


def list_candidates(result: ImageResult, line: Mapping[str, Any] | None) -> list[Candidate]:
    """The objects of an image: what the last correction says, else the result; then those that could be kept.

    Raises:
        ApiError: the correction was edited and is not valid.
    """
    if line is None or digest_entry(line) == digest_masks(result):
        kept = [Candidate(f"m{mask.index}", freeze_mask(mask), True, "") for mask in result.kept]
        others = [mask for mask in result.masks if not mask.kept]
    else:
        free = list(result.masks)
        kept = [_match(number, prompt, free) for number, prompt in enumerate(read_prompts(line.get("prompts")))]
        others = free
    shown = [mask for mask in others if mask.area]
    return kept + [Candidate(f"m{mask.index}", freeze_mask(mask), False, _explain(mask)) for mask in shown]


def _match(number: int, prompt: Prompt, free: list[Mask]) -> Candidate:
    """A prompt of a correction, under the id of the mask of the result that it is, which is then no longer free."""
    counts = prompt.mask.counts if prompt.mask else ""
    found = next((mask for mask in free if mask.counts == counts), None)
    if found is None:
        return Candidate(f"c{number}", prompt, True, "")
    free.remove(found)
    return Candidate(f"m{found.index}", prompt, True, "")


def read_prompts(content: Any) -> list[Prompt]:
    """The "prompts" of a line.

    Raises:
        ApiError: they were edited and are not valid.
    """
    try:
        return [Prompt.from_json(prompt) for prompt in content]
    except (PromptError, KeyError, TypeError, ValueError) as error:
        raise ApiError("invalid-request", f"the correction of this image is not valid: {error}") from None


def _explain(mask: Mask) -> str:
    if mask.kept:
        return "removed in the review"
    return f"{mask.dropped_by}: {mask.reason}" if mask.reason else str(mask.dropped_by)


def apply_edits(
    candidates: Sequence[Candidate], objects: Sequence[EditedObject], size: tuple[int, int]
) -> tuple[Prompt, ...]:
    """The objects that the reviewer leaves, in the order of the result, then new ones.

    Args:
        candidates: the objects that the image has or could have.
        objects: as the reviewer leaves them.
        size: (height, width) of the image in pixels.

    Raises:
        ApiError: an object is unknown, or occurs twice; or its pixels are not valid.
    """
    edited = {each.id: each for each in objects}
    new = [each for each in objects if each.id.startswith(NEW) and each.mask is not None]
    unknown = edited.keys() - {each.id for each in candidates} - {each.id for each in new}
    if unknown or len(edited) < len(objects):
        wrong = next(iter(unknown), "one twice")
        raise ApiError("invalid-request", f"body/objects: the image has no such object: {wrong}")
    wanted = [each for each in candidates if each.id in edited]
    ordered = sorted(wanted, key=lambda each: (each.id[0], int(each.id[1:])))
    known = [_edit(each.prompt, edited[each.id], size) for each in ordered]
    return (*known, *(_edit(None, each, size) for each in new))


def _edit(prompt: Prompt | None, edited: EditedObject, size: tuple[int, int]) -> Prompt:
    """An object with the reviewer's label, and the reviewer's pixels if there are any.

    A prompt that the model answered replaces the object's own; a painted mask keeps it, as a note of its origin.
    """
    label = edited.label or None
    if (mask := edited.mask) is None:
        assert prompt is not None, "a new object has a mask"
        return replace(prompt, label=label)
    try:
        given = _check_mask(mask, size)
        if mask.points or mask.box:
            base = Prompt.from_json({"points": mask.points, "box": mask.box}).fit(*size)
        else:
            base = prompt or Prompt(mask=given)
    except PromptError as error:
        raise ApiError("invalid-request", f"body/objects/{edited.id}: {error}") from None
    ref = None if prompt is None else prompt.ref
    return replace(base, mask=given, label=label, ref=ref, score=None, pick=None)


def _check_mask(mask: EditedMask, size: tuple[int, int]) -> GivenMask:
    """The pixels, if they are those of an image of this size, in the only way in which they can be written.

    Raises:
        PromptError: they are not.
    """
    given = GivenMask((mask.size[0], mask.size[1]), mask.counts, mask.score, mask.stability)
    if given.size != size:
        theirs = f"{given.size[1]}×{given.size[0]}"
        raise PromptError(f"the mask has {theirs} pixels, and the image {size[1]}×{size[0]}")
    try:
        runs = read_runs(mask.counts)
    except ValueError as error:
        raise PromptError(f"the mask is not valid: {error}") from None
    if runs.sum() != size[0] * size[1]:
        raise PromptError("the run lengths of the mask do not add up to its size")
    area = int(runs[1::2].sum())
    if area == 0:
        raise PromptError("the mask has no pixels; to remove an object, leave it out")
    if area != mask.area or not runs[1:].all():
        raise PromptError(f"the mask has {area:,} pixels, not {mask.area:,}, or its run lengths are damaged")
    return given
