"""One image through the opened plugins of a pipeline: read, prompts, backend, filters, writers.

A chain lives in one worker and works on one image at a time. Whatever a plugin raises becomes a
`Failure` of that image, except for what `Chain.process` documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..decoding.bit_depth import DEFAULT, Conversion
from ..decoding.decoder import MAX_PIXELS
from ..errors import ImageReadError, MaskmillError, PluginError, PromptError, StopRun
from ..images import Image, ImageRef
from ..masks import Mask
from ..output.environment import read_versions
from ..output.store import load_result, replace_result
from ..plugins.messages import LaneAnswers, ModelIds
from ..plugins.optional import input_side
from ..plugins.roles import Stages
from ..plugins.stage import Stage, working_in
from ..plugins.threads import set_waiting
from ..prompts import Prompt
from ..results import DOUBTFUL, Artifact, Doubt, Failure, ImageResult
from ..version import __version__
from .apply_filters import apply_filters, restore_masks, restore_masks_for
from .ask_sources import find_prompts
from .check_prompts import CONFLICT_IOU, check_prompts
from .contract import call_for_list, compute_masks, fit_prompts
from .fingerprint import Fingerprint, Reuse, plan_reuse
from .plugin_call import StepError, Trace, describe_failure

NO_MODELS = ModelIds()


class Chain:
    """The stages of one pipeline, open; a context manager.

    Args:
        stages: the plugins, not yet open.
        output: the output folder, None if nothing is written.
        max_pixels: larger images fail.
        models: what identifies the models, recorded with each result.
        fail_on: codes of doubts that fail an image.
        conversion: how image files become images.
        conflict_iou: see `check_prompts`.
    """

    def __init__(
        self,
        stages: Stages,
        output: Path | None = None,
        max_pixels: int = MAX_PIXELS,
        models: ModelIds = NO_MODELS,
        fail_on: Collection[str] = (),
        conversion: Conversion = DEFAULT,
        conflict_iou: float | None = CONFLICT_IOU,
    ) -> None:
        self.stages = stages
        self.output = output
        self.max_pixels = max_pixels
        self.models = models
        self.fail_on = frozenset(fail_on)
        self.conversion = conversion
        self.conflict_iou = conflict_iou
        self._opened: list[Stage] = []
        self._versions = read_versions()

    def open(self, models: bool = True) -> None:
        """Open every stage that is not open yet.

        Args:
            models: also the prompt sources and the backend, which an image with stored masks does not need.

        Raises:
            PluginError: one of them fails to open; names it and the cause.
        """
        set_waiting()
        for role, name, stage in self.stages.all():
            if (not models and role in ("prompt source", "backend")) or any(stage is other for other in self._opened):
                continue
            try:
                with working_in(self.output):
                    stage.open()
            except (MaskmillError, MemoryError) as error:
                raise PluginError(f"the {role} {name!r} cannot be opened: {error or 'out of memory'}") from error
            except (Exception, SystemExit) as error:
                text = f"the {role} {name!r} cannot be opened: {type(error).__name__}: {error}"
                raise PluginError(text) from error
            self._opened.append(stage)

    def needs_models(self, ref: ImageRef, wanted: Fingerprint, afresh: bool = False) -> bool:
        """Whether `process` will query the prompt sources or the backend about this image."""
        assert self.output is not None, "a chain that processes has an output folder"
        before = None if afresh else load_result(self.output, ref.key)
        if before is None or not plan_reuse(before, before.sha256, wanted).masks:
            return True
        try:
            return hashlib.sha256(ref.read()).hexdigest() != before.sha256
        except (ImageReadError, OSError):
            return False  # it fails before any source is asked

    @property
    def has_models(self) -> bool:
        """Whether the prompt sources and the backend are open."""
        return any(stage is self.stages.backend[1] for stage in self._opened)

    def close(self) -> None:
        """Close what was opened, last first."""
        while self._opened:
            self._opened.pop().close()

    def __enter__(self) -> Chain:
        self.open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def process(
        self,
        ref: ImageRef,
        wanted: Fingerprint,
        trace: Trace | None = None,
        ahead: LaneAnswers | None = None,
        afresh: bool = False,
    ) -> tuple[ImageResult, bool]:
        """Bring one image's result and files up to date, reusing what of the stored result still holds.

        Args:
            ref: where the image is.
            wanted: what the result has to be made with.
            trace: receives seconds, notes and lines.
            ahead: what the prompt lane found for it.
            afresh: make everything again, whatever of the stored result still holds.

        Returns:
            The result, and whether anything had to be done.

        Raises:
            StopRun: no image can succeed now: a plugin raised it, or the disk is full or read-only.
            OSError: the result or its files cannot be written.
        """
        assert self.output is not None, "a chain that processes has an output folder"
        trace = trace or Trace()
        before = load_result(self.output, ref.key)
        image: Image | None = None
        try:
            reuse, image = trace.step("read", "", partial(self._read, ref, None if afresh else before, wanted))
            if image is None:
                assert reuse.before is not None, "only a stored result can need no pixels"
                trace.doubts.extend(reuse.before.doubts)
                self._refuse_doubts(trace, reuse.before)
                return reuse.before, False
            if not (reuse.masks or self.has_models):
                self.open()  # the file changed since `needs_models` looked at it
            if ahead is None or not ahead.answers:  # else the lane has logged it
                trace.story(f"{ref.key}: read, {image.width}×{image.height}")
            if image.value_range is not None and (doubt := image.value_range.doubt):
                trace.add_doubt(Doubt("low_range", doubt, "read"))
            result = self._update(image, wanted, reuse, trace, ahead)
            replace_result(self.output, before, result)
            return result, True
        except StepError as error:
            failure = error.failure
        except (StopRun, OSError):
            raise
        except Exception as error:  # a result that cannot be stored, such as invalid surrogates in a label
            failure = describe_failure("worker", "", error)
        trace.story(f"{ref.key}: failed at {failure.stage}: {failure.message}")
        size, sha256 = (image.size, image.sha256) if image else (None, "")
        provenance, notes = self._provenance(str(wanted)), _without_empty(trace.notes)
        result = ImageResult.failed(ref.key, failure, size, sha256, provenance, notes, trace.doubts)
        replace_result(self.output, before, result)
        return result, True

    def _read(self, ref: ImageRef, before: ImageResult | None, wanted: Fingerprint) -> tuple[Reuse, Image | None]:
        """What can be reused, and the image; None if the stored result and its files are up to date."""
        data = ref.read()
        reuse = plan_reuse(before, hashlib.sha256(data).hexdigest(), wanted) if before else Reuse()
        if reuse.before is not None and reuse.everything and self._exist(reuse.before.artifacts):
            return reuse, None  # not even decoded
        return reuse, Image.from_bytes(data, ref, self.max_pixels, self.conversion)

    def run(self, image: Image, prompts: Sequence[Prompt] | None = None, trace: Trace | None = None) -> ImageResult:
        """Prompts, masks and filters for an image in memory; nothing is written.

        Args:
            image: the image.
            prompts: what to segment; None queries the pipeline's own sources.
            trace: receives seconds, notes and lines.

        Raises:
            StepError: a step failed.
            StopRun: no image can succeed now.
        """
        trace = trace or Trace()
        if prompts is None:
            prompts, reason = self._find_prompts(image, trace, None)
        else:
            prompts, reason = self._fit(image, prompts, trace), None
        raw = self._compute(image, prompts, trace) if prompts else ()
        return self._filter(image, prompts, raw, reason, trace, "")

    def _update(
        self, image: Image, wanted: Fingerprint, reuse: Reuse, trace: Trace, ahead: LaneAnswers | None
    ) -> ImageResult:
        """The result of the image, made anew from the first stage that `reuse` does not cover.

        Masks are taken from the stored result as the backend made them; the filters always run again,
        since they are cheap and what they noted is not stored apart.
        """
        before = reuse.before
        if before is None:
            prompts, reason = self._find_prompts(image, trace, ahead)
            known = None if reuse.candidate is None else restore_masks_for(prompts, reuse.candidate)
            if reuse.candidate is not None and known is not None:
                raw = known
                self._take_over(image, reuse.candidate, {self.stages.backend[0]}, ("backend",), len(raw), trace)
            else:
                raw = self._compute(image, prompts, trace) if prompts else ()
            result = self._filter(image, prompts, raw, reason, trace, str(wanted))
            if known is not None:
                result = _keep_versions(result, reuse.candidate)
        else:
            makers = {name for name, _ in self.stages.prompts} | {self.stages.backend[0]}
            raw = restore_masks(before)
            self._take_over(image, before, makers, ("read", "prompts", "backend"), len(raw), trace)
            result = self._filter(image, before.prompts, raw, before.reason, trace, str(wanted))
            result = _keep_versions(result, before)
        self._refuse_doubts(trace, result)
        artifacts = self._write(image, result, wanted, reuse, trace)
        return replace(
            result,
            artifacts=artifacts,
            notes=_without_empty(trace.notes),
            doubts=tuple(trace.doubts),
            value_range=image.value_range,
        )

    def _take_over(
        self, image: Image, before: ImageResult, makers: set[str], steps: Sequence[str], masks: int, trace: Trace
    ) -> None:
        """Take over the notes of these plugins and the doubts of these steps from a stored result."""
        trace.notes.update({name: dict(notes) for name, notes in before.notes.items() if name in makers})
        for doubt in before.doubts:
            if doubt.stage in steps:
                trace.add_doubt(doubt)
        trace.story(f"{image.ref.key}: {masks} masks taken from the stored result")

    def _refuse_doubts(self, trace: Trace, result: ImageResult) -> None:
        """Fail the image if it has a doubt that `fail_on` names, or is empty where an annotation was left out."""
        for doubt in trace.doubts:
            if result.status == "empty" and doubt.code == "annotation_skipped":
                text = f"nothing was found, but {doubt.message}"
                raise StepError(Failure(doubt.stage, doubt.plugin, PromptError.__name__, text))
            if doubt.code in self.fail_on:
                raise StepError(Failure(doubt.stage, doubt.plugin, DOUBTFUL, f"{doubt.code}: {doubt.message}"))

    def _exist(self, artifacts: Sequence[Artifact]) -> bool:
        """Whether the files exist with the recorded size."""
        assert self.output is not None
        for artifact in artifacts:
            try:
                if (self.output / artifact.path).stat().st_size != artifact.bytes:
                    return False
            except OSError:
                return False
        return True

    def _find_prompts(
        self, image: Image, trace: Trace, ahead: LaneAnswers | None
    ) -> tuple[tuple[Prompt, ...], str | None]:
        """The prompts of the sources, and why there is nothing where there is nothing."""
        found = find_prompts(self.stages, image, trace, ahead)
        if found is None:
            names = ", ".join(name for name, _ in self.stages.prompts)
            message = (
                f"no prompt source has a prompt for this image (queried: {names});"
                ' give it a prompt, or "prompts": [] if it contains no objects'
            )
            raise StepError(Failure("prompts", "", "NoPrompts", message))
        return self._fit(image, found, trace), None if found else "no prompts: nothing to segment"

    def _fit(self, image: Image, prompts: Sequence[Prompt], trace: Trace) -> tuple[Prompt, ...]:
        fitted = trace.step("prompts", "", partial(fit_prompts, *self.stages.backend, prompts, image.size))
        side = input_side(self.stages.backend[1])
        for doubt in check_prompts(prompts, fitted, image.size, self.conflict_iou, side):
            trace.add_doubt(doubt)
        return fitted

    def _compute(self, image: Image, prompts: Sequence[Prompt], trace: Trace) -> tuple[Mask, ...]:
        name, backend = self.stages.backend
        masks = trace.step("backend", name, partial(compute_masks, backend.masks, image, prompts), image.sha256)
        trace.story(f"{image.ref.key}: {len(masks)} masks by {name} in {trace.seconds['backend']:.1f} s")
        return masks

    def _filter(
        self,
        image: Image,
        prompts: tuple[Prompt, ...],
        raw: tuple[Mask, ...],
        reason: str | None,
        trace: Trace,
        fingerprint: str,
    ) -> ImageResult:
        """The result after the filters, without files."""
        masks = apply_filters(self.stages.filters, self.stages.backend[0], image, raw, trace)
        if masks:
            kept = sum(mask.kept for mask in masks)
            trace.story(f"{image.ref.key}: {kept} of {len(masks)} masks kept")
        changed = {mask.index for mask in masks if mask.changed_by}
        return ImageResult.done_or_empty(
            image.ref.key,
            image.size,
            image.sha256,
            prompts,
            masks,
            raw=[mask for mask in raw if mask.index in changed],
            reason=reason,
            provenance=self._provenance(fingerprint),
            notes=_without_empty(trace.notes),
            doubts=trace.doubts,
        )

    def _write(
        self, image: Image, result: ImageResult, wanted: Fingerprint, reuse: Reuse, trace: Trace
    ) -> tuple[Artifact, ...]:
        """Run the writers whose files are not up to date; returns the files of all."""
        assert self.output is not None
        artifacts: list[Artifact] = []
        for (name, writer), fingerprint in zip(self.stages.writers, wanted.writers, strict=True):
            if reuse.before is not None and fingerprint in reuse.writers:
                old = [artifact for artifact in reuse.before.artifacts if artifact.path.startswith(f"{name}/")]
                if self._exist(old):
                    artifacts += old
                    if name in reuse.before.notes:  # what it noted about these files still holds
                        trace.notes[name] = dict(reuse.before.notes[name])
                    continue
            write = partial(call_for_list, Artifact, writer.write, image, result, self.output / name)
            made = trace.step("writers", name, write, image.sha256)
            artifacts += [replace(artifact, path=f"{name}/{artifact.path}") for artifact in made]
            if made:
                trace.story(f"{image.ref.key}: {name} wrote {len(made)} file{'s' if len(made) > 1 else ''}")
        return tuple(artifacts)

    def _source_models(self) -> dict[str, str]:
        named = zip(self.stages.prompts, self.models.sources, strict=False)
        return {name: model for (name, _), model in named if model}

    def _provenance(self, fingerprint: str) -> dict[str, Any]:
        return {
            "fingerprint": fingerprint,
            "backend": self.stages.backend[0],
            "model": self.models.backend,
            **({"source_models": sources} if (sources := self._source_models()) else {}),
            "maskmill": __version__,
            "versions": self._versions,
            **({"images": images} if (images := self.conversion.to_json()) else {}),
        }


def _without_empty(notes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: dict(values) for name, values in notes.items() if values}


def _keep_versions(result: ImageResult, before: ImageResult | None) -> ImageResult:
    """The result with the versions of the packages that made its masks, if a stored result knows them."""
    if before is None or "versions" not in before.provenance:
        return result
    return replace(result, provenance={**result.provenance, "versions": before.provenance["versions"]})
