"""From an image's result and its last correction to what the page shows, and back to the objects of a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskmill import ImageResult, Mask, Prompt, PromptError
from maskmill.corrections import digest_entry, digest_masks, freeze_mask

from ..server.errors import ApiError
from .wire import EditedObject, ReviewObject


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
        given = self.prompt.mask
        assert given is not None, "candidates are frozen"
        mask = Mask(given.size, given.counts)
        return ReviewObject(
            id=self.id,
            label=self.prompt.label,
            score=given.score,
            kept=self.kept,
            reason=self.reason,
            size=given.size,
            counts=given.counts,
            box=None if mask.box is None else mask.box.xyxy,
            area=mask.area,
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


def apply_edits(candidates: Sequence[Candidate], objects: Sequence[EditedObject]) -> tuple[Prompt, ...]:
    """The objects that the reviewer leaves, in the order of the result.

    Raises:
        ApiError: an object is unknown, or occurs twice.
    """
    labels = {each.id: each.label for each in objects}
    unknown = labels.keys() - {each.id for each in candidates}
    if unknown or len(labels) < len(objects):
        wrong = next(iter(unknown), "one twice")
        raise ApiError("invalid-request", f"body/objects: the image has no such object: {wrong}")
    wanted = [each for each in candidates if each.id in labels]
    ordered = sorted(wanted, key=lambda each: (each.id[0], int(each.id[1:])))
    return tuple(replace(each.prompt, label=labels[each.id] or None) for each in ordered)
