"""Bringing the stored result of one image up to date, from the first stage that has to run again.

As soon as the masks are made they are stored, in a partial result (see `make_partial`): whatever becomes of the filters
and writers, the next try does not need the backend.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..corrections import NAME as CORRECTIONS
from ..errors import PromptError
from ..masks import Mask
from ..output.store import StoredResult
from ..plugins.messages import LaneAnswers
from ..plugins.roles import Writer
from ..results import DOUBTFUL, UNFINISHED, Failure, ImageResult
from ..wording import count_noun
from .apply_filters import restore_masks, restore_masks_for
from .fingerprint import NOT_WRITTEN, Fingerprint, Reuse, make_partial
from .image_steps import ImageSteps
from .plugin_call import StepError, Trace
from .run_writers import WriterCalls, Written


class ImageUpdate:
    """The update of one image.

    Args:
        steps: the image with the stages.
        output: the output folder.
        stored: its stored result, which is replaced by what is there when it is worth it, but not by the last one.
        reuse: what of the stored result still holds.
        wanted: what the result has to be made with.
        provenance: of the result.
        fail_on: codes of doubts that fail the image.
        careful: see `Chain.process`.
    """

    def __init__(
        self,
        steps: ImageSteps,
        output: Path,
        stored: StoredResult,
        reuse: Reuse,
        wanted: Fingerprint,
        provenance: Mapping[str, Any],
        fail_on: Collection[str],
        careful: bool,
    ) -> None:
        self._steps = steps
        self._output = output
        self._stored = stored
        self._reuse = reuse
        self._wanted = wanted
        self._provenance = provenance
        self._fail_on = fail_on
        self._careful = careful

    def run(self, ahead: LaneAnswers | None) -> ImageResult:
        """The result of the image, made anew from the first stage that is not covered.

        Masks are taken from the stored result as the backend made them; the filters always run again,
        since they are cheap and what they noted is not stored apart.

        Args:
            ahead: what the prompt lane found.

        Returns:
            The result; if a filter or a writer failed, a failed one that keeps what the others made.

        Raises:
            StepError: the image has no prompts or no masks, or a doubt that fails it.
            StopRun: no image can succeed now.
        """
        held, is_new = self._find_masks(ahead)
        if is_new and self._has_plugins_left():
            self._stored.replace(held)
        try:
            result = self._steps.filter(held.prompts, held.raw, held.reason, self._provenance_of(held))
        except StepError as error:
            return self._steps.complete(replace(held, failure=error.failure))
        refuse_doubts(self._steps.trace, result, self._fail_on)
        return self._write(result)

    def _has_plugins_left(self) -> bool:
        """Whether a plugin that could fail works on the image after the backend."""
        stages = self._steps.stages
        return bool(stages.filters) or any(type(writer).write is not Writer.write for _, writer in stages.writers)

    def _find_masks(self, ahead: LaneAnswers | None) -> tuple[ImageResult, bool]:
        """The prompts, and all masks in `raw`, as a partial result; and whether the backend was called for them."""
        steps, before = self._steps, self._reuse.before
        known: tuple[Mask, ...] | None = None
        backend = steps.stages.backend[0]
        if before is not None:
            prompts, reason, known = before.prompts, before.reason, restore_masks(before)
            makers = {backend, CORRECTIONS, *(name for name, _ in steps.stages.prompts)}
            self._take_over(before, makers, ("read", "prompts", "backend"), len(known))
        else:
            prompts, reason = steps.find_prompts(ahead)
            candidate = self._reuse.candidate
            if candidate is not None and (known := restore_masks_for(prompts, candidate)) is not None:
                before = candidate
                self._take_over(before, {backend}, ("backend",), len(known))
        is_new = known is None and bool(prompts)
        if known is None:
            steps.trace.first = "segment"
        raw = steps.compute(prompts) if is_new else known or ()
        image, provenance = steps.image, self._provenance
        if before is not None and "versions" in before.provenance:  # of the packages that made the masks
            provenance = {**provenance, "versions": before.provenance["versions"]}
        held = ImageResult(
            image.ref.key, "failed", image.size, image.sha256, prompts, raw=raw, reason=reason, provenance=provenance
        )
        made = Fingerprint(self._wanted.prompts, self._wanted.masks, "", ())
        return make_partial(steps.complete(held), made, NOT_WRITTEN), is_new

    def _provenance_of(self, held: ImageResult) -> Mapping[str, Any]:
        """That of a result that is whole."""
        return {name: held.provenance[name] for name in self._provenance}

    def _take_over(self, before: ImageResult, makers: Collection[str], stages: Collection[str], masks: int) -> None:
        """Take over the notes of these plugins and the doubts of these stages from a stored result."""
        trace = self._steps.trace
        trace.notes.update({name: dict(notes) for name, notes in before.notes.items() if name in makers})
        for doubt in before.doubts:
            if doubt.stage in stages:
                trace.add_doubt(doubt)
        trace.story(f"{before.key}: {count_noun(masks, 'mask')} taken from the stored result")

    def _write(self, result: ImageResult) -> ImageResult:
        """The result with the files of the writers."""
        steps = self._steps
        calls = WriterCalls(steps.stages.writers, self._wanted.writers, self._output)

        def add_files(written: Written, failure: Failure | None) -> ImageResult:
            with_files = calls.add_to(result, written)
            if failure is None:
                return with_files
            return make_partial(with_files, replace(self._wanted, writers=calls.fingerprints_of(written)), failure)

        def store(name: str, written: Written) -> None:
            self._stored.replace(add_files(written, replace(NOT_WRITTEN, stage="writers", plugin=name)))

        written = calls.run(
            steps.image, result, self._reuse, steps.trace, store if self._careful else None, self._find_suspect()
        )
        calls.make_entries(calls.add_to(result, written), written, steps.trace)
        return add_files(written, calls.find_failure(written))

    def _find_suspect(self) -> str:
        """The writer that was at work when an earlier process ended, "" if none was."""
        failure = self._stored.result and self._stored.result.failure
        return failure.plugin if failure and failure.type == UNFINISHED else ""


def refuse_doubts(trace: Trace, result: ImageResult, fail_on: Collection[str]) -> None:
    """Fail the image if it has a doubt that `fail_on` names, or is empty where an annotation was left out.

    Raises:
        StepError: it has.
    """
    for doubt in trace.doubts:
        if result.status == "empty" and doubt.code == "annotation_skipped":
            text = f"nothing was found, but {doubt.message}"
            raise StepError(Failure(doubt.stage, doubt.plugin, PromptError.__name__, text))
        if doubt.code in fail_on:
            raise StepError(Failure(doubt.stage, doubt.plugin, DOUBTFUL, f"{doubt.code}: {doubt.message}"))
