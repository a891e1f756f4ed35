"""One image through the opened plugins of a pipeline: read, prompts, backend, filters, writers.

A chain lives in one worker and works on one image at a time. Whatever a plugin raises
becomes a `Failure` of that image; only `StopRun` passes through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..decoding import MAX_PIXELS
from ..errors import ImageError, MaskmillError, PluginError, PromptError, StopRun
from ..images import Image, ImageRef
from ..masks import Mask
from ..output.environment import versions
from ..output.store import load_result, replace_result
from ..plugins.roles import Stages
from ..plugins.stage import Stage, working_in
from ..prompts import Prompt
from ..results import Artifact, Failure, ImageResult
from ..version import __version__
from .apply_filters import filtered, unfiltered
from .ask_sources import LaneAnswers, ask
from .fingerprint import Fingerprint
from .plugin_call import StepError, Trace, failure_of, several


class Chain:
    """The stages of one pipeline, open; a context manager.

    Args:
        stages: the plugins, not yet open.
        output: the output folder, None if nothing is written.
        max_pixels: larger images fail.
        model_id: what computes, recorded with each result.
    """

    def __init__(
        self, stages: Stages, output: Path | None = None, max_pixels: int = MAX_PIXELS, model_id: str = ""
    ) -> None:
        self.stages = stages
        self.output = output
        self.max_pixels = max_pixels
        self.model_id = model_id
        self._opened: list[Stage] = []
        self._versions = versions()

    def open(self) -> None:
        """Open every stage.

        Raises:
            PluginError: one of them fails to open; says which and why.
        """
        for role, name, stage in self.stages.all():
            try:
                with working_in(self.output):
                    stage.open()
            except (MaskmillError, MemoryError) as error:
                raise PluginError(f"the {role} {name!r} cannot be opened: {error or 'out of memory'}") from error
            except (Exception, SystemExit) as error:
                text = f"the {role} {name!r} cannot be opened: {type(error).__name__}: {error}"
                raise PluginError(text) from error
            self._opened.append(stage)

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
        self, ref: ImageRef, wanted: Fingerprint, trace: Trace | None = None, asked: LaneAnswers | None = None
    ) -> tuple[ImageResult, bool]:
        """Bring one image's result and files up to date.

        Stages whose part of the fingerprint is that of the stored result are not run again.

        Args:
            ref: where the image is.
            wanted: what the result has to be made with.
            trace: receives seconds, notes and the story.
            asked: what the prompt lane brought for it.

        Returns:
            The result, and whether anything had to be done.

        Raises:
            StopRun: no image can succeed now.
        """
        assert self.output is not None, "a chain that processes has an output folder"
        trace = trace or Trace()
        before = load_result(self.output, ref.key)
        image: Image | None = None
        try:
            image = trace.step("read", "", lambda: Image.load(ref, self.max_pixels), "")
            if asked is None:  # else the lane said so
                trace.story(f"{ref.key}: read, {image.width}×{image.height}")
            result, changed = self._update(image, wanted, usable(before, image), trace, asked)
            if changed:
                replace_result(self.output, before, result)
            return result, changed
        except StepError as error:
            failure = error.failure
        except (StopRun, OSError):
            raise
        except Exception as error:  # a result that cannot be stored, such as half a character in a label
            failure = failure_of("worker", "", error)
        trace.story(f"{ref.key}: failed at {failure.stage}: {failure.message}")
        result = ImageResult(
            ref.key,
            "failed",
            size=image.size if image else None,
            sha256=image.sha256 if image else "",
            provenance=self._provenance(str(wanted)),
            notes=_plain(trace.notes),
            failure=failure,
        )
        replace_result(self.output, before, result)
        return result, True

    def run(self, image: Image, prompts: Sequence[Prompt] | None = None, trace: Trace | None = None) -> ImageResult:
        """Prompts, masks and filters for an image in memory; nothing is written.

        Args:
            image: the image.
            prompts: what to segment; None asks the pipeline's own sources.
            trace: receives seconds, notes and the story.

        Raises:
            StepError: a step failed.
            StopRun: no image can succeed now.
        """
        trace = trace or Trace()
        if prompts is None:
            prompts, reason = self._prompts(image, trace, None)
        else:
            prompts, reason = self._fitted(image, prompts, trace), None
        raw = self._masks(image, prompts, trace) if prompts else ()
        return self._result(image, prompts, raw, reason, trace, "")

    def _update(
        self, image: Image, wanted: Fingerprint, before: ImageResult | None, trace: Trace, asked: LaneAnswers | None
    ) -> tuple[ImageResult, bool]:
        """The result of the image, from its first stage that changed."""
        have = fingerprint_of(before)
        if before is not None and have is not None and have.same_masks(wanted):
            prompts, raw, reason = before.prompts, unfiltered(before), before.reason
            kept = {name for name, _ in self.stages.prompts} | {self.stages.backend[0]}
            trace.notes.update({name: dict(notes) for name, notes in before.notes.items() if name in kept})
            trace.story(f"{image.ref.key}: {len(raw)} masks taken from the stored result")
        else:
            have = None
            prompts, reason = self._prompts(image, trace, asked)
            raw = self._masks(image, prompts, trace) if prompts else ()
        if before is not None and have == wanted and all(self._exists(artifact) for artifact in before.artifacts):
            return before, False
        result = self._result(image, prompts, raw, reason, trace, str(wanted))
        if have is not None and before is not None and "versions" in before.provenance:  # those that made the masks
            result = replace(result, provenance={**result.provenance, "versions": before.provenance["versions"]})
        untouched = have is not None and have.filters == wanted.filters
        artifacts = self._write(image, result, trace, wanted, have if untouched else None, before)
        return replace(result, artifacts=artifacts, notes=_plain(trace.notes)), True

    def _exists(self, artifact: Artifact) -> bool:
        assert self.output is not None
        try:
            return (self.output / artifact.path).stat().st_size == artifact.bytes
        except OSError:
            return False

    def _prompts(self, image: Image, trace: Trace, asked: LaneAnswers | None) -> tuple[tuple[Prompt, ...], str | None]:
        """What the sources ask for, and why there is nothing where there is nothing."""
        found = ask(self.stages, image, trace, asked)
        if found is None:
            names = ", ".join(name for name, _ in self.stages.prompts)
            message = f"no prompt source knows this image (asked: {names}); give it a prompt, or [] for nothing there"
            raise StepError(Failure("prompts", "", "NoPrompts", message))
        return self._fitted(image, found, trace), None if found else "no prompts: nothing to segment"

    def _fitted(self, image: Image, prompts: Sequence[Prompt], trace: Trace) -> tuple[Prompt, ...]:
        """The prompts as the backend gets them: of kinds it takes, inside the image."""
        name, backend = self.stages.backend

        def fit() -> tuple[Prompt, ...]:
            accepted = backend.accepts()
            for prompt in prompts:
                if unknown := prompt.needs - accepted:
                    raise PromptError(
                        f"the backend {name!r} takes {', '.join(sorted(accepted))}, not {', '.join(sorted(unknown))}"
                    )
            return tuple(prompt.fit(*image.size) for prompt in prompts)

        return trace.step("prompts", "", fit, "")

    def _masks(self, image: Image, prompts: Sequence[Prompt], trace: Trace) -> tuple[Mask, ...]:
        """The backend's masks, numbered, checked against the contract."""
        name, backend = self.stages.backend

        def compute() -> tuple[Mask, ...]:
            masks = several(Mask, backend.masks, image, prompts)
            for mask in masks:
                if mask.size != image.size:
                    raise ImageError(f"a mask of size {mask.size} came back for an image of size {image.size}")
            answered = {mask.prompt for mask in masks}
            for prompt in prompts:
                if prompt.needs <= {"points", "box"} and prompt not in answered:
                    raise ImageError(f"no mask came back for the prompt {prompt.to_json()}")
            return tuple(replace(mask, index=index) for index, mask in enumerate(masks))

        masks = trace.step("backend", name, compute, image.sha256)
        trace.story(f"{image.ref.key}: {len(masks)} masks by {name} in {trace.seconds['backend']:.1f} s")
        return masks

    def _result(
        self,
        image: Image,
        prompts: tuple[Prompt, ...],
        raw: tuple[Mask, ...],
        reason: str | None,
        trace: Trace,
        fingerprint: str,
    ) -> ImageResult:
        """Filter the masks and say how it went."""
        masks = filtered(self.stages.filters, self.stages.backend[0], image, raw, trace)
        kept = sum(mask.kept for mask in masks)
        if not kept and masks:
            by = Counter(mask.dropped_by for mask in masks)
            reason = "all masks dropped: " + ", ".join(f"{name} {count}" for name, count in sorted(by.items(), key=str))
        elif not kept and reason is None:
            reason = "the backend found nothing"
        if masks:
            trace.story(f"{image.ref.key}: {kept} of {len(masks)} masks kept")
        changed = {mask.index for mask in masks if mask.changed_by}
        return ImageResult(
            key=image.ref.key,
            status="done" if kept else "empty",
            size=image.size,
            sha256=image.sha256,
            prompts=prompts,
            masks=masks,
            raw=tuple(mask for mask in raw if mask.index in changed),
            provenance=self._provenance(fingerprint),
            notes=_plain(trace.notes),
            reason=None if kept else reason,
        )

    def _write(
        self,
        image: Image,
        result: ImageResult,
        trace: Trace,
        wanted: Fingerprint,
        have: Fingerprint | None,
        before: ImageResult | None,
    ) -> tuple[Artifact, ...]:
        """Run the writers whose files are not there yet; returns the files of all."""
        assert self.output is not None
        artifacts: list[Artifact] = []
        for (name, writer), print_ in zip(self.stages.writers, wanted.writers, strict=True):
            if have is not None and before is not None and print_ in have.writers:
                old = [artifact for artifact in before.artifacts if artifact.path.startswith(f"{name}/")]
                if all(self._exists(artifact) for artifact in old):
                    artifacts += old
                    if name in before.notes:  # what it said of these files still holds
                        trace.notes[name] = dict(before.notes[name])
                    continue
            folder = self.output / name
            made = trace.step(
                "writers", name, partial(several, Artifact, writer.write, image, result, folder), image.sha256
            )
            artifacts += [replace(artifact, path=f"{name}/{artifact.path}") for artifact in made]
            if made:
                trace.story(f"{image.ref.key}: {name} wrote {len(made)} file{'s' if len(made) > 1 else ''}")
        return tuple(artifacts)

    def _provenance(self, fingerprint: str) -> dict[str, Any]:
        return {
            "fingerprint": fingerprint,
            "backend": self.stages.backend[0],
            "model": self.model_id,
            "maskmill": __version__,
            "versions": self._versions,
        }


def usable(before: ImageResult | None, image: Image) -> ImageResult | None:
    """The stored result, if parts of it can serve for this image: it ran well, on the same bytes."""
    if before is not None and before.status in ("done", "empty") and before.sha256 == image.sha256:
        return before
    return None


def fingerprint_of(result: ImageResult | None) -> Fingerprint | None:
    """What a stored result was made with, None if it does not say."""
    try:
        return None if result is None else Fingerprint.parse(result.provenance["fingerprint"])
    except (KeyError, ValueError):
        return None


def _plain(notes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: dict(values) for name, values in notes.items() if values}
