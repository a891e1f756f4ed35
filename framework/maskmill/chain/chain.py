"""One image through the opened plugins of a pipeline: read, prompts, backend, filters, writers.

A chain lives in one worker and works on one image at a time. Whatever a plugin raises becomes a
`Failure` of that image, except for what `Chain.process` documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from ..corrections import Correction
from ..decoding.bit_depth import DEFAULT, Conversion
from ..decoding.decoder import MAX_PIXELS
from ..errors import ImageReadError, MaskmillError, PluginError, Problem, StopRun
from ..failures import REJECTED
from ..images import Image, ImageRef
from ..inputs import to_image
from ..output.environment import read_versions
from ..output.store import StoredResult, have_files, load_result
from ..plugins.messages import LaneAnswers, ModelIds
from ..plugins.optional import has_entries, make_entry
from ..plugins.packages import explain_import
from ..plugins.roles import Stages
from ..plugins.stage import Stage, working_in
from ..plugins.threads import set_waiting
from ..prompts import Prompt
from ..results import Doubt, ImageResult
from ..version import __version__
from .check_prompts import CONFLICT_IOU
from .fingerprint import Fingerprint, Reuse, plan_reuse
from .image_steps import ImageSteps
from .plugin_call import StepError, Trace, describe_failure
from .update_image import ImageUpdate, refuse_doubts

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
        keep: of so many images, the last ones that `run` or `embed` had, the embedding is kept.
        in_lane: whether the prompt lane queries the sources that it can; they are opened here only if it did not.
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
        keep: int = 0,
        in_lane: bool = False,
    ) -> None:
        self.stages = stages
        self.output = output
        self.max_pixels = max_pixels
        self.models = models
        self.fail_on = frozenset(fail_on)
        self.conversion = conversion
        self.conflict_iou = conflict_iou
        self._opened: list[Stage] = []
        self._in_lane = in_lane
        self._embeddings: LRUCache[tuple[object, ...], Any] | None = LRUCache(keep) if keep else None
        self._versions = read_versions()

    def open(self, models: bool = True) -> None:
        """Open every stage that is not open yet.

        Args:
            models: also the prompt sources and the backend, which an image with stored masks does not need.

        Raises:
            PluginError: one of them fails to open; names it and the cause.
        """
        set_waiting()
        done = [*self._opened, *self._list_unused()]
        for role, name, stage in self.stages.all():
            if (not models and role in ("prompt source", "backend")) or any(stage is other for other in done):
                continue
            try:
                with working_in(self.output):
                    stage.open()
            except (MaskmillError, MemoryError) as error:
                raise PluginError(f"the {role} {name!r} cannot be opened: {error or 'out of memory'}") from error
            except (Exception, SystemExit) as error:
                text = f"the {role} {name!r} cannot be opened: {type(error).__name__}: {error}"
                hint = explain_import(error) if isinstance(error, ImportError) else ""
                raise PluginError(Problem(text, hint=hint)) from error
            self._opened.append(stage)

    def _list_unused(self) -> list[Stage]:
        """The sources that are never queried, or not here."""
        reachable = self.stages.list_reachable()
        unused = [source for _, source in self.stages.prompts[len(reachable) :]]
        return [*unused, *(reachable[index][1] for index in self.stages.list_ahead() if self._in_lane)]

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
        if self._embeddings is not None:
            self._embeddings.clear()
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
        careful: bool = False,
        correction: Correction | None = None,
    ) -> tuple[ImageResult, bool]:
        """Bring one image's result and files up to date, reusing what of the stored result still holds.

        Args:
            ref: where the image is.
            wanted: what the result has to be made with.
            trace: receives seconds, notes and lines.
            ahead: what the prompt lane found for it.
            afresh: make everything again, whatever of the stored result still holds.
            careful: store what is there before each writer, because an earlier try took its process down; a
                writer that did so is called after the others.
            correction: what a person decided about the image; sources, backend and filters have no say then.

        Returns:
            The result, and whether anything had to be done.

        Raises:
            StopRun: no image can succeed now: a plugin raised it, or the disk is full or read-only.
            OSError: the result or its files cannot be written.
        """
        assert self.output is not None, "a chain that processes has an output folder"
        trace = trace or Trace()
        trace.first = "segment"
        stored = StoredResult(self.output, ref.key)
        image: Image | None = None
        try:
            before = None if afresh else stored.result
            reuse, image = trace.step("read", "", partial(self._read, ref, before, wanted, correction))
            trace.first = reuse.first
            if image is None:
                return self._keep(reuse, trace), False
            self._prepare(image, trace, ahead, not (reuse.masks or correction))
            steps = ImageSteps(self.stages, image, trace, self.conflict_iou, correction)
            provenance = self._provenance(str(wanted))
            update = ImageUpdate(steps, self.output, stored, reuse, wanted, provenance, self.fail_on, careful)
            result = update.run(ahead)
            return self._store(stored, result, trace), True
        except StepError as error:
            failure = error.failure
        except (StopRun, OSError):
            raise
        except Exception as error:  # a result that cannot be stored, such as invalid surrogates in a label
            failure = describe_failure("worker", "", error)
        size, sha256 = (image.size, image.sha256) if image else (None, "")
        provenance, notes = self._provenance(str(wanted)), trace.stored_notes()
        result = ImageResult.failed(ref.key, failure, size, sha256, provenance, notes, trace.doubts)
        return self._store(stored, result, trace), True

    def _prepare(self, image: Image, trace: Trace, ahead: LaneAnswers | None, needs_models: bool) -> None:
        """Open the models if they are needed, and log and doubt what is known of an image that was read."""
        if needs_models:
            if ahead is None or not (ahead.answers or ahead.failure):
                self._in_lane = False  # the masks were still good when the lane looked at the image
            self.open()  # the file may have changed since `needs_models` looked at it
        if ahead is None or not ahead.answers:  # else the lane has logged it
            trace.story(f"{image.ref.key}: read, {image.width}×{image.height}")
        if trace.first == "nothing":
            trace.first = "writers"  # files of theirs are missing
        if image.value_range is not None and (doubt := image.value_range.doubt):
            trace.add_doubt(Doubt("low_range", doubt, "read"))

    def _keep(self, reuse: Reuse, trace: Trace) -> ImageResult:
        """The stored result, of which everything still holds."""
        assert reuse.before is not None, "only a stored result can need no pixels"
        trace.doubts.extend(reuse.before.doubts)
        refuse_doubts(trace, reuse.before, self.fail_on)
        self._make_entries(reuse.before, trace)
        return reuse.before

    def _store(self, stored: StoredResult, result: ImageResult, trace: Trace) -> ImageResult:
        if (failure := result.failure) is not None:
            what = failure.message if failure.type == REJECTED else f"failed at {failure}"
            trace.story(f"{result.key}: {what}")
        stored.replace(result)
        return result

    def _read(
        self, ref: ImageRef, before: ImageResult | None, wanted: Fingerprint, correction: Correction | None
    ) -> tuple[Reuse, Image | None]:
        """What can be reused, and the image; None if the stored result and its files are up to date."""
        assert self.output is not None
        data = ref.read()
        sha256, images = hashlib.sha256(data).hexdigest(), self.conversion.to_json()
        reuse = plan_reuse(before, sha256, wanted, images, correction) if before else Reuse()
        if reuse.before is not None and reuse.everything and have_files(self.output, reuse.before.artifacts):
            return reuse, None  # not even decoded
        if correction is not None and reuse.before is not None and not reuse.is_of(wanted):
            reuse = Reuse()  # its masks hold, but those that filters dropped must not come back
        return reuse, Image.from_bytes(data, ref, self.max_pixels, self.conversion)

    def run(
        self,
        image: Any,
        prompts: Sequence[Prompt] | None = None,
        trace: Trace | None = None,
        *,
        key: str = "",
        embedding: Any = None,
    ) -> ImageResult:
        """Prompts, masks and filters for one image; nothing is written.

        Args:
            image: in any form that `Predictor.image` takes: a path, a Pillow picture, an array, an `ImageRef`, ...
            prompts: what to segment; None queries the pipeline's own sources.
            trace: receives seconds, notes and lines.
            key: the image's key, by which prompt sources find it; "" takes the name of the file.
            embedding: of `embed`, if the caller keeps it.

        Raises:
            ImageReadError: the image cannot be read, or is something else.
            StepError: a step failed.
            StopRun: no image can succeed now.
        """
        image = to_image(image, self.max_pixels, self.conversion, key)
        steps = ImageSteps(self.stages, image, trace or Trace(), self.conflict_iou)
        found, reason = steps.find_prompts() if prompts is None else (steps.fit(prompts), None)
        if found and embedding is None and self._embeddings is not None:
            embedding = self.embed(image, steps.trace)
        raw = steps.compute(found, embedding) if found else ()
        return steps.filter(found, raw, reason, self._provenance(""))

    def embed(self, image: Image, trace: Trace | None = None) -> Any:
        """The backend's embedding of an image, from the kept ones if possible; None if the backend has none.

        Raises:
            StepError: the backend failed.
        """
        key = (image.pixels_id, image.size)
        if self._embeddings is not None and (known := self._embeddings.get(key)) is not None:
            return known
        name, backend = self.stages.backend
        embedding = (trace or Trace()).step("backend", name, partial(backend.embed, image), image.sha256)
        if self._embeddings is not None and embedding is not None:
            self._embeddings[key] = embedding
        return embedding

    def _source_models(self) -> dict[str, str]:
        named = zip(self.stages.prompts, self.models.sources, strict=False)
        return {name: model for (name, _), model in named if model}

    def _make_entries(self, result: ImageResult, trace: Trace) -> None:
        """Make the entries of a stored result; where that fails, the end of the run tries again and reports it."""
        for name, writer in self.stages.writers:
            if has_entries(writer) and result.status in writer.takes:
                own = Trace(trace.seconds, trace.story)
                with suppress(StepError):
                    make = partial(make_entry, writer, result)
                    trace.entries[name] = own.step("writers", name, make, result.sha256)

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
