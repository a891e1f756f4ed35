"""The steps of a chain on one image: its prompts, its masks, the filters. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..corrections import NAME as CORRECTIONS, Correction
from ..errors import PromptError, RejectedError
from ..images import Image
from ..masks import Mask
from ..plugins.messages import LaneAnswers
from ..plugins.optional import input_side
from ..plugins.roles import Stages
from ..prompts import Prompt
from ..results import Failure, ImageResult
from ..wording import count_noun
from .apply_filters import apply_filters
from .ask_sources import find_prompts
from .check_prompts import check_prompts
from .contract import compute_masks, fit_prompts
from .plugin_call import StepError, Trace


@dataclass(frozen=True)
class ImageSteps:
    """One image, the opened stages that work on it, and what happens to it.

    Attributes:
        stages: the plugins, open.
        image: the image.
        trace: receives seconds, notes, doubts and lines.
        conflict_iou: see `check_prompts`.
        correction: what a person decided about the image, None if the pipeline decides.
    """

    stages: Stages
    image: Image
    trace: Trace
    conflict_iou: float | None
    correction: Correction | None = None

    def find_prompts(self, ahead: LaneAnswers | None = None) -> tuple[tuple[Prompt, ...], str | None]:
        """The prompts of the sources, and why there is nothing where there is nothing.

        Args:
            ahead: what the prompt lane found.
        """
        if self.correction is not None:
            return self._find_corrected(self.correction)
        found = find_prompts(self.stages, self.image, self.trace, ahead)
        if found is None:
            names = ", ".join(name for name, _ in self.stages.prompts)
            message = (
                f"no prompt source has a prompt for this image (queried: {names});"
                ' give it a prompt, or "prompts": [] if it contains no objects'
            )
            raise StepError(Failure("prompts", "", "NoPrompts", message))
        return self.fit(found), None if found else self._explain_nothing()

    def _find_corrected(self, correction: Correction) -> tuple[tuple[Prompt, ...], str | None]:
        """The objects that a person decided on; no source is queried."""
        who = correction.reviewer or "a reviewer"
        self.trace.notes[CORRECTIONS] = correction.describe()
        if correction.verdict == "rejected":
            why = f": {correction.comment}" if correction.comment else ""
            raise StepError(Failure("prompts", CORRECTIONS, RejectedError.__name__, f"{who} rejected this image{why}"))
        if correction.sha256 not in ("", self.image.sha256):
            text = f"{who} reviewed another version of this image file; review it again, or remove its line"
            raise StepError(Failure("prompts", CORRECTIONS, PromptError.__name__, text))
        fit = partial(_fit_all, correction.prompts, self.image.size)
        prompts = self.trace.step("prompts", CORRECTIONS, fit)
        self.trace.story(f"{self.image.ref.key}: {count_noun(len(prompts), 'object')} as {who} decided")
        return prompts, None if prompts else f"{who} decided that it contains no objects"

    def _explain_nothing(self) -> str:
        """Why there are no prompts, as far as the sources noted it."""
        notes = ((name, self.trace.notes.get(name, {}).get("nothing")) for name, _ in self.stages.prompts)
        reasons = "; ".join(f"{name}: {reason}" for name, reason in notes if reason)
        return f"no prompts: {reasons or 'nothing to segment'}"

    def fit(self, prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        """The prompts as the backend gets them."""
        size = self.image.size
        fitted = self.trace.step("prompts", "", partial(fit_prompts, *self.stages.backend, prompts, size))
        side = input_side(self.stages.backend[1])
        for doubt in check_prompts(prompts, fitted, size, self.conflict_iou, side):
            self.trace.add_doubt(doubt)
        return fitted

    def compute(self, prompts: Sequence[Prompt], embedding: Any = None) -> tuple[Mask, ...]:
        """The masks of the backend, from its embedding of the image if the caller has it."""
        image, trace = self.image, self.trace
        name, backend = self.stages.backend
        known = () if embedding is None else (embedding,)
        masks = trace.step("backend", name, partial(compute_masks, backend.masks, image, prompts, *known), image.sha256)
        trace.story(f"{image.ref.key}: {count_noun(len(masks), 'mask')} by {name} in {trace.seconds['backend']:.1f} s")
        return masks

    def filter(
        self, prompts: tuple[Prompt, ...], raw: tuple[Mask, ...], reason: str | None, provenance: Mapping[str, Any]
    ) -> ImageResult:
        """The result after the filters, without files.

        Args:
            prompts: given to the backend.
            raw: the masks as the backend made them.
            reason: why there are no masks.
            provenance: what makes the result.
        """
        image, trace = self.image, self.trace
        filters = self.stages.filters if self.correction is None else ()
        masks = apply_filters(filters, self.stages.backend[0], image, raw, trace)
        if masks:
            kept = sum(mask.kept for mask in masks)
            trace.story(f"{image.ref.key}: {kept} of {count_noun(len(masks), 'mask')} kept")
        changed = {mask.index for mask in masks if mask.changed_by}
        result = ImageResult.done_or_empty(
            image.ref.key,
            image.size,
            image.sha256,
            prompts,
            masks,
            raw=[mask for mask in raw if mask.index in changed],
            reason=reason,
            provenance=provenance,
        )
        return self.complete(result)

    def complete(self, result: ImageResult) -> ImageResult:
        """The result with the notes and doubts so far."""
        notes, doubts = self.trace.stored_notes(), tuple(self.trace.doubts)
        return replace(result, notes=notes, doubts=doubts, value_range=self.image.value_range)


def _fit_all(prompts: Sequence[Prompt], size: tuple[int, int]) -> tuple[Prompt, ...]:
    return tuple(prompt.fit(*size) for prompt in prompts)
